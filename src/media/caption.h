/* The words that come with a picture: what automaticCaptioning of a training image starts as. */
#pragma once

#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"

enum { caption_bytes_max = 2000 }; /* longer ones are cut at a character */

/* What the training is for: a caption leaves out what the LoRA itself shall stand for. */
enum caption_focus {
    CAPTION_WHOLE,   /* everything */
    CAPTION_STYLE,   /* what is shown, not how: the style is learned */
    CAPTION_SUBJECT, /* pose, setting and style, not what the subject looks like: the subject is learned */
};

struct captioner {
    /* One line of UTF-8 in the arena, possibly "", never NULL. warning is set to one line when a better source failed
     * and a lesser one was used, else NULL. file_name may be NULL. Thread-safe. */
    struct error (*caption)(struct captioner *captioner, struct arena *arena, const void *bytes, size_t size,
                            const char *mime, const char *file_name, enum caption_focus focus, const char **text,
                            const char **warning);
    void (*destroy)(struct captioner *captioner);
};

/* What the file says about itself: XMP dc:description, IPTC caption, EXIF ImageDescription, PNG text, SVG title;
 * else the words of its name ("red_apple-03.png" -> "red apple"), whatever the focus. Needs no network and never
 * fails. */
struct captioner *captioner_file_create(void);

struct captioner_openai_options {
    const char *url;   /* of an OpenAI-compatible API: http(s)://host[/v1]; /chat/completions is added when absent */
    const char *model; /* NULL for "default" */
    const char *key;   /* bearer token; NULL for none; never logged */
    int timeout_ms;    /* of the whole request; 0 for 20,000 */
};

/* Asks a vision endpoint; when that fails gives what the file captioner says, with a warning. Copies the options. */
struct error captioner_openai_create(struct captioner **captioner, const struct captioner_openai_options *options)
    __attribute__((warn_unused_result));

static inline void captioner_destroy(struct captioner *captioner)
{
    if (captioner)
        captioner->destroy(captioner);
}
