/*
 * How a Mesa context is made to say that it is NVIDIA's.
 *
 * Mesa would do it by itself (force_gl_vendor, force_gl_renderer in the environment), but then a
 * vendor library would have to change the environment of a running process, which no thread of
 * it expects. libglvnd asks the vendor for every GL function by name, so handing out our own
 * glGetString and glGetIntegerv is enough, and nothing outside this library can notice.
 */
#ifndef STANDIN_DISGUISE_H
#define STANDIN_DISGUISE_H

#include <GL/gl.h>
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>

#include "standin.h"

#ifndef GL_MAJOR_VERSION
#define GL_MAJOR_VERSION 0x821B
#define GL_MINOR_VERSION 0x821C
#endif

/*
 * Records are never freed: a destroyed context lives on while it is current, and the thread
 * where that is so still points here. A handle that comes again takes its old record.
 */
struct disguise {
    void *context;
    int gpu;
    int honest;       /* say what Mesa says */
    int major, minor; /* as asked for; 0 when the application did not say */
    char renderer[96];
    char version[96];
    struct disguise *next;
};

static struct disguise *disguises;
static pthread_mutex_t disguise_lock = PTHREAD_MUTEX_INITIALIZER;
static __thread struct disguise *disguise_current;
static const GLubyte *(*mesa_get_string)(GLenum);
static void (*mesa_get_integerv)(GLenum, GLint *);

static struct disguise *disguise_find(void *context) {
    struct disguise *d;
    pthread_mutex_lock(&disguise_lock);
    for (d = disguises; d && d->context != context; d = d->next)
        ;
    pthread_mutex_unlock(&disguise_lock);
    return d;
}

static void disguise_put_on(void *context, int gpu, int major, int minor, int honest) {
    struct disguise *d = disguise_find(context);
    if (!d) {
        d = calloc(1, sizeof *d);
        if (!d)
            return;
        d->context = context;
        pthread_mutex_lock(&disguise_lock);
        d->next = disguises;
        disguises = d;
        pthread_mutex_unlock(&disguise_lock);
    }
    d->gpu = gpu;
    d->honest = honest;
    d->major = major;
    d->minor = minor;
    d->version[0] = '\0';
    char name[64];
    standin_name(gpu, name, sizeof name);
    snprintf(d->renderer, sizeof d->renderer, "%s/PCIe/SSE2", name);
}

/* Called after a successful make-current; CONTEXT is NULL when nothing is current any more. */
static void disguise_made_current(void *context) {
    disguise_current = context ? disguise_find(context) : NULL;
}

/* NVIDIA returns exactly the version that was asked for, Mesa the highest compatible one. */
static const char *disguise_version(struct disguise *d) {
    if (!d->version[0]) {
        int major = d->major, minor = d->minor;
        const char *mesa = (const char *)mesa_get_string(GL_VERSION);
        if (!major && (!mesa || sscanf(mesa, "%d.%d", &major, &minor) != 2))
            return mesa;
        snprintf(d->version, sizeof d->version, "%d.%d.0 NVIDIA " STANDIN_VERSION, major, minor);
    }
    return d->version;
}

static const GLubyte *disguised_get_string(GLenum name) {
    struct disguise *d = disguise_current;
    if (d && !d->honest) {
        if (name == GL_VENDOR)
            return (const GLubyte *)"NVIDIA Corporation";
        if (name == GL_RENDERER)
            return (const GLubyte *)d->renderer;
        if (name == GL_VERSION)
            return (const GLubyte *)disguise_version(d);
    }
    return mesa_get_string ? mesa_get_string(name) : NULL;
}

static void disguised_get_integerv(GLenum name, GLint *value) {
    struct disguise *d = disguise_current;
    if (d && !d->honest && d->major && name == GL_MAJOR_VERSION)
        *value = d->major;
    else if (d && !d->honest && d->major && name == GL_MINOR_VERSION)
        *value = d->minor;
    else if (mesa_get_integerv)
        mesa_get_integerv(name, value);
}

static void draw_nothing(void) {}

/* Our function where NAME is one of the disguised ones, else NULL; MESA is Mesa's function. */
static void *disguise_gl_function(const char *name, void *mesa) {
    if (mesa && strcmp(name, "glGetString") == 0) {
        mesa_get_string = (const GLubyte *(*)(GLenum))mesa;
        return (void *)disguised_get_string;
    }
    if (mesa && strcmp(name, "glGetIntegerv") == 0) {
        mesa_get_integerv = (void (*)(GLenum, GLint *))mesa;
        return (void *)disguised_get_integerv;
    }
    if (mesa && standin_fault("blank") && strncmp(name, "glDrawElements", 14) == 0)
        return (void *)draw_nothing;
    return NULL;
}

/*
 * The private Mesa lies beside this library. The absolute path is needed: this library may be
 * outside every folder the loader searches. The other SONAME is needed as well, or the loader
 * would hand this very instance to libglvnd when it opens Mesa's own vendor library.
 */
static void *disguise_open_mesa(const char *file) {
    Dl_info self;
    char path[PATH_MAX + 64];
    if (!dladdr((void *)&disguises, &self) || !realpath(self.dli_fname, path))
        return NULL;
    char *slash = strrchr(path, '/');
    snprintf(slash + 1, sizeof path - (size_t)(slash + 1 - path), "%s", file);
    void *library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    const char *folder = getenv("STANDIN_MESA");
    if (library || !folder)
        return library;
    /* Whoever installs a driver takes what is NVIDIA's, and Mesa's copy is not. */
    snprintf(path, sizeof path, "%s/%s", folder, file);
    return dlopen(path, RTLD_LAZY | RTLD_LOCAL);
}

#endif
