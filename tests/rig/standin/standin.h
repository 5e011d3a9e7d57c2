/*
 * What the stand-in vendor libraries have in common: whether there is a kernel module of their
 * version, which GPUs exist and what they are called, and which fault a test has asked for.
 *
 * What distinguishes the GPUs, all variables of the environment:
 *   STANDIN_GPUS      how many there are; 1 when unset
 *   STANDIN_ORDER     "reverse": EGL lists them from the last to the first
 *   STANDIN_NAMES     names for them in turn, separated by commas
 *   STANDIN_FASTEST   CUDA's order where CUDA_DEVICE_ORDER is not PCI_BUS_ID, as "2,0,1,3"
 *   STANDIN_DRM       nvidia-drm is loaded: EGL names device files, and a machine has their sysfs
 *   STANDIN_MIG       they are in MIG mode; EGL and GLX have nothing then
 *   STANDIN_PIDS      whom NVML lists: "hidden" another process for the caller, as from within a
 *                     PID namespace; "none" nobody; "both" the caller as computing, too
 *   STANDIN_MEMORY    "process": NVML adds what the calling process has in memory to what is used
 * Words of STANDIN_FAULT that concern what EGL says of a GPU:
 *   no-uuid               no EGL_EXT_device_persistent_id, and no UUID
 *   no-query-name         no EGL_EXT_device_query_name, and no vendor or renderer; before 470
 *   no-render-node        no EGL_EXT_device_drm_render_node; the device file is still there
 *   no-cuda-attrib        EGL_CUDA_DEVICE_NV fails for every GPU
 *   ignores-visible       EGL_CUDA_DEVICE_NV gives CUDA's number before CUDA_VISIBLE_DEVICES
 *   hidden-attrib-crash   a GPU hidden by CUDA_VISIBLE_DEVICES does not list EGL_NV_device_cuda
 *                         and crashes when it is asked for an attribute
 *   nonsense              answers that mean nothing
 *
 * Everything is read from the environment or from /proc at every call, never cached: a test may
 * change its mind within one process, and the real driver asks the kernel each time as well.
 */
#ifndef STANDIN_H
#define STANDIN_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef STANDIN_VERSION
#error "compile with -DSTANDIN_VERSION=\"550.54.15\" or the like"
#endif

#define STANDIN_EXPORT __attribute__((visibility("default")))
#define STANDIN_MAX_GPUS 16

enum standin_state {
    STANDIN_READY,
    STANDIN_NO_DRIVER,    /* no kernel module, or its device nodes are not here */
    STANDIN_MISMATCH,     /* the kernel module has another version than this library */
    STANDIN_NO_PERMISSION /* /dev/nvidiactl exists and may not be opened */
};

/* Is WORD one of the comma-separated words of the environment variable NAME? */
static inline int standin_lists(const char *name, const char *word) {
    const char *list = getenv(name);
    size_t length = strlen(word);
    while (list && *list) {
        size_t span = strcspn(list, ",");
        if (span == length && memcmp(list, word, length) == 0)
            return 1;
        list += span;
        list += *list == ',';
    }
    return 0;
}

static inline int standin_fault(const char *word) {
    return standin_lists("STANDIN_FAULT", word);
}

static inline int standin_flag(const char *name) {
    const char *value = getenv(name);
    return value && *value && strcmp(value, "0") != 0;
}

/*
 * The kernel module's version, empty when it is not loaded. Both wordings of the first line put
 * it after "Kernel Module"; the open module has " for x86_64" in between.
 */
