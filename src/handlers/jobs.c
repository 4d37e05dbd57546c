#include "handlers/jobs.h"

#include <string.h>

#include "domain/download.h"
#include "domain/scheduler.h"
#include "handlers/render.h"

enum { page_size_default = 10, part_bytes_max = 2 << 20 };

/* A part of the metadata as JSON text; NULL when absent. */
static const char *part_text(struct arena *arena, const struct json *metadata, const char *key)
{
    const struct json *part = json_get(metadata, key);
    struct buf text;
    if (!part)
        return NULL;
    buf_init(&text, part_bytes_max);
    json_put_tree(&(struct json_writer){.out = &text}, NULL, part);
    const char *copy = buf_error(&text).code ? NULL : arena_copy(arena, text.data, text.len);
    buf_finish(&text);
    return copy;
}

static struct error render_metadata(struct call *call, const struct job *job, struct api_job *out)
{
    const struct json *metadata;
    struct api_job_metadata *shown = ARENA_NEW(call->arena, struct api_job_metadata);
    TRY(json_parse(call->arena, job->metadata, strlen(job->metadata), &metadata));
    const struct json *ids = json_get(metadata, "assetIds");
    shown->asset_ids = ids ? arena_array(call->arena, ids->count + 1, sizeof *shown->asset_ids) : NULL;
    JSON_EACH (id, ids) {
        shown->asset_ids[shown->asset_ids_count++] = id->text;
    }
    shown->error = json_string(metadata, "error", NULL);
    shown->hint = json_string(metadata, "hint", NULL);
    shown->input = part_text(call->arena, metadata, "input");
    const char *link = download_output(call->domain, call->arena, job, call->now_ms);
    shown->output = link ? link : part_text(call->arena, metadata, "output");
    out->metadata = shown;
    return OK;
}

static struct error render_history(struct call *call, const struct job *job, struct api_job *out)
{
    const struct json *history;
    TRY(json_parse(call->arena, job->status_history, strlen(job->status_history), &history));
    out->status_history = arena_array(call->arena, history->count + 1, sizeof *out->status_history);
    JSON_EACH (change, history) {
        out->status_history[out->status_history_count++] =
            (struct api_job_status_change){json_string(change, "date", ""), json_string(change, "status", "")};
    }
    return OK;
}

struct error render_job(struct call *call, const struct job *job, struct api_job *out)
{
    *out = (struct api_job){
        .created_at = date_text(call->arena, job->created_at),
        .updated_at = date_text(call->arena, job->updated_at),
        .job_id = job->id,
        .job_type = job->type,
        .progress = job->progress,
        .status = job->status,
        .author_id = job->author_id,
        .owner_id = job->project_id,
        .billing = ARENA_NEW(call->arena, struct api_job_billing), /* nothing costs on one's own machine */
    };
    TRY(render_history(call, job, out));
    return render_metadata(call, job, out);
}

struct error handle_list_jobs(struct call *call, const struct api_list_jobs_request *request,
                              struct api_list_jobs_answer *answer)
{
    const struct api_list_jobs_query *query = &request->query;
    const char *one_type[] = {query->type};
    const bool many = query->types_count > 0;
    const struct job_filter filter = {
        .status = query->status,
        .types = many ? query->types : one_type,
        .type_count = many ? query->types_count : query->type != NULL,
        .author_id = query->author_id,
        .page_size = query->has_page_size ? (int)query->page_size : page_size_default,
        .token = query->pagination_token,
    };
    struct job_page page;
    answer->jobs = arena_array(call->arena, 1, sizeof *answer->jobs);
    if (query->workflow_id) /* no job here is a workflow's */
        return OK;
    TRY(job_list(call->domain, call->arena, &call->caller, &filter, &page));
    answer->jobs = arena_array(call->arena, page.count + 1, sizeof *answer->jobs);
    answer->jobs_count = page.count;
    answer->next_pagination_token = page.next_token;
    for (size_t i = 0; i < page.count; i++)
        TRY(render_job(call, &page.jobs[i], &answer->jobs[i]));
    return OK;
}

struct error handle_retrieve_job(struct call *call, const struct api_retrieve_job_request *request,
                                 struct api_job_answer *answer)
{
    struct job job;
    TRY(job_get(call->domain, call->arena, &call->caller, request->path.job_id, &job));
    answer->job = ARENA_NEW(call->arena, struct api_job);
    return render_job(call, &job, answer->job);
}

struct error handle_job_action(struct call *call, const struct api_job_action_request *request,
                               struct api_job_answer *answer)
{
    struct job job;
    if (!request->body.action)
        return error_field("action", "is required: cancel is the one there is");
    TRY(job_cancel(call->domain, call->arena, &call->caller, request->path.job_id, &job));
    scheduler_poke(call->app->scheduler);
    answer->job = ARENA_NEW(call->arena, struct api_job);
    return render_job(call, &job, answer->job);
}
