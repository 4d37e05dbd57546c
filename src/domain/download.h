/* What a training made, packed for taking away. */
#pragma once

#include "domain/job.h"

/* A model-download job whose metadata.output.downloadUrl is the link; packing is done while it is fetched, so that the
 * job is a success at once. epoch NULL or "": the model's, else the end of its training. format is "zip" or
 * "safetensors". A composition gives all its parts in one zip. ERR_INVALID for a model that has no weights, or not that
 * epoch; ERR_FORBIDDEN for a composition with a part of another project's. */
struct error download_create(const struct domain *domain, struct arena *arena, const struct caller *caller,
                             const char *model_id, const char *epoch, const char *format, struct job *job)
    __attribute__((warn_unused_result));

/* metadata.output of such a job as JSON, NULL of any other. Signed anew each time: links expire, jobs stay. */
const char *download_output(const struct domain *domain, struct arena *arena, const struct job *job, int64_t now_ms);

struct download {
    int fd; /* the caller's, at its begin */
    int64_t size;
    const char *mime_type, *file_name;
    const char *etag; /* strong, quoted: as long as it is the same, so are the bytes */
};
/* format NULL: as the job was asked. Any project's: whoever holds the signed link. */
struct error download_open(const struct domain *domain, struct arena *arena, const char *job_id, const char *format,
                           struct download *download) __attribute__((warn_unused_result));
