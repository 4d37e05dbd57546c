/* Links to what a training made. */
#include "domain/download.h"

#include "domain/url.h"
#include "handlers/api.h"

struct error handle_download_model(struct call *call, const struct api_download_model_request *request,
                                   struct api_download_model_answer *answer)
{
    const char *format = request->query.format ? request->query.format : "zip";
    struct job job;
    TRY(download_create(call->domain, call->arena, &call->caller, request->path.model_id, request->body.model_epoch,
                        format, &job));
    answer->job_id = job.id;
    return OK;
}

struct error handle_serve_download(struct call *call, const struct api_serve_download_request *request)
{
    const char *id = request->path.job_id;
    struct download download;
    TRY(url_verify(call->domain, "downloads", id, request->query.policy, request->query.signature, call->now_ms));
    TRY(download_open(call->domain, call->arena, id, request->query.format, &download));
    http_respond_file(call->response, download.mime_type, download.fd, 0, (uint64_t)download.size);
    call->response->etag = download.etag;
    http_add_header(call->response, "Content-Disposition",
                    arena_printf(call->arena, "attachment; filename=\"%s\"", download.file_name));
    return OK;
}