static inline void standin_kernel(char *version, size_t size) {
    char text[512] = "";
    const char *given = getenv("STANDIN_KERNEL");
    version[0] = '\0';
    if (given) {
        snprintf(version, size, "%s", given);
        return;
    }
    int fd = open("/proc/driver/nvidia/version", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    text[got > 0 ? got : 0] = '\0';
    const char *at = strstr(text, "Kernel Module");
    if (!at)
        return;
    at += strlen("Kernel Module");
    while (*at && *at != '\n') {
        at += strspn(at, " ");
        size_t span = strcspn(at, " \n");
        if (span && at[0] >= '0' && at[0] <= '9') {
            snprintf(version, size, "%.*s", (int)span, at);
            return;
        }
        at += span;
    }
}

static inline enum standin_state standin_state(void) {
    char kernel[64];
    standin_kernel(kernel, sizeof kernel);
    if (!kernel[0])
        return STANDIN_NO_DRIVER;
    /* STANDIN_KERNEL is for processes outside a simulated machine, which has no nodes. */
    if (!getenv("STANDIN_KERNEL")) {
        int fd = open("/dev/nvidiactl", O_RDWR | O_CLOEXEC);
        if (fd < 0)
            return errno == EACCES || errno == EPERM ? STANDIN_NO_PERMISSION : STANDIN_NO_DRIVER;
        close(fd);
    }
    return strcmp(kernel, STANDIN_VERSION) == 0 ? STANDIN_READY : STANDIN_MISMATCH;
}

static inline int standin_gpus(void) {
    const char *count = getenv("STANDIN_GPUS");
    int gpus = count && *count ? atoi(count) : 1;
    return gpus < 0 ? 0 : gpus > STANDIN_MAX_GPUS ? STANDIN_MAX_GPUS : gpus;
}

/*
 * GPU numbers are NVML's (PCI order) throughout; EGL, GL and NVML must agree about name and UUID.
 * STANDIN_NAMES gives the GPUs its names in turn, from its beginning again when it is too short.
 */
static inline void standin_name(int gpu, char *name, size_t size) {
    const char *names = getenv("STANDIN_NAMES"), *at = names;
    if (!names || !*names) {
        snprintf(name, size, "NVIDIA Stand-in GPU %d", gpu);
        return;
    }
    for (int i = 0; i < gpu; i++) {
        at += strcspn(at, ",");
        at = *at ? at + 1 : names;
    }
    snprintf(name, size, "%.*s", (int)strcspn(at, ","), at);
}

static inline void standin_uuid(int gpu, unsigned char uuid[16]) {
    static const unsigned char base[16] = {0x57, 0xa2, 0xd1, 0x00, 0x0c, 0x01, 0x4a, 0xb0,
                                           0x9e, 0x11, 0x00, 0x00, 0x5e, 0xed, 0x00, 0x00};
    memcpy(uuid, base, 16);
    uuid[3] = (unsigned char)gpu; /* early, so that a short GPU- prefix tells them apart */
    uuid[15] = (unsigned char)gpu;
}

static inline void standin_uuid_text(int gpu, char *text, size_t size) {
    unsigned char u[16];
    standin_uuid(gpu, u);
    snprintf(text, size,
             "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0],
             u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13],
             u[14], u[15]);
}

/*
 * CUDA's own numbers, before CUDA_VISIBLE_DEVICES: ORDER[number] is the GPU. Fastest first, which
 * is what STANDIN_FASTEST lists ("2,0,1,3"), those it leaves out in NVML's order after them.
 */
static inline int standin_cuda_order(int order[STANDIN_MAX_GPUS]) {
    const char *wanted = getenv("CUDA_DEVICE_ORDER"), *list = getenv("STANDIN_FASTEST");
    int gpus = standin_gpus(), known = 0, listed[STANDIN_MAX_GPUS] = {0};
    if (wanted && strcmp(wanted, "PCI_BUS_ID") == 0)
        list = NULL;
    while (list && *list) {
        int gpu = atoi(list);
        if (gpu >= 0 && gpu < gpus && !listed[gpu]++)
            order[known++] = gpu;
        list += strcspn(list, ",");
        list += *list == ',';
    }
    for (int gpu = 0; gpu < gpus; gpu++)
        if (!listed[gpu])
            order[known++] = gpu;
    return gpus;
}

/* The GPU whose UUID begins with TEXT, -1 where none or more than one has. */
static inline int standin_by_uuid(const char *text, size_t length) {
    int named = -1;
    for (int gpu = 0; gpu < standin_gpus(); gpu++) {
        char uuid[64];
        standin_uuid_text(gpu, uuid, sizeof uuid);
        if (length > strlen(uuid) || memcmp(text, uuid, length) != 0)
            continue;
        if (named >= 0)
            return -1;
        named = gpu;
    }
    return named;
}

/*
 * The ordinal CUDA gives GPU in a process whose CUDA_VISIBLE_DEVICES is LIST, NULL where it is
 * not set; -1 when the list hides the GPU. As CUDA reads it: the first entry decides between
 * UUIDs, which may be cut short, and numbers, of which only sign and leading digits count; the
 * first invalid entry ends the list; one that names a GPU again empties it. A MIG slice is an
 * invalid entry: EGL has no device for one.
 */
static inline int standin_cuda_ordinal(int gpu, const char *list) {
    int order[STANDIN_MAX_GPUS], visible[STANDIN_MAX_GPUS];
    int gpus = standin_cuda_order(order), count = 0, ordinal = -1;
    int uuids = list && strncmp(list, "GPU-", 4) == 0;
    for (; !list && count < gpus; count++)
        visible[count] = order[count];
    while (list) {
        size_t span = strcspn(list, ",");
        int named = -1;
        if (uuids) {
            named = standin_by_uuid(list, span);
        } else {
            char *end;
            long number = strtol(list, &end, 10);
            if (end != list && number >= 0 && number < gpus)
                named = order[number];
        }
        if (named < 0)
            break;
        for (int i = 0; i < count; i++)
            if (visible[i] == named)
                return -1;
        visible[count++] = named;
        list = list[span] ? list + span + 1 : NULL;
    }
    for (int i = 0; i < count; i++)
        if (visible[i] == gpu)
            ordinal = i;
    return ordinal;
}

#endif
