/* A job folder from a directory of pictures with .txt captions beside them. */
#pragma once

#include <stdint.h>

#include "base/error.h"

struct job_request {
    const char *folder;     /* to be made; must not exist */
    const char *images;     /* directory; every file whose content is a picture is taken */
    const char *type;       /* model type, such as "sd-1_5-lora" */
    const char *parameters; /* JSON object of the API's training parameters, or NULL */
    const char *base;       /* base model, absolute */
    const char *name;
    unsigned threads;
};

/* Under a temporary name, renamed when whole. *count is the number of pictures. */
struct error job_make(const struct job_request *request, unsigned *count) __attribute__((warn_unused_result));
