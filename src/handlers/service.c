/* What operators and browsers ask: health, metrics, the contract, the front page. */
#include <stdlib.h>

#include "api_document.h"
#include "domain/health.h"
#include "handlers/api.h"
#include "handlers/metrics.h"

enum { metrics_bytes_max = 1 << 20 };

static const char front_page[] =
    "<!doctype html><html lang=en><meta charset=utf-8><title>maquette</title>\n"
    "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}</style>\n"
    "<h1>maquette</h1>\n"
    "<p>A self-hosted server for models, data sets and LoRA trainings, in the shapes of the Scenario \"Models\" API. "
    "Not affiliated with Scenario. There is no web interface here: this server is used by programs, under "
    "<code>/v1</code>, "
    "with an API key.</p>\n"
    "<ul><li><a href=/openapi.json>openapi.json</a>: every operation, field and limit\n"
    "<li><a href=/healthz>healthz</a>, <a href=/readyz>readyz</a>, <a href=/metrics>metrics</a></ul></html>\n";

static void respond_text(struct call *call, const char *type, const char *text, size_t size)
{
    http_respond_bytes(call->response, 200, type, text, size);
}

struct error handle_serve_health(struct call *call)
{
    respond_text(call, "text/plain; charset=utf-8", "ok\n", 3);
    return OK;
}

struct error handle_serve_readiness(struct call *call)
{
    TRY(health_check(call->domain));
    return handle_serve_health(call);
}

struct error handle_serve_metrics(struct call *call)
{
    struct health_jobs jobs[health_statuses_max];
    size_t count;
    TRY(health_count_jobs(call->domain, call->arena, jobs, &count));
    struct buf out;
    buf_init(&out, metrics_bytes_max);
    metrics_write(call->app->metrics, &out);
    buf_puts(&out, "# HELP maquette_jobs Jobs that wait or run.\n# TYPE maquette_jobs gauge\n");
    for (size_t i = 0; i < count; i++)
        buf_printf(&out, "maquette_jobs{status=\"%s\"} %lld\n", jobs[i].status, (long long)jobs[i].count);
    http_respond_buf(call->response, 200, "text/plain; version=0.0.4; charset=utf-8", &out);
    buf_finish(&out);
    return OK;
}

struct error handle_serve_contract(struct call *call)
{
    respond_text(call, "application/json", (const char *)api_document, api_document_size);
    return OK;
}

struct error handle_serve_front_page(struct call *call)
{
    respond_text(call, "text/html; charset=utf-8", front_page, sizeof front_page - 1);
    return OK;
}
