/*
 * Stand-in for libEGL_nvidia.so.0, at the boundary that libglvnd defines (glvnd/libeglabi.h).
 *
 * A private copy of Mesa's vendor library does the rendering. This library hides Mesa's devices
 * and displays behind its own: N GPUs are N EGLDevices and N EGLDisplays here, all served by one
 * Mesa software display, since Mesa has no more than one of that kind to give. Therefore every
 * EGL function that takes a display is wrapped; contexts, surfaces and configs stay Mesa's.
 */
#define _GNU_SOURCE
#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <glvnd/libeglabi.h>
#include <signal.h>
#include <stdint.h>

#include "disguise.h"

#ifndef EGL_CUDA_DEVICE_NV
#define EGL_CUDA_DEVICE_NV 0x323A
#endif
#ifndef EGL_DEVICE_UUID_EXT
#define EGL_DEVICE_UUID_EXT 0x335C
#define EGL_DRIVER_UUID_EXT 0x335D
#define EGL_DRIVER_NAME_EXT 0x335E
#define EGL_RENDERER_EXT 0x335F
#endif
#ifndef EGL_DRM_RENDER_NODE_FILE_EXT
#define EGL_DRM_RENDER_NODE_FILE_EXT 0x3377
#endif
#ifndef EGL_PLATFORM_SURFACELESS_MESA
#define EGL_PLATFORM_SURFACELESS_MESA 0x31DD
#endif

/* What 550.163.01 says, without the X11 platforms, which Mesa's software device has not got. */
#define CLIENT_EXTENSIONS                                                                        \
    "EGL_EXT_platform_base EGL_EXT_device_base EGL_KHR_client_get_all_proc_addresses "           \
    "EGL_EXT_client_extensions EGL_KHR_debug " PLATFORM_EXTENSIONS " EGL_EXT_explicit_device"
#define PLATFORM_EXTENSIONS "EGL_EXT_platform_device EGL_MESA_platform_surfaceless"

/* The addresses of these members are the handles, so device and display never look alike. */
static struct gpu {
    char device;
    char display;
    int initialized;
    char extensions[192];
    char name[64];
    char card[32], render_node[32];
} gpus[STANDIN_MAX_GPUS];

static __EGLapiImports mesa;
static const __EGLapiExports *glvnd;
static EGLDisplay mesa_display;
static pthread_mutex_t display_lock = PTHREAD_MUTEX_INITIALIZER;
static int query_device_binary_index = -1;
static __thread EGLint own_error = EGL_SUCCESS; /* overrides Mesa's until the next call */

/* ---- which GPU a handle means ------------------------------------------------------------ */

static int gpu_of_device(EGLDeviceEXT device) {
    for (int i = 0; i < STANDIN_MAX_GPUS; i++)
        if (device == (EGLDeviceEXT)&gpus[i].device)
            return i;
    return -1;
}

static int gpu_of_display(EGLDisplay display) {
    for (int i = 0; i < STANDIN_MAX_GPUS; i++)
        if (display == (EGLDisplay)&gpus[i].display)
            return i;
    return -1;
}

static int visible_gpus(void) {
    if (standin_state() != STANDIN_READY || standin_flag("STANDIN_MIG") ||
        standin_fault("no-devices"))
        return 0;
    return standin_gpus();
}

static EGLBoolean fail(EGLint error) {
    own_error = error;
    return EGL_FALSE;
}

/* ---- Mesa's software display -------------------------------------------------------------- */

static EGLDisplay open_mesa_display(void) {
    EGLDeviceEXT devices[32];
    EGLint count = 0;
    EGLBoolean (*query)(EGLint, EGLDeviceEXT *, EGLint *) = mesa.getProcAddress(
        "eglQueryDevicesEXT");
    const char *(*string)(EGLDeviceEXT, EGLint) = mesa.getProcAddress("eglQueryDeviceStringEXT");
    if (query && string && query(32, devices, &count)) {
        for (EGLint i = 0; i < count; i++) {
            const char *extensions = string(devices[i], EGL_EXTENSIONS);
            /* A hardware device of Mesa's would need /dev/dri and somebody's permission. */
            if (extensions && strstr(extensions, "EGL_MESA_device_software"))
                return mesa.getPlatformDisplay(EGL_PLATFORM_DEVICE_EXT, devices[i], NULL);
        }
    }
    return mesa.getPlatformDisplay(EGL_PLATFORM_SURFACELESS_MESA, NULL, NULL);
}

