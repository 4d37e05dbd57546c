/* What can fail returns a struct error by value. Codes are the contract's (api/openapi.yaml, x-error-codes). */
#pragma once

#include "error_codes.h" /* generated: enum error_code, ERROR_CODE_LIST */

struct arena;

/* text and field live in this thread's ring of recent errors: good for reporting up the stack, and to be kept with
 * error_keep when they must outlive it or change threads. */
struct error {
    enum error_code code; /* ERR_NONE (0) means success */
    const char *field;    /* path of the field at fault, such as "parameters.rank"; NULL when none */
    const char *text;     /* one line for the user: what is wrong and what to do */
};

#define OK ((struct error){.code = ERR_NONE})

struct error error_make(enum error_code code, const char *format, ...)
    __attribute__((format(printf, 2, 3), warn_unused_result));
/* The field's path stands in front of the text: error_field("name", "must be at most %d characters", 64). */
struct error error_field(const char *field, const char *format, ...)
    __attribute__((format(printf, 2, 3), warn_unused_result));
/* ERR_NO_SPACE for a full disk or quota, else ERR_IO: "cannot <what>: <strerror(errno)>". */
struct error error_errno(const char *format, ...) __attribute__((format(printf, 1, 2), warn_unused_result));

#ifdef __clang_analyzer__
/* The analyzer reads one file at a time: here it learns that what is made is never ERR_NONE. */
static inline struct error error_of_failure(struct error error)
{
    if (!error.code)
        __builtin_unreachable();
    return error;
}
#define error_make(...) error_of_failure((error_make)(__VA_ARGS__))
#define error_field(...) error_of_failure((error_field)(__VA_ARGS__))
#define error_errno(...) error_of_failure((error_errno)(__VA_ARGS__))
#endif

struct error error_keep(struct arena *arena, struct error error);
struct error error_adopt(struct error error) __attribute__((warn_unused_result)); /* copied into this thread's ring */

int error_status(enum error_code code);       /* HTTP status of the contract; 500 for operating errors */
const char *error_name(enum error_code code); /* error class of the contract, such as "PlanLimitReachedError" */

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        struct error try_error_ = (call);                                                                              \
        if (try_error_.code)                                                                                           \
            return try_error_;                                                                                         \
    } while (0)
