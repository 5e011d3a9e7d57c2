/*
 * What the stand-in vendor libraries have in common: whether there is a kernel module of their
 * version, which GPUs exist and what they are called, and which fault a test has asked for.
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

/* GPU numbers are NVML's (PCI order) throughout; EGL and NVML must agree about name and UUID. */
static inline void standin_name(int gpu, char *name, size_t size) {
    snprintf(name, size, "NVIDIA Stand-in GPU %d", gpu);
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
 * The ordinal CUDA gives GPU in this process, or -1 when CUDA_VISIBLE_DEVICES hides it. As CUDA
 * does: positions in the list count, a UUID may be cut short, the first invalid entry ends it.
 */
static inline int standin_cuda_ordinal(int gpu) {
    const char *list = getenv("CUDA_VISIBLE_DEVICES");
    int gpus = standin_gpus();
    if (!list)
        return gpu;
    for (int ordinal = 0; *list; ordinal++) {
        size_t span = strcspn(list, ",");
        int named = -1;
        if (span > 4 && memcmp(list, "GPU-", 4) == 0) {
            for (int i = 0; i < gpus && named < 0; i++) {
                char text[64];
                standin_uuid_text(i, text, sizeof text);
                if (span <= strlen(text) && memcmp(list, text, span) == 0)
                    named = i;
            }
        } else {
            char *end;
            long value = strtol(list, &end, 10);
            if (end != list && (*end == ',' || *end == '\0') && value >= 0 && value < gpus)
                named = (int)value;
        }
        if (named < 0)
            return -1;
        if (named == gpu)
            return ordinal;
        list += span;
        list += *list == ',';
    }
    return -1;
}

#endif