static EGLDisplay get_platform_display(EGLenum platform, void *native, const EGLAttrib *attribs) {
    int gpu = -1;
    (void)attribs;
    own_error = EGL_SUCCESS;
    if (platform == EGL_PLATFORM_DEVICE_EXT) {
        gpu = gpu_of_device(native);
        if (gpu < 0)
            own_error = EGL_BAD_PARAMETER;
    } else if ((platform == EGL_NONE || platform == EGL_PLATFORM_SURFACELESS_MESA) &&
               native == NULL && visible_gpus() > 0) {
        gpu = 0; /* eglGetDisplay(EGL_DEFAULT_DISPLAY) */
    }
    if (gpu < 0)
        return EGL_NO_DISPLAY;
    pthread_mutex_lock(&display_lock);
    if (!mesa_display)
        mesa_display = open_mesa_display();
    pthread_mutex_unlock(&display_lock);
    return mesa_display ? (EGLDisplay)&gpus[gpu].display : EGL_NO_DISPLAY;
}

/* ---- every EGL function that takes a display as its first argument ------------------------ */

/*
 * All of them take at most six integers or pointers, which the calling conventions of x86-64 and
 * aarch64 pass in registers whatever their number, so one shape serves them all. A function is
 * only offered when Mesa has it.
 */
typedef void *(*display_call)(void *, void *, void *, void *, void *, void *);

#define DISPLAY_CALLS(X)                                                                         \
    X(eglBindTexImage) X(eglClientWaitSync) X(eglCopyBuffers) X(eglCreateImage)                  \
    X(eglCreatePbufferFromClientBuffer) X(eglCreatePbufferSurface) X(eglCreatePixmapSurface)     \
    X(eglCreatePlatformPixmapSurface) X(eglCreatePlatformWindowSurface) X(eglCreateSync)         \
    X(eglCreateWindowSurface) X(eglDestroyContext) X(eglDestroyImage) X(eglDestroySurface)       \
    X(eglDestroySync) X(eglGetConfigAttrib) X(eglGetSyncAttrib) X(eglQueryContext)               \
    X(eglQuerySurface) X(eglReleaseTexImage) X(eglSurfaceAttrib) X(eglSwapBuffers)               \
    X(eglSwapInterval) X(eglWaitSync) X(eglClientWaitSyncKHR) X(eglCreateImageKHR)               \
    X(eglCreatePlatformPixmapSurfaceEXT) X(eglCreatePlatformWindowSurfaceEXT)                    \
    X(eglCreateSync64KHR) X(eglCreateSyncKHR) X(eglDestroyImageKHR) X(eglDestroySyncKHR)         \
    X(eglDupNativeFenceFDANDROID) X(eglExportDMABUFImageMESA) X(eglExportDMABUFImageQueryMESA)   \
    X(eglGetSyncAttribKHR) X(eglLabelObjectKHR) X(eglQueryDmaBufFormatsEXT)                      \
    X(eglQueryDmaBufModifiersEXT) X(eglSetBlobCacheFuncsANDROID) X(eglSetDamageRegionKHR)        \
    X(eglSignalSyncKHR) X(eglSwapBuffersWithDamageEXT) X(eglSwapBuffersWithDamageKHR)            \
    X(eglWaitSyncKHR) X(eglChooseConfig) X(eglGetConfigs) X(eglCreateContext)                    \
    X(eglMakeCurrent) X(eglInitialize) X(eglTerminate) X(eglQueryString)                         \
    X(eglQueryDisplayAttribEXT) X(eglQueryDisplayAttribKHR) X(eglQueryDisplayAttribNV)

#define DECLARE(name) static display_call mesa_##name;
DISPLAY_CALLS(DECLARE)

/* The GPU of an initialised display of ours, else -1 with the error set. */
static int enter(EGLDisplay display) {
    int gpu = gpu_of_display(display);
    own_error = EGL_SUCCESS;
    if (gpu < 0)
        fail(EGL_BAD_DISPLAY);
    else if (!gpus[gpu].initialized) {
        fail(EGL_NOT_INITIALIZED);
        gpu = -1;
    }
    return gpu;
}

#define FORWARD(name)                                                                            \
    static void *forward_##name(void *display, void *a, void *b, void *c, void *d, void *e) {    \
        return enter(display) < 0 ? NULL : mesa_##name(mesa_display, a, b, c, d, e);             \
    }
