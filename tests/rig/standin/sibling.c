/*
 * One of NVIDIA's internal libraries (libnvidia-tls, -glsi, -gpucomp, -eglcore, -glcore). Only
 * its SONAME and its DT_NEEDED entries matter, and the build gives it those; the one symbol lets
 * a test see which version was mapped.
 */
#include "standin.h"

STANDIN_EXPORT const char standin_sibling_version[] = STANDIN_VERSION;
