#include "engine/kernels_table.h"

#include <string.h>

#define RETURN_void
#define RETURN_double return
#define FORWARD(result, name, parameters, arguments)                                                                   \
    result name parameters                                                                                             \
    {                                                                                                                  \
        RETURN_##result pool_kernels(pool)->name arguments;                                                            \
    }
KERNEL_LIST(FORWARD)

#define DECLARE_PORTABLE(result, name, parameters, arguments) result name##_portable parameters;
#define MEMBER_PORTABLE(result, member, parameters, arguments) .member = member##_portable,
KERNEL_LIST(DECLARE_PORTABLE)
static const struct kernel_table portable = {KERNEL_LIST(MEMBER_PORTABLE).name = "portable"};

#ifdef KERNELS_X86
#define DECLARE_AVX2(result, name, parameters, arguments) result name##_avx2 parameters;
#define MEMBER_AVX2(result, member, parameters, arguments) .member = member##_avx2,
KERNEL_LIST(DECLARE_AVX2)
static const struct kernel_table avx2 = {KERNEL_LIST(MEMBER_AVX2).name = "avx2"};

#define DECLARE_AVX512(result, name, parameters, arguments) result name##_avx512 parameters;
#define MEMBER_AVX512(result, member, parameters, arguments) .member = member##_avx512,
KERNEL_LIST(DECLARE_AVX512)
static const struct kernel_table avx512 = {KERNEL_LIST(MEMBER_AVX512).name = "avx512"};

/* The sets are compiled for whole levels of the architecture (x86-64-v3, v4), so ask for what the compiler may use. */
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512cd");
}
#endif

const struct kernel_table *kernels_best(void)
{
#ifdef KERNELS_X86
    if (has_avx512())
        return &avx512;
    if (has_avx2())
        return &avx2;
#endif
    return &portable;
}

bool kernels_choose(struct pool *pool, const char *name)
{
    const struct kernel_table *table = NULL;
    if (strcmp(name, "portable") == 0)
        table = &portable;
#ifdef KERNELS_X86
    if (strcmp(name, "avx2") == 0 && has_avx2())
        table = &avx2;
    if (strcmp(name, "avx512") == 0 && has_avx512())
        table = &avx512;
#endif
    if (table)
        pool_set_kernels(pool, table);
    return table != NULL;
}

struct error kernels_pool_create(unsigned threads, const char *name, struct pool **out)
{
    TRY(pool_create(threads, out));
    if (!name || kernels_choose(*out, name))
        return OK;
    pool_destroy(*out);
    *out = NULL;
    return error_make(ERR_INVALID, "this CPU or build has no %.20s kernels", name);
}

const char *kernels_name(const struct pool *pool)
{
    return pool_kernels(pool)->name;
}
