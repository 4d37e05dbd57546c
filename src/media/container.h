/* The outer shape of picture files: which type the bytes are, and whether the file ends where its container says.
 * Needs no decoder. Sources: PNG (RFC 2083), JPEG (T.81 annex B), WebP (RFC 9649), GIF89a, ISO/IEC 14496-12 boxes with
 * the HEIF brands, TIFF 6.0, SVG 1.1. */
#pragma once

#include <stddef.h>

#include "base/error.h"
#include "media/media.h"

/* ERR_INVALID: of no known type, cut off, followed by other bytes, or also an archive or a document. */
struct error container_check(const void *bytes, size_t size, enum media_format *format)
    __attribute__((warn_unused_result));

/* In svg.c: refuses entities, scripts and everything that refers outside the file, and text after the last tag. */
struct error svg_check(const char *text, size_t size) __attribute__((warn_unused_result));