DISPLAY_CALLS(FORWARD)

/* ---- the display calls where the GPU, or a fault, makes a difference ---------------------- */

static EGLBoolean initialize(EGLDisplay display, EGLint *major, EGLint *minor) {
    int gpu = gpu_of_display(display);
    own_error = EGL_SUCCESS;
    if (gpu < 0)
        return fail(EGL_BAD_DISPLAY);
    if (standin_fault("crash"))
        raise(SIGSEGV);
    while (standin_fault("hang"))
        pause();
    if (standin_fault("init") || (gpu == 0 && standin_fault("init-first")) || visible_gpus() == 0)
        return fail(EGL_NOT_INITIALIZED);
    EGLBoolean (*real)(EGLDisplay, EGLint *, EGLint *) = (void *)mesa_eglInitialize;
    if (!real(mesa_display, major, minor))
        return EGL_FALSE;
    gpus[gpu].initialized = 1;
    return EGL_TRUE;
}

static EGLBoolean terminate(EGLDisplay display) {
    int gpu = gpu_of_display(display);
    own_error = EGL_SUCCESS;
    if (gpu < 0)
        return fail(EGL_BAD_DISPLAY);
    gpus[gpu].initialized = 0;
    for (int i = 0; i < STANDIN_MAX_GPUS; i++)
        if (gpus[i].initialized)
            return EGL_TRUE; /* another GPU still uses Mesa's one display */
    EGLBoolean (*real)(EGLDisplay) = (void *)mesa_eglTerminate;
    return real(mesa_display);
}

static const char *query_string(EGLDisplay display, EGLint name) {
    if (display == EGL_NO_DISPLAY && name == EGL_EXTENSIONS)
        return CLIENT_EXTENSIONS;
    if (enter(display) < 0)
        return NULL;
    if (name == EGL_VENDOR)
        return "NVIDIA";
    const char *(*real)(EGLDisplay, EGLint) = (void *)mesa_eglQueryString;
    return real(mesa_display, name);
}

static EGLBoolean query_display_attrib(EGLDisplay display, EGLint name, EGLAttrib *value) {
    int gpu = enter(display);
    if (gpu < 0)
        return EGL_FALSE;
    if (name == EGL_DEVICE_EXT) { /* Mesa would give away its own device */
        *value = (EGLAttrib)&gpus[gpu].device;
        return EGL_TRUE;
    }
    EGLBoolean (*real)(EGLDisplay, EGLint, EGLAttrib *) = (void *)mesa_eglQueryDisplayAttribEXT;
    return real ? real(mesa_display, name, value) : fail(EGL_BAD_ATTRIBUTE);
}

static EGLBoolean choose_config(EGLDisplay display, const EGLint *attribs, EGLConfig *configs,
                                EGLint size, EGLint *count) {
    if (enter(display) < 0)
        return EGL_FALSE;
    if (standin_fault("no-configs")) {
        *count = 0;
        return EGL_TRUE;
    }
    EGLBoolean (*real)(EGLDisplay, const EGLint *, EGLConfig *, EGLint, EGLint *) =
        (void *)mesa_eglChooseConfig;
    return real(mesa_display, attribs, configs, size, count);
}

static EGLBoolean get_configs(EGLDisplay display, EGLConfig *configs, EGLint size,
                              EGLint *count) {
    if (enter(display) < 0)
        return EGL_FALSE;
    if (standin_fault("no-configs")) {
        *count = 0;
        return EGL_TRUE;
    }
    EGLBoolean (*real)(EGLDisplay, EGLConfig *, EGLint, EGLint *) = (void *)mesa_eglGetConfigs;
    return real(mesa_display, configs, size, count);
}

