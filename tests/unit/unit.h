/* cmocka with the headers it wants first, and the world of a test: an arena and a temporary directory. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/error.h"

#define assert_ok(call)                                                                                                \
    do {                                                                                                               \
        struct error assert_ok_error_ = (call);                                                                        \
        if (assert_ok_error_.code) {                                                                                   \
            fail_msg("%s: %s", #call, assert_ok_error_.text);                                                          \
            abort(); /* not reached: says to the compiler that what follows has its values */                          \
        }                                                                                                              \
    } while (0)

#define assert_error(call, expected)                                                                                   \
    do {                                                                                                               \
        struct error assert_error_ = (call);                                                                           \
        assert_int_equal(assert_error_.code, (expected));                                                              \
    } while (0)
