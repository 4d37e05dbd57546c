/* From an HTTP request to a handler and back: route, key, project, parsing and limits on the way in, JSON or an error
 * on the way out. A handler is a function that api/openapi.yaml names by its operationId; api_routes.h declares them:
 *
 *     struct error handle_update_model(struct call *call, const struct api_update_model_request *request,
 *                                      struct api_model_answer *answer);
 *
 * request holds path, query and body, all within their limits; answer starts zeroed. Operations whose answer is no JSON
 * fill call->response and have no answer parameter; when they leave it alone, {} is sent. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "api_routes.h"
#include "api_types.h"
#include "base/arena.h"
#include "base/error.h"
#include "handlers/app.h"
#include "http/http.h"

struct call {
    struct arena *arena; /* lives until the answer is sent */
    struct app *app;
    const struct domain *domain; /* app->domain */
    struct caller caller;        /* CALLER_NOBODY for operations without credentials */
    const struct route *route;
    struct http_request *request;
    struct http_response *response;
    int64_t now_ms;
    bool original_assets;      /* links in the answer give untouched bytes */
    int status;                /* of a JSON answer; 200 unless the handler sets another */
    const char *error_details; /* JSON for the error's details; NULL: none */
    int64_t retry_s;           /* when an error may have passed, for Retry-After; 0: no retry helps */
};

/* For struct http_config. app is a struct app. */
void api_handle(void *app, struct http_request *request, struct http_response *response);
bool api_early(void *app, struct http_request *request, struct http_response *response);