static EGLContext create_context(EGLDisplay display, EGLConfig config, EGLContext share,
                                 const EGLint *attribs) {
    EGLContext (*real)(EGLDisplay, EGLConfig, EGLContext, const EGLint *) =
        (void *)mesa_eglCreateContext;
    int gpu = enter(display), major = 0, minor = 0;
    if (gpu < 0)
        return EGL_NO_CONTEXT;
    if (standin_fault("context")) {
        fail(EGL_BAD_ALLOC);
        return EGL_NO_CONTEXT;
    }
    if (standin_fault("no-configs")) { /* whatever CONFIG is, it did not come from here */
        fail(EGL_BAD_CONFIG);
        return EGL_NO_CONTEXT;
    }
    EGLContext context = real(mesa_display, config, share, attribs);
    if (!context) { /* Mesa, asked by a vendor and not by libglvnd, keeps its error to itself */
        fail(EGL_BAD_MATCH);
        return EGL_NO_CONTEXT;
    }
    for (; attribs && attribs[0] != EGL_NONE; attribs += 2) {
        if (attribs[0] == EGL_CONTEXT_MAJOR_VERSION)
            major = attribs[1];
        else if (attribs[0] == EGL_CONTEXT_MINOR_VERSION)
            minor = attribs[1];
    }
    /* OpenGL ES words its version differently; only desktop GL is disguised there. */
    disguise_put_on(context, gpu, glvnd->getCurrentApi() == EGL_OPENGL_API ? major : 0, minor,
                    standin_fault("mesa-vendor"));
    return context;
}

static EGLBoolean make_current(EGLDisplay display, EGLSurface draw, EGLSurface read,
                               EGLContext context) {
    EGLBoolean (*real)(EGLDisplay, EGLSurface, EGLSurface, EGLContext) =
        (void *)mesa_eglMakeCurrent;
    own_error = EGL_SUCCESS;
    if (gpu_of_display(display) < 0)
        return fail(EGL_BAD_DISPLAY);
    /* Unbinding must go on working under the fault, and on a display that was terminated. */
    if (context != EGL_NO_CONTEXT) {
        if (enter(display) < 0)
            return EGL_FALSE;
        if (standin_fault("makecurrent"))
            return fail(EGL_BAD_ACCESS);
    }
    if (!real(mesa_display, draw, read, context))
        return EGL_FALSE;
    disguise_made_current(context);
    return EGL_TRUE;
}

/* ---- devices ------------------------------------------------------------------------------ */

static EGLBoolean query_devices(EGLint size, EGLDeviceEXT *devices, EGLint *count) {
    own_error = EGL_SUCCESS;
    if (standin_fault("query-crash"))
        abort();
    while (standin_fault("query-hang"))
        pause();
    if (standin_fault("query-fails"))
        return fail(EGL_BAD_ALLOC);
    if (!count || (devices && size <= 0))
        return fail(EGL_BAD_PARAMETER);
    EGLint total = visible_gpus();
    *count = devices && size < total ? size : total;
    /* EGL's order is not CUDA's: STANDIN_ORDER=reverse shows programs that think so. */
    const char *order = getenv("STANDIN_ORDER");
    int reverse = order && strcmp(order, "reverse") == 0;
    for (EGLint i = 0; devices && i < *count; i++)
        devices[i] = (EGLDeviceEXT)&gpus[reverse ? total - 1 - i : i].device;
    return EGL_TRUE;
}

/* Does CUDA_VISIBLE_DEVICES hide the GPU, in a driver that crashes on what it hides? */
static int untouchable(int gpu) {
    return standin_fault("hidden-attrib-crash") &&
           standin_cuda_ordinal(gpu, getenv("CUDA_VISIBLE_DEVICES")) < 0;
}

static const char *device_extensions(int gpu) {
    snprintf(gpus[gpu].extensions, sizeof gpus[gpu].extensions, "%sEGL_EXT_device_drm%s%s%s",
             untouchable(gpu) ? "" : "EGL_NV_device_cuda ",
             standin_fault("no-render-node") ? "" : " EGL_EXT_device_drm_render_node",
             standin_fault("no-query-name") ? "" : " EGL_EXT_device_query_name",
             standin_fault("no-uuid") ? "" : " EGL_EXT_device_persistent_id");
    return gpus[gpu].extensions;
}

/* NULL for what the device does not say. */
static const char *device_string(int gpu, EGLint name) {
    switch (name) {
    case EGL_EXTENSIONS:
        return device_extensions(gpu);
    case EGL_VENDOR:
        return standin_fault("no-query-name") ? NULL : "NVIDIA";
    case EGL_RENDERER_EXT:
        if (standin_fault("no-query-name"))
            return NULL;
        standin_name(gpu, gpus[gpu].name, sizeof gpus[gpu].name);
        return gpus[gpu].name;
    case EGL_DRIVER_NAME_EXT:
        return standin_fault("no-uuid") ? NULL : "nvidia";
    case EGL_DRM_DEVICE_FILE_EXT: /* both are empty where nvidia-drm is not loaded */
        if (standin_fault("nonsense"))
            return "\xff\x01card";
        if (!standin_flag("STANDIN_DRM"))
            return "";
        snprintf(gpus[gpu].card, sizeof gpus[gpu].card, "/dev/dri/card%d", gpu);
        return gpus[gpu].card;
    case EGL_DRM_RENDER_NODE_FILE_EXT:
        if (standin_fault("no-render-node"))
            return NULL;
        if (standin_fault("nonsense"))
            return "\xff\x01renderD";
        if (!standin_flag("STANDIN_DRM"))
            return "";
        snprintf(gpus[gpu].render_node, sizeof gpus[gpu].render_node, "/dev/dri/renderD%d",
                 128 + gpu);
        return gpus[gpu].render_node;
    default:
        return NULL;
    }
}

