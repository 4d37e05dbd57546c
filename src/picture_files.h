/* The engine's pictures, by the media room. */
#pragma once

#include "engine/pictures.h"

struct picture_io picture_files(void);
