/*
 * A library that lies: libEGL and NVML in one, which answer with whatever bytes they are given.
 *
 * Each answer takes the next bytes of the case; when there are none left, it takes zeros. What the
 * caller must be able to rely on is kept: no more than its buffer's size is written, and a string
 * that is returned has an end.
 */
#include <stddef.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

static const unsigned char *bytes;
static size_t left;

EXPORT void hostile(const unsigned char *data, size_t size) {
    bytes = data;
    left = size;
}

static unsigned next(void) {
    if (!left)
        return 0;
    left--;
    return *bytes++;
}

static unsigned number(void) {
    switch (next() % 8) {
    case 0: return 0;
    case 1: return 1;
    case 2: return next();
    case 3: return 0xffffffffu;
    case 4: return 0x7fffffffu;
    case 5: return 0x80000000u;
    case 6: return 1u << (next() % 32);
    default: return next() | next() << 8 | next() << 16 | next() << 24;
    }
}

static unsigned long long large(void) { return (unsigned long long)number() << 32 | number(); }

/* Success more often than not, every known error, and codes that nobody knows. */
static int code(void) {
    unsigned b = next();
    return b < 160 ? 0 : b == 255 ? (int)number() : (int)b - 160;
}

static void fill(void *buffer, size_t size) {
    unsigned char *out = buffer, byte;
    size_t i;
    switch (next() % 4) {
    case 0: /* some bytes and an end */
        for (i = 0; i + 1 < size && (byte = (unsigned char)next()) != 0; i++)
            out[i] = byte;
        if (size)
            out[i] = 0;
        break;
    case 1: /* no UTF-8, and no end */
        memset(out, 0xff, size);
        break;
    case 2: /* anything, and no end */
        for (i = 0; i < size; i++)
            out[i] = (unsigned char)next();
        break;
    default: /* untouched */
        break;
    }
}

static const char *string(void) {
    static char text[4096];
    size_t size = next() % 8 == 7 ? sizeof text : next();
    switch (next() % 8) {
    case 0: return NULL;
    case 1: return "EGL_NV_device_cuda EGL_EXT_device_persistent_id EGL_EXT_device_query_name "
                   "EGL_EXT_device_drm EGL_EXT_device_drm_render_node";
    case 2: return "NVIDIA";
    case 3: return "/dev/dri/renderD128";
    default: break;
    }
    fill(text, size);
    text[sizeof text - 1] = 0;
    text[size < sizeof text ? size : sizeof text - 1] = 0;
    return text;
}

/* ---- EGL ---------------------------------------------------------------------------------- */

typedef void *(*function)(void);

EXPORT int eglGetError(void) { return (int)number(); }
EXPORT unsigned eglInitialize(void *d, int *major, int *minor) { return (void)d, (void)major, (void)minor, next() & 1; }
EXPORT unsigned eglChooseConfig(void *d, const int *a, void **configs, int size, int *count) {
    (void)d, (void)a, (void)size;
    *configs = (void *)(size_t)number();
    *count = (int)number();
    return next() & 1;
}
EXPORT void *eglGetCurrentContext(void) { return (void *)(size_t)number(); }
EXPORT void *eglGetCurrentDisplay(void) { return (void *)(size_t)number(); }
EXPORT void *eglGetCurrentSurface(int which) { return (void)which, (void *)(size_t)number(); }
EXPORT unsigned eglMakeCurrent(void *d, void *a, void *b, void *c) { return (void)d, (void)a, (void)b, (void)c, next() & 1; }

static unsigned query_devices(int max, void **devices, int *count) {
    int given = (int)next();
    for (int i = 0; i < given && i < max; i++)
        devices[i] = (void *)(size_t)number();
    *count = next() & 1 ? given : (int)number();
    return (next() & 7) != 7;
}
static const char *device_string(void *device, int name) { return (void)device, (void)name, string(); }
static unsigned device_attribute(void *device, int name, long long *value) {
    (void)device, (void)name;
    *value = (long long)large();
    return next() & 1;
}
static unsigned device_binary(void *device, int name, int max, void *value, int *size) {
    (void)device, (void)name;
    fill(value, (size_t)max);
    *size = next() & 1 ? max : (int)number();
    return (next() & 7) != 7;
}
static void *platform_display(unsigned platform, void *native, const int *attributes) {
    return (void)platform, (void)native, (void)attributes, (void *)(size_t)number();
}

EXPORT function eglGetProcAddress(const char *name) {
    static const struct { const char *name; void *address; } known[] = {
        {"eglQueryDevicesEXT", query_devices},
        {"eglQueryDeviceStringEXT", device_string},
        {"eglQueryDeviceAttribEXT", device_attribute},
        {"eglQueryDeviceBinaryEXT", device_binary},
        {"eglGetPlatformDisplayEXT", platform_display},
    };
    if ((next() & 15) == 15)
        return NULL;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i].name) == 0)
            return (function)known[i].address;
    return NULL;
}

/* ---- NVML --------------------------------------------------------------------------------- */

static int integer(unsigned *value) {
    *value = number();
    return code();
}

static int handle(void **value) {
    *value = (void *)(size_t)number();
    return code();
}

static int text(char *buffer, unsigned size) {
    fill(buffer, size);
    return code();
}

/* As many as there is room for, and any number said. */
static int processes(unsigned *count, void *list) {
    unsigned room = *count;
    *count = number();
    if (list)
        fill(list, room < 64 ? room * 24 : 64 * 24);
    return list ? code() : next() & 1 ? 7 : code();
}

EXPORT int nvmlInitWithFlags(unsigned flags) { return (void)flags, code(); }
EXPORT int nvmlInit_v2(void) { return code(); }
EXPORT int nvmlShutdown(void) { return code(); }
EXPORT const char *nvmlErrorString(int error) { return (void)error, string(); }
EXPORT int nvmlSystemGetDriverVersion(char *buffer, unsigned size) { return text(buffer, size); }
EXPORT int nvmlDeviceGetCount_v2(unsigned *count) { return integer(count); }
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { return (void)index, handle(device); }
EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) { return (void)uuid, handle(device); }
EXPORT int nvmlDeviceGetName(void *device, char *buffer, unsigned size) { return (void)device, text(buffer, size); }
EXPORT int nvmlDeviceGetUUID(void *device, char *buffer, unsigned size) { return (void)device, text(buffer, size); }
EXPORT int nvmlDeviceGetPciInfo_v3(void *device, void *info) { return (void)device, text(info, 68); }
EXPORT int nvmlDeviceGetMemoryInfo(void *device, void *info) { return (void)device, text(info, 24); }
EXPORT int nvmlDeviceGetMemoryInfo_v2(void *device, void *info) { return (void)device, text(info, 40); }
EXPORT int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
    (void)device;
    *pending = number();
    return integer(current);
}
EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, void *list) {
    return (void)device, processes(count, list);
}
EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count, void *list) {
    return (void)device, processes(count, list);
}