static const char *query_device_string(EGLDeviceEXT device, EGLint name) {
    int gpu = gpu_of_device(device);
    own_error = EGL_SUCCESS;
    if (gpu < 0) {
        fail(EGL_BAD_DEVICE_EXT);
        return NULL;
    }
    const char *text = device_string(gpu, name);
    if (!text)
        fail(EGL_BAD_PARAMETER);
    return text;
}

static EGLBoolean query_device_attrib(EGLDeviceEXT device, EGLint attribute, EGLAttrib *value) {
    int gpu = gpu_of_device(device);
    const char *visible = standin_fault("ignores-visible") ? NULL : getenv("CUDA_VISIBLE_DEVICES");
    own_error = EGL_SUCCESS;
    if (gpu < 0)
        return fail(EGL_BAD_DEVICE_EXT);
    if (untouchable(gpu))
        raise(SIGSEGV);
    if (standin_fault("nonsense")) {
        *value = -77;
        return EGL_TRUE;
    }
    if (attribute != EGL_CUDA_DEVICE_NV || standin_fault("no-cuda-attrib") ||
        standin_cuda_ordinal(gpu, visible) < 0)
        return fail(EGL_BAD_ATTRIBUTE);
    *value = standin_cuda_ordinal(gpu, visible);
    return EGL_TRUE;
}

static EGLBoolean query_device_binary(EGLDeviceEXT device, EGLint name, EGLint max_size,
                                      void *value, EGLint *size) {
    int gpu = gpu_of_device(device);
    own_error = EGL_SUCCESS;
    if (gpu < 0)
        return fail(EGL_BAD_DEVICE_EXT);
    if (!size || standin_fault("no-uuid") ||
        (name != EGL_DEVICE_UUID_EXT && name != EGL_DRIVER_UUID_EXT))
        return fail(EGL_BAD_PARAMETER);
    *size = standin_fault("nonsense") ? 1 << 30 : 16;
    if (value) {
        unsigned char uuid[16];
        standin_uuid(name == EGL_DEVICE_UUID_EXT ? gpu : 0xff, uuid);
        memcpy(value, uuid, max_size < 16 ? (max_size > 0 ? (size_t)max_size : 0) : 16);
    }
    return EGL_TRUE;
}

/* libglvnd 1.6 and Mesa 22 do not know this function, so its dispatch has to come from us. */
static EGLBoolean dispatch_query_device_binary(EGLDeviceEXT device, EGLint name, EGLint max_size,
                                               void *value, EGLint *size) {
    EGLBoolean (*target)(EGLDeviceEXT, EGLint, EGLint, void *, EGLint *);
    glvnd->threadInit();
    __EGLvendorInfo *vendor = glvnd->getVendorFromDevice(device);
    if (!vendor) {
        glvnd->setEGLError(EGL_BAD_DEVICE_EXT);
        return EGL_FALSE;
    }
    glvnd->setLastVendor(vendor);
    target = (void *)glvnd->fetchDispatchEntry(vendor, query_device_binary_index);
    if (!target) {
        glvnd->setEGLError(EGL_BAD_PARAMETER);
        return EGL_FALSE;
    }
    return target(device, name, max_size, value, size);
}

static EGLint get_error(void) {
    EGLint error = own_error;
    EGLint (*real)(void) = mesa.getProcAddress("eglGetError");
    EGLint theirs = real ? real() : EGL_SUCCESS;
    own_error = EGL_SUCCESS;
    return error != EGL_SUCCESS ? error : theirs;
}

/* ---- the vendor interface ----------------------------------------------------------------- */

