/*
 * Stand-in for libnvidia-ml.so.1: the calls that describe a machine's GPUs. Structures are laid
 * out as in NVIDIA's nvml.h; error codes are its nvmlReturn_t.
 */
#include <stdatomic.h>

#include "standin.h"

#define NVML_SUCCESS 0
#define NVML_UNINITIALIZED 1
#define NVML_INVALID_ARGUMENT 2
#define NVML_NO_PERMISSION 4
#define NVML_NOT_FOUND 6
#define NVML_INSUFFICIENT_SIZE 7
#define NVML_DRIVER_NOT_LOADED 9
#define NVML_LIB_RM_VERSION_MISMATCH 18
#define NVML_UNKNOWN 999

#define MEGABYTE (1024ull * 1024)
#define GIGABYTE (1024 * MEGABYTE)
#define MEMORY_TOTAL(gpu) (15 * GIGABYTE + (unsigned)(gpu) * MEGABYTE) /* tells them apart */
#define MEMORY_RESERVED (GIGABYTE / 4)
#define MEMORY_USED (GIGABYTE / 2)
#define MEMORY_OF_CALLER (MEMORY_USED / 4)

/* GPU number N is at 0000:0N:04.0. */
#define PCI_DEVICE 4

typedef struct {
    char bus_id_legacy[16];
    unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
} pci_info;

typedef struct {
    unsigned long long total, free, used;
} memory_info;

typedef struct {
    unsigned version;
    unsigned long long total, reserved, free, used;
} memory_info_v2;

typedef struct {
    unsigned pid;
    unsigned long long used;
    unsigned gpu_instance, compute_instance;
} process_info;

/* One above the highest that Linux gives on 64-bit machines (PID_MAX_LIMIT), so nobody's here. */
#define FOREIGN_PID (4u * 1024 * 1024)

/* A handle is the address of its element, so that a wild pointer is noticed. */
static char handles[STANDIN_MAX_GPUS];
static atomic_int references; /* threads may come and go at once */

static int gpu_of(const void *handle) {
    int gpus = references > 0 ? standin_gpus() : 0;
    for (int i = 0; i < gpus; i++)
        if (handle == &handles[i])
            return i;
    return -1;
}

static int copy_text(const char *text, char *buffer, unsigned size) {
    if (!buffer)
        return NVML_INVALID_ARGUMENT;
    if (standin_fault("nvml-nonsense")) { /* no UTF-8, and no end */
        memset(buffer, 0xff, size);
        return NVML_SUCCESS;
    }
    if (standin_fault("nvml-refuses"))
        return NVML_UNKNOWN;
    if (strlen(text) + 1 > size)
        return NVML_INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return NVML_SUCCESS;
}

/* ---- the library -------------------------------------------------------------------------- */

STANDIN_EXPORT int nvmlInitWithFlags(unsigned flags) {
    const char *forced = getenv("STANDIN_NVML");
    (void)flags;
    if (standin_fault("nvml-crash"))
        abort();
    while (standin_fault("nvml-hang"))
        pause();
    if (forced && *forced && atoi(forced) != NVML_SUCCESS)
        return atoi(forced);
    switch (standin_state()) {
    case STANDIN_NO_DRIVER:
        return NVML_DRIVER_NOT_LOADED;
    case STANDIN_MISMATCH:
        return NVML_LIB_RM_VERSION_MISMATCH;
    case STANDIN_NO_PERMISSION:
        return NVML_NO_PERMISSION;
    case STANDIN_READY:
        break;
    }
    references++;
    return NVML_SUCCESS;
}

STANDIN_EXPORT int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

STANDIN_EXPORT int nvmlInit(void) { return nvmlInitWithFlags(0); }

STANDIN_EXPORT int nvmlShutdown(void) {
    if (references == 0)
        return NVML_UNINITIALIZED;
    references--;
    return NVML_SUCCESS;
}

STANDIN_EXPORT const char *nvmlErrorString(int code) {
    switch (code) {
    case 0: return "Success";
    case 1: return "Uninitialized";
    case 2: return "Invalid Argument";
    case 3: return "Not Supported";
    case 4: return "Insufficient Permissions";
    case 6: return "Not Found";
    case 7: return "Insufficient Size";
    case 9: return "Driver Not Loaded";
    case 10: return "Timeout";
    case 12: return "NVML Shared Library Not Found";
    case 13: return "Function Not Found";
    case 15: return "GPU is lost";
    case 17: return "The operating system has blocked the request.";
    case 18: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}

STANDIN_EXPORT int nvmlSystemGetDriverVersion(char *version, unsigned size) {
    return references ? copy_text(STANDIN_VERSION, version, size) : NVML_UNINITIALIZED;
}

STANDIN_EXPORT int nvmlSystemGetNVMLVersion(char *version, unsigned size) {
    return references ? copy_text("12." STANDIN_VERSION, version, size) : NVML_UNINITIALIZED;
}

STANDIN_EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    *version = 12040;
    return NVML_SUCCESS;
}

