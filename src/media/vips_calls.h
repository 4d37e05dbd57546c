/* The calls of libvips that this room makes, resolved when the first picture is decoded. Linking the library would
 * cost every process 17 MB of resident memory and 45 ms at its start (a hundred shared objects), pictures or not. */
#pragma once

#include <vips/vips.h>

#include "base/error.h"

#define VIPS_CALLS(call)                                                                                               \
    call(vips_init) call(vips_concurrency_set) call(vips_cache_set_max) call(vips_error_buffer_copy)                   \
        call(vips_pngload_buffer) call(vips_jpegload_buffer) call(vips_webpload_buffer) call(vips_gifload_buffer)      \
            call(vips_heifload_buffer) call(vips_tiffload_buffer) call(vips_svgload_buffer) call(vips_thumbnail_image) \
                call(vips_image_new_from_memory) call(vips_image_write_to_memory) call(vips_image_get_orientation)     \
                    call(vips_image_get_typeof) call(vips_image_get_n_pages) call(vips_image_get_blob)                 \
                        call(vips_image_get_string) call(vips_image_hasalpha) call(vips_autorot)                       \
                            call(vips_icc_transform) call(vips_colourspace) call(vips_flatten) call(vips_cast)         \
                                call(vips_extract_band) call(vips_sink) call(vips_embed) call(vips_crop)               \
                                    call(vips_copy) call(vips_image_get_width) call(vips_image_get_height)             \
                                        call(vips_image_get_bands) call(vips_image_copy_memory)                        \
                                            call(vips_image_get_interpretation) call(vips_addalpha)                    \
                                                call(vips_pngsave_buffer) call(vips_jpegsave_buffer)                   \
                                                    call(vips_webpsave_buffer) call(vips_gifsave_buffer)               \
                                                        call(vips_heifsave_buffer) call(vips_tiffsave_buffer)          \
                                                            call(vips_rotate) call(vips_gaussblur) call(vips_resize)   \
                                                                call(vips_premultiply) call(vips_unpremultiply)        \
                                                                    call(vips_array_double_new) call(vips_area_unref)  \
                                                                        call(g_object_unref) call(g_free)              \
                                                                            call(g_log_set_handler)

struct vips_calls {
#define VIPS_MEMBER(name) __typeof__(name) *name;
    VIPS_CALLS(VIPS_MEMBER)
#undef VIPS_MEMBER
};

/* *calls stays valid for ever. ERR_UNAVAILABLE names what to install. */
struct error vips_calls_get(const struct vips_calls **calls) __attribute__((warn_unused_result));
