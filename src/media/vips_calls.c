#include "media/vips_calls.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

static struct vips_calls table;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool ready;

/* Decoders warn about odd files on standard error; what matters comes back as an error. */
static void drop_message(const gchar *domain, GLogLevelFlags level, const gchar *message, gpointer context)
{
    (void)domain, (void)level, (void)message, (void)context;
}

static bool resolve(void *library)
{
#define VIPS_RESOLVE(name)                                                                                             \
    {                                                                                                                  \
        void *address = dlsym(library, #name);                                                                         \
        if (!address)                                                                                                  \
            return false;                                                                                              \
        memcpy(&table.name, &address, sizeof address);                                                                 \
    }
    VIPS_CALLS(VIPS_RESOLVE)
#undef VIPS_RESOLVE
    return true;
}

/* One thread a picture (the server has its own pool) and no cache of operations, which would hold others' bytes. */
static void load(void)
{
    void *library = dlopen("libvips.so.42", RTLD_NOW | RTLD_LOCAL);
    if (!library || !resolve(library) || table.vips_init("maquette") != 0)
        return;
    table.vips_concurrency_set(1);
    table.vips_cache_set_max(0);
    table.g_log_set_handler("VIPS", (GLogLevelFlags)(G_LOG_LEVEL_MASK | G_LOG_FLAG_FATAL | G_LOG_FLAG_RECURSION),
                            drop_message, NULL);
    ready = true;
}

struct error vips_calls_get(const struct vips_calls **calls)
{
    pthread_once(&once, load);
    if (!ready)
        return error_make(ERR_UNAVAILABLE, "libvips is not installed: apt-get install libvips42");
    *calls = &table;
    return OK;
}
