/*
 * Stand-in for libGLX_nvidia.so.0, at the boundary that libglvnd defines (glvnd/libglxabi.h).
 *
 * A private copy of Mesa's GLX vendor library does the work. X displays and GLX handles are
 * Mesa's own; only the calls below differ. Without a kernel module of this version it behaves as
 * 550.163.01 does on Xvfb: the screen and the FBConfigs are there, and creating a context ends
 * in a BadValue.
 */
#define _GNU_SOURCE
#include <X11/Xlibint.h>

#include <GL/glx.h>
#include <GL/glxproto.h>
#include <glvnd/libglxabi.h>

#include "disguise.h"

#define ATTRIB_MAJOR 0x2091 /* GLX_CONTEXT_MAJOR_VERSION_ARB */
#define ATTRIB_MINOR 0x2092
#define ATTRIB_PROFILE 0x9126
#define PROFILE_ES 0x4

static __GLXapiImports mesa;

static void *mesa_function(const char *name) {
    return mesa.getProcAddress((const GLubyte *)name);
}

/* ---- creating a context ------------------------------------------------------------------- */

/* An X error as the client library raises it: through the application's error handler. */
static void raise_bad_value(Display *display) {
    xError error = {.type = X_Error, .errorCode = BadValue, .minorCode = X_GLXCreateNewContext};
    int event, first_error, opcode = 0;
    XQueryExtension(display, "GLX", &opcode, &event, &first_error);
    LockDisplay(display);
    error.majorCode = (CARD8)opcode;
    error.sequenceNumber = (CARD16)display->request;
    _XError(display, &error);
    UnlockDisplay(display);
}

static int refused(Display *display) {
    if (standin_fault("glx-context") || standin_fault("refuse-screen"))
        return 1;
    if (standin_state() == STANDIN_READY && standin_gpus() > 0 && !standin_flag("STANDIN_MIG") &&
        !standin_fault("glx-badvalue"))
        return 0;
    raise_bad_value(display);
    return 1;
}

static GLXContext made(GLXContext context, int major, int minor) {
    if (context)
        disguise_put_on(context, 0, major, minor, standin_fault("glx-mesa-vendor"));
    return context;
}

static GLXContext create_context(Display *display, XVisualInfo *visual, GLXContext share,
                                 Bool direct) {
    GLXContext (*real)(Display *, XVisualInfo *, GLXContext, Bool) = mesa_function(
        "glXCreateContext");
    return refused(display) ? NULL : made(real(display, visual, share, direct), 0, 0);
}

static GLXContext create_new_context(Display *display, GLXFBConfig config, int type,
                                     GLXContext share, Bool direct) {
    GLXContext (*real)(Display *, GLXFBConfig, int, GLXContext, Bool) = mesa_function(
        "glXCreateNewContext");
    return refused(display) ? NULL : made(real(display, config, type, share, direct), 0, 0);
}

static GLXContext create_context_attribs(Display *display, GLXFBConfig config, GLXContext share,
                                         Bool direct, const int *attribs) {
    GLXContext (*real)(Display *, GLXFBConfig, GLXContext, Bool, const int *) = mesa_function(
        "glXCreateContextAttribsARB");
    int major = 0, minor = 0, es = 0;
    for (const int *a = attribs; a && a[0]; a += 2) {
        if (a[0] == ATTRIB_MAJOR)
            major = a[1];
        else if (a[0] == ATTRIB_MINOR)
            minor = a[1];
        else if (a[0] == ATTRIB_PROFILE && a[1] & PROFILE_ES)
            es = 1;
    }
    if (refused(display) || !real)
        return NULL;
    /* OpenGL ES words its version differently; only desktop GL is disguised there */
    return made(real(display, config, share, direct, attribs), es ? 0 : major, minor);
}

/* ---- what there is to choose from --------------------------------------------------------- */

/*
 * libglvnd does not ask isScreenSupported of a vendor that __GLX_VENDOR_LIBRARY_NAME names, so a
 * vendor that cannot serve the screen has to say so once more here.
 */