STANDIN_EXPORT int nvmlSystemGetCudaDriverVersion(int *version) {
    return nvmlSystemGetCudaDriverVersion_v2(version);
}

/* ---- finding a GPU ------------------------------------------------------------------------ */

STANDIN_EXPORT int nvmlDeviceGetCount_v2(unsigned *count) {
    if (!references)
        return NVML_UNINITIALIZED;
    *count = (unsigned)standin_gpus();
    return NVML_SUCCESS;
}

STANDIN_EXPORT int nvmlDeviceGetCount(unsigned *count) { return nvmlDeviceGetCount_v2(count); }

STANDIN_EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (!references)
        return NVML_UNINITIALIZED;
    if (index >= (unsigned)standin_gpus())
        return NVML_INVALID_ARGUMENT;
    *handle = &handles[index];
    return NVML_SUCCESS;
}

STANDIN_EXPORT int nvmlDeviceGetHandleByIndex(unsigned index, void **handle) {
    return nvmlDeviceGetHandleByIndex_v2(index, handle);
}

/* By text such as "0000:01:04.0"; the domain may have eight digits, or be left out. */
STANDIN_EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char *text, void **handle) {
    unsigned domain = 0, bus, device, function;
    char more;
    if (!references)
        return NVML_UNINITIALIZED;
    if (!text || !handle)
        return NVML_INVALID_ARGUMENT;
    if (sscanf(text, "%x:%x:%x.%x%c", &domain, &bus, &device, &function, &more) != 4) {
        domain = 0;
        if (sscanf(text, "%x:%x.%x%c", &bus, &device, &function, &more) != 3)
            return NVML_INVALID_ARGUMENT;
    }
    if (domain || bus >= (unsigned)standin_gpus() || device != PCI_DEVICE || function)
        return NVML_NOT_FOUND;
    *handle = &handles[bus];
    return NVML_SUCCESS;
}

STANDIN_EXPORT int nvmlDeviceGetHandleByPciBusId(const char *text, void **handle) {
    return nvmlDeviceGetHandleByPciBusId_v2(text, handle);
}

STANDIN_EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    if (!references)
        return NVML_UNINITIALIZED;
    for (int i = 0; i < standin_gpus(); i++) {
        char text[64];
        standin_uuid_text(i, text, sizeof text);
        if (strcmp(text, uuid) == 0) {
            *handle = &handles[i];
            return NVML_SUCCESS;
        }
    }
    return NVML_NOT_FOUND;
}

/*
 * What the calling process has in memory, where STANDIN_MEMORY says so: the stand-in draws there, so
 * what is drawn into counts as it would on a GPU.
 */
static unsigned long long memory_of_process(void) {
    unsigned long long pages = 0;
    FILE *statm = standin_lists("STANDIN_MEMORY", "process") ? fopen("/proc/self/statm", "r") : NULL;
    if (!statm)
        return 0;
    if (fscanf(statm, "%*u %llu", &pages) != 1)
        pages = 0;
    fclose(statm);
    return pages * (unsigned long long)sysconf(_SC_PAGESIZE);
}

/* ---- describing a GPU --------------------------------------------------------------------- */

STANDIN_EXPORT int nvmlDeviceGetIndex(void *handle, unsigned *index) {
    int gpu = gpu_of(handle);
    if (gpu < 0)
        return NVML_INVALID_ARGUMENT;
    *index = (unsigned)gpu;
    return NVML_SUCCESS;
}

STANDIN_EXPORT int nvmlDeviceGetMinorNumber(void *handle, unsigned *minor) {
    return nvmlDeviceGetIndex(handle, minor);
}

STANDIN_EXPORT int nvmlDeviceGetName(void *handle, char *name, unsigned size) {
    char text[64];
    int gpu = gpu_of(handle);
    if (gpu < 0)
        return NVML_INVALID_ARGUMENT;
    standin_name(gpu, text, sizeof text);
    return copy_text(text, name, size);
}