static const struct entry {
    const char *name;
    void *function;
} special[] = {
    {"eglInitialize", initialize},
    {"eglTerminate", terminate},
    {"eglQueryString", query_string},
    {"eglQueryDisplayAttribEXT", query_display_attrib},
    {"eglQueryDisplayAttribKHR", query_display_attrib},
    {"eglQueryDisplayAttribNV", query_display_attrib},
    {"eglChooseConfig", choose_config},
    {"eglGetConfigs", get_configs},
    {"eglCreateContext", create_context},
    {"eglMakeCurrent", make_current},
    {"eglQueryDevicesEXT", query_devices},
    {"eglQueryDeviceStringEXT", query_device_string},
    {"eglQueryDeviceAttribEXT", query_device_attrib},
    {"eglQueryDeviceBinaryEXT", query_device_binary},
    {"eglGetError", get_error},
};

static const struct forwarder {
    const char *name;
    display_call *mesa;
    display_call forward;
} forwarders[] = {
#define ENTRY(name) {#name, &mesa_##name, forward_##name},
    DISPLAY_CALLS(ENTRY)
};

/* EGL functions without a display, which Mesa may answer itself. */
static const char *const displayless[] = {
    "eglBindAPI", "eglQueryAPI", "eglReleaseThread", "eglWaitGL", "eglWaitNative",
    "eglWaitClient", "eglGetCurrentContext", "eglGetCurrentSurface", "eglGetProcAddress",
    "eglDebugMessageControlKHR", "eglQueryDebugKHR",
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void *get_proc_address(const char *name) {
    for (size_t i = 0; i < COUNT(special); i++)
        if (strcmp(name, special[i].name) == 0)
            return special[i].function;
    for (size_t i = 0; i < COUNT(forwarders); i++)
        if (strcmp(name, forwarders[i].name) == 0)
            return *forwarders[i].mesa ? (void *)forwarders[i].forward : NULL;
    void *function = mesa.getProcAddress(name);
    if (strncmp(name, "egl", 3) != 0) {
        void *ours = disguise_gl_function(name, function);
        return ours ? ours : function;
    }
    for (size_t i = 0; i < COUNT(displayless); i++)
        if (strcmp(name, displayless[i]) == 0)
            return function;
    return NULL; /* an unknown function could be handed one of our displays */
}

static void *get_dispatch_address(const char *name) {
    if (strcmp(name, "eglQueryDeviceBinaryEXT") == 0)
        return (void *)dispatch_query_device_binary;
    return mesa.getDispatchAddress(name);
}

static void set_dispatch_index(const char *name, int index) {
    if (strcmp(name, "eglQueryDeviceBinaryEXT") == 0)
        query_device_binary_index = index;
    mesa.setDispatchIndex(name, index);
}

static const char *get_vendor_string(int name) {
    return name == __EGL_VENDOR_STRING_PLATFORM_EXTENSIONS ? PLATFORM_EXTENSIONS : NULL;
}

STANDIN_EXPORT EGLBoolean __egl_Main(uint32_t version, const __EGLapiExports *exports,
                                     __EGLvendorInfo *vendor, __EGLapiImports *imports) {
    if (EGL_VENDOR_ABI_GET_MAJOR_VERSION(version) != EGL_VENDOR_ABI_MAJOR_VERSION)
        return EGL_FALSE;
    /* As the real one: by plain SONAME, so it must be in the loader's path or mapped already. */
    if (!dlopen("libnvidia-eglcore.so." STANDIN_VERSION, RTLD_LAZY | RTLD_LOCAL))
        return EGL_FALSE;
    void *library = disguise_open_mesa("libEGL_nvms.so.0");
    __PFNEGLMAINPROC main_of_mesa = library ? (__PFNEGLMAINPROC)dlsym(library, "__egl_Main") : NULL;
    memset(&mesa, 0, sizeof mesa);
    if (!main_of_mesa || !main_of_mesa(version, exports, vendor, &mesa))
        return EGL_FALSE;
    glvnd = exports;
    for (size_t i = 0; i < COUNT(forwarders); i++)
        *forwarders[i].mesa = (display_call)mesa.getProcAddress(forwarders[i].name);
    imports->getPlatformDisplay = get_platform_display;
    imports->getSupportsAPI = mesa.getSupportsAPI;
    imports->getVendorString = get_vendor_string;
    imports->getProcAddress = get_proc_address;
    imports->getDispatchAddress = get_dispatch_address;
    imports->setDispatchIndex = set_dispatch_index;
    return EGL_TRUE;
}