static int nothing_to_choose(void) {
    return standin_fault("no-fbconfig") || standin_fault("refuse-screen");
}

static GLXFBConfig *choose_fb_config(Display *display, int screen, const int *attribs,
                                     int *count) {
    GLXFBConfig *(*real)(Display *, int, const int *, int *) = mesa_function("glXChooseFBConfig");
    if (nothing_to_choose()) {
        *count = 0;
        return NULL;
    }
    return real(display, screen, attribs, count);
}

static GLXFBConfig *get_fb_configs(Display *display, int screen, int *count) {
    GLXFBConfig *(*real)(Display *, int, int *) = mesa_function("glXGetFBConfigs");
    if (nothing_to_choose()) {
        *count = 0;
        return NULL;
    }
    return real(display, screen, count);
}

static XVisualInfo *choose_visual(Display *display, int screen, int *attribs) {
    XVisualInfo *(*real)(Display *, int, int *) = mesa_function("glXChooseVisual");
    return nothing_to_choose() ? NULL : real(display, screen, attribs);
}

/* ---- the current context ------------------------------------------------------------------ */

static Bool make_current(Display *display, GLXDrawable drawable, GLXContext context) {
    Bool (*real)(Display *, GLXDrawable, GLXContext) = mesa_function("glXMakeCurrent");
    if (!real(display, drawable, context))
        return False;
    disguise_made_current(context);
    return True;
}

static Bool make_context_current(Display *display, GLXDrawable draw, GLXDrawable read,
                                 GLXContext context) {
    Bool (*real)(Display *, GLXDrawable, GLXDrawable, GLXContext) = mesa_function(
        "glXMakeContextCurrent");
    if (!real(display, draw, read, context))
        return False;
    disguise_made_current(context);
    return True;
}

static const char *get_client_string(Display *display, int name) {
    const char *(*real)(Display *, int) = mesa_function("glXGetClientString");
    return name == GLX_VENDOR ? "NVIDIA Corporation" : real(display, name);
}

/* ---- the vendor interface ----------------------------------------------------------------- */

static const struct entry {
    const char *name;
    void *function;
} special[] = {
    {"glXCreateContext", create_context},
    {"glXCreateNewContext", create_new_context},
    {"glXCreateContextAttribsARB", create_context_attribs},
    {"glXChooseFBConfig", choose_fb_config},
    {"glXGetFBConfigs", get_fb_configs},
    {"glXChooseVisual", choose_visual},
    {"glXMakeCurrent", make_current},
    {"glXMakeContextCurrent", make_context_current},
    {"glXGetClientString", get_client_string},
};

static Bool is_screen_supported(Display *display, int screen) {
    return !standin_fault("refuse-screen") && mesa.isScreenSupported(display, screen);
}

static void *get_proc_address(const GLubyte *name) {
    for (size_t i = 0; i < sizeof special / sizeof *special; i++)
        if (strcmp((const char *)name, special[i].name) == 0)
            return special[i].function;
    void *function = mesa.getProcAddress(name);
    void *ours = disguise_gl_function((const char *)name, function);
    return ours ? ours : function;
}

STANDIN_EXPORT Bool __glx_Main(uint32_t version, const __GLXapiExports *exports,
                               __GLXvendorInfo *vendor, __GLXapiImports *imports) {
    void *library = disguise_open_mesa("libGLX_nvms.so.0");
    __PFNGLXMAINPROC main_of_mesa = library ? (__PFNGLXMAINPROC)dlsym(library, "__glx_Main") : NULL;
    memset(&mesa, 0, sizeof mesa);
    if (!main_of_mesa || !main_of_mesa(version, exports, vendor, &mesa))
        return False;
    imports->isScreenSupported = is_screen_supported;
    imports->getProcAddress = get_proc_address;
    imports->getDispatchAddress = mesa.getDispatchAddress;
    imports->setDispatchIndex = mesa.setDispatchIndex;
    return True;
}