STANDIN_EXPORT int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned size) {
    char text[64];
    int gpu = gpu_of(handle);
    if (gpu < 0)
        return NVML_INVALID_ARGUMENT;
    standin_uuid_text(gpu, text, sizeof text);
    return copy_text(text, uuid, size);
}

STANDIN_EXPORT int nvmlDeviceGetPciInfo_v3(void *handle, pci_info *info) {
    int gpu = gpu_of(handle);
    if (gpu < 0 || !info)
        return NVML_INVALID_ARGUMENT;
    if (standin_fault("nvml-refuses"))
        return NVML_UNKNOWN;
    memset(info, standin_fault("nvml-nonsense") ? 0xff : 0, sizeof *info);
    if (standin_fault("nvml-nonsense"))
        return NVML_SUCCESS;
    info->device = PCI_DEVICE;
    info->bus = (unsigned)gpu;
    info->pci_device_id = 0x1eb810de; /* Tesla T4, what Colab lends most */
    snprintf(info->bus_id_legacy, sizeof info->bus_id_legacy, "0000:%02X:%02X.0", gpu & 0xff,
             PCI_DEVICE);
    snprintf(info->bus_id, sizeof info->bus_id, "00000000:%02X:%02X.0", gpu & 0xff, PCI_DEVICE);
    return NVML_SUCCESS;
}

STANDIN_EXPORT int nvmlDeviceGetMemoryInfo_v2(void *handle, memory_info_v2 *info) {
    int gpu = gpu_of(handle);
    if (gpu < 0 || !info)
        return NVML_INVALID_ARGUMENT;
    if (standin_fault("nvml-refuses"))
        return NVML_UNKNOWN;
    if (standin_fault("nvml-nonsense")) {
        memset(info, 0xff, sizeof *info);
        return NVML_SUCCESS;
    }
    info->total = MEMORY_TOTAL(gpu);
    info->reserved = MEMORY_RESERVED;
    info->used = MEMORY_USED + memory_of_process();
    info->free = info->total - info->reserved - info->used;
    return NVML_SUCCESS;
}

STANDIN_EXPORT int nvmlDeviceGetMemoryInfo(void *handle, memory_info *info) {
    memory_info_v2 newer;
    int code = info ? nvmlDeviceGetMemoryInfo_v2(handle, &newer) : NVML_INVALID_ARGUMENT;
    if (code != NVML_SUCCESS)
        return code;
    info->total = newer.total;
    info->used = newer.used + newer.reserved; /* version 1 counts the reserved part as used */
    info->free = newer.free;
    return NVML_SUCCESS;
}

STANDIN_EXPORT int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    if (gpu_of(handle) < 0)
        return NVML_INVALID_ARGUMENT;
    if (standin_fault("nvml-refuses"))
        return NVML_UNKNOWN;
    *current = *pending = (unsigned)standin_flag("STANDIN_MIG");
    return NVML_SUCCESS;
}

/* ---- who uses a GPU ----------------------------------------------------------------------- */

/* The list has one process, or none where PRESENT is 0. */
static int list_processes(void *handle, unsigned *count, process_info *list, unsigned present) {
    unsigned room = count ? *count : 0;
    if (gpu_of(handle) < 0 || !count)
        return NVML_INVALID_ARGUMENT;
    *count = present;
    if (present && (room < present || !list))
        return NVML_INSUFFICIENT_SIZE;
    if (present) {
        unsigned pid = standin_lists("STANDIN_PIDS", "hidden") ? FOREIGN_PID : (unsigned)getpid();
        *list = (process_info){pid, MEMORY_OF_CALLER + memory_of_process(), ~0u, ~0u};
    }
    return NVML_SUCCESS;
}

STANDIN_EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count,
                                                           process_info *list) {
    return list_processes(handle, count, list, standin_lists("STANDIN_PIDS", "both"));
}

STANDIN_EXPORT int nvmlDeviceGetComputeRunningProcesses_v2(void *handle, unsigned *count,
                                                           process_info *list) {
    return nvmlDeviceGetComputeRunningProcesses_v3(handle, count, list);
}

/* The caller is the one that renders. */
STANDIN_EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *count,
                                                            process_info *list) {
    return list_processes(handle, count, list, !standin_lists("STANDIN_PIDS", "none"));
}

STANDIN_EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v2(void *handle, unsigned *count,
                                                            process_info *list) {
    return nvmlDeviceGetGraphicsRunningProcesses_v3(handle, count, list);
}
