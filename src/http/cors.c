/* Cross-origin requests of browsers (Fetch standard). Credentials are explicit headers, never cookies, so "*" is safe:
 * a foreign page knows no key. */
#include <string.h>

#include "http/exchange.h"

const char *cors_allowed_origin(const struct exchange *exchange)
{
    const char *allowed = exchange->server->config.cors_origin;
    if (!allowed || !http_request_header(&exchange->request, "Origin"))
        return NULL;
    return allowed;
}

bool cors_preflight(struct exchange *exchange)
{
    const struct http_request *request = &exchange->request;
    if (!http_request_is(request, "OPTIONS") || !cors_allowed_origin(exchange) ||
        !http_request_header(request, "Access-Control-Request-Method"))
        return false;
    struct http_response *response = &exchange->response;
    response->status = 204;
    http_add_header(response, "Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE");
    http_add_header(response, "Access-Control-Allow-Headers",
                    "Authorization, Content-Type, If-None-Match, If-Range, Range, X-Request-Id");
    http_add_header(response, "Access-Control-Max-Age", "86400");
    return true;
}
