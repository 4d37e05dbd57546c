/* maquette serve: builds the object graph from the options, answers until a signal, and takes it down in the other
 * order. A data directory holds maquette.db, blobs/, cache/, jobs/ and lock. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "blob/blob.h"
#include "commands.h"
#include "default_base.h"
#include "domain/collector.h"
#include "domain/key.h"
#include "domain/scheduler.h"
#include "domain/transform.h"
#include "domain/url.h"
#include "exec/exec.h"
#include "handlers/api.h"
#include "handlers/documents.h"
#include "handlers/metrics.h"
#include "http/http.h"
#include "media/caption.h"
#include "options.h"
#include "store/db.h"

enum {
    arena_bytes_max = 16 << 20,
    background_readers = 4, /* database connections for the scheduler, the collector and the like */
    drain_ms = 10000,
    own_mapping_bytes = 1 << 20, /* larger blocks of memory come from the system and return to it */
    captioner_timeout_ms = 20000,
};

static const struct option serve_options[] = {
    {"data", "DIR", "data", "database, stored files, job folders; made when absent"},
    {"listen", "HOST:PORT", "127.0.0.1:8787", "numeric address; port 0 takes a free one"},
    {"public-url", "URL", NULL, "how clients reach this server, for the links it gives; default http://HOST:PORT"},
    {"workers", "N", "16", "requests answered at a time"},
    {"network-threads", "N", "1", "threads that read and write sockets"},
    {"executor-slots", "N", "1", "trainings that run at a time"},
    {"trainer-threads", "N", "0", "threads of a training; 0 for all cores"},
    {"trainer-nice", "N", "10", "how much lower than this server's the priority of trainings is"},
    {"base", "DIR", NULL, "base model of sd-1_5-lora in diffusers layout; default: the one that ships"},
    {"base-sdxl", "DIR", NULL, "base model of sd-xl-lora; default: as --base"},
    {"captioner", "URL", NULL,
     "OpenAI-compatible vision API that captions training images; default: what the file says"},
    {"captioner-model", "NAME", NULL, "the model to ask for there"},
    {"captioner-key", "KEY", NULL, "its bearer token; better given as MAQUETTE_CAPTIONER_KEY"},
    {"cache-mb", "N", "1024", "disk space for transformed pictures"},
    {"purge-after", "DAYS", "30", "how long what was deleted is kept, and models can be restored"},
    {"cors-origin", "ORIGIN", NULL, "a web page that may call the API; * for any"},
    {"log-json", NULL, NULL, "log lines as JSON"},
    {"quiet", NULL, NULL, "no log line for each request"},
    {0},
};
static const struct option_set serve_option_set = {
    "maquette serve [options]",
    "Answers the API over HTTP and runs its trainings. The first start on an empty directory makes everything it "
    "needs\n"
    "and prints a key. Ctrl-C or SIGTERM ends it; trainings that run go on and are found again by the next start.",
    serve_options,
};

struct server {
    const struct options *options;
    struct arena arena;
    const char *data;
    int lock;
    sem_t decoding;
    struct domain domain;
    struct executor *executor;
    struct collector *collector;
    struct app app;
    struct http_config config;
    struct http_server *http;
};

static const char *in_data(struct server *server, const char *name)
{
    return arena_printf(&server->arena, "%s/%s", server->data, name);
}

static struct error int_option(const struct server *server, const char *name, int min, int max, int *value)
{
    long long number;
    TRY(options_int(server->options, name, min, max, &number));
    *value = (int)number;
    return OK;
}

/* Absolute, since trainers run elsewhere. */
static struct error open_data(struct server *server)
{
    const char *data = options_text(server->options, "data");
    TRY(fs_make_dirs(data));
    CLEANUP_FREE char *whole = realpath(data, NULL);
    if (!whole)
        return error_errno("find %s", data);
    server->data = arena_strdup(&server->arena, whole);
    server->lock = open(in_data(server, "lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (server->lock < 0)
        return error_errno("open %s/lock", whole);
    if (flock(server->lock, LOCK_EX | LOCK_NB) < 0)
        return error_make(ERR_UNAVAILABLE, "another server uses %s: stop it, or choose another --data", whole);
    return OK;
}

static struct error open_captioner(struct server *server)
{
    const char *url = options_text(server->options, "captioner");
    struct captioner_openai_options openai = {
        .url = url,
        .model = options_text(server->options, "captioner-model"),
        .key = options_text(server->options, "captioner-key"),
        .timeout_ms = captioner_timeout_ms,
    };
    if (url)
        return captioner_openai_create(&server->domain.captioner, &openai);
    server->domain.captioner = captioner_file_create();
    return OK;
}

static struct error open_domain(struct server *server)
{
    struct domain *domain = &server->domain;
    int workers, cache_mb;
    TRY(int_option(server, "workers", 1, db_readers_max - background_readers, &workers));
    TRY(int_option(server, "cache-mb", 1, 1 << 20, &cache_mb));
    TRY(db_open_sqlite(&domain->db, &(struct db_options){.path = in_data(server, "maquette.db"),
                                                         .readers = workers + background_readers}));
    TRY(blob_file_create(&domain->blobs, in_data(server, "blobs")));
    TRY(transform_cache_create(&domain->transforms, in_data(server, "cache"), (int64_t)cache_mb << 20));
    TRY(url_secret_load(domain->db, domain->url_secret));
    sem_init(&server->decoding, 0, decoding_max);
    domain->decoding = &server->decoding;
    return open_captioner(server);
}

/* A directory that is not there is no reason not to serve: a launch says what is missing. */
static const char *base_directory(struct server *server, const char *option, const char *fallback)
{
    const char *given = options_text(server->options, option);
    if (!given)
        return fallback;
    CLEANUP_FREE char *whole = realpath(given, NULL);
    return arena_strdup(&server->arena, whole ? whole : given);
}

static void log_job_failure(const char *job_id, struct error error)
{
    log_event(LOG_ERROR, "job_trouble", "job=%s error=\"%s\"", job_id ? job_id : "none", error.text);
}

static void log_collector_failure(struct error error)
{
    log_event(LOG_ERROR, "collector_trouble", "error=\"%s\"", error.text);
}

static void log_purged(const struct purged *purged)
{
    log_event(LOG_INFO, "purged", "models=%lld assets=%lld", (long long)purged->models, (long long)purged->assets);
}

static struct error start_collector(struct server *server)
{
    enum { day_ms = 24 * 60 * 60 * 1000, days_max = 36500 };
    int days;
    TRY(int_option(server, "purge-after", 0, days_max, &days));
    server->domain.purge_age_ms = (int64_t)days * day_ms;
    return collector_start(&server->collector, &(struct collector_options){
                                                   .domain = &server->domain,
                                                   .jobs_dir = in_data(server, "jobs"),
                                                   .failed = log_collector_failure,
                                                   .purged = log_purged,
                                               });
}

static struct error start_scheduler(struct server *server)
{
    struct scheduler_options options = {.domain = &server->domain, .failed = log_job_failure};
    struct training_settings *settings = &options.settings;
    int nice;
    TRY(int_option(server, "executor-slots", 1, 64, &options.slots));
    TRY(int_option(server, "trainer-threads", 0, 1024, &settings->threads));
    TRY(int_option(server, "trainer-nice", 0, 19, &nice));
    settings->jobs_dir = in_data(server, "jobs");
    TRY(fs_make_dirs(settings->jobs_dir));
    settings->base_sd15 = base_directory(server, "base", default_base_path(&server->arena));
    settings->base_sdxl = base_directory(server, "base-sdxl", settings->base_sd15);
    const char *const command[] = {"/proc/self/exe", "train", NULL};
    TRY(exec_local_create(&server->executor, &(struct exec_local_options){.command = command, .nice = nice}));
    options.executor = server->executor;
    return scheduler_create(&server->app.scheduler, &options);
}

/* "127.0.0.1:8787" or "[::1]:8787" */
static struct error read_listen(struct server *server)
{
    const char *text = options_text(server->options, "listen"), *colon = strrchr(text, ':');
    char *end = NULL;
    long port = colon ? strtol(colon + 1, &end, 10) : -1;
    if (!colon || end == colon + 1 || *end || port < 0 || port > 65535)
        return error_make(ERR_INVALID, "--listen must be HOST:PORT, such as 127.0.0.1:8787");
    char *host = arena_copy(&server->arena, text, (size_t)(colon - text));
    size_t length = strlen(host);
    if (length > 2 && host[0] == '[' && host[length - 1] == ']') {
        host[length - 1] = '\0';
        host++;
    }
    server->config.host = host;
    server->config.port = (int)port;
    return OK;
}

/* Where this server is reached when nobody says: a wildcard address is not one that a client can use. */
static const char *own_url(struct server *server, int port)
{
    const char *host = server->config.host;
    if (!strcmp(host, "0.0.0.0") || !strcmp(host, "::"))
        host = "127.0.0.1";
    return arena_printf(&server->arena, strchr(host, ':') ? "http://[%s]:%d" : "http://%s:%d", host, port);
}

static const char *public_url(struct server *server)
{
    const char *given = options_text(server->options, "public-url");
    if (!given)
        return own_url(server, server->config.port);
    char *url = arena_strdup(&server->arena, given);
    size_t length = strlen(url);
    if (length && url[length - 1] == '/')
        url[length - 1] = '\0';
    return url;
}

static struct error start_http(struct server *server)
{
    struct http_config *config = &server->config;
    http_config_init(config);
    TRY(read_listen(server));
    TRY(int_option(server, "workers", 1, db_readers_max - background_readers, &config->workers));
    TRY(int_option(server, "network-threads", 1, 64, &config->network_threads));
    config->context = &server->app;
    config->handle = api_handle;
    config->early = api_early;
    config->cors_origin = options_text(server->options, "cors-origin");
    config->log_requests = !options_flag(server->options, "quiet");
    server->domain.public_url = public_url(server);
    TRY(http_server_create(config, &server->http));
    if (!config->port && !options_text(server->options, "public-url"))
        server->domain.public_url = own_url(server, http_server_port(server->http)); /* not announced before */
    return OK;
}

static struct error print_first_key(struct server *server, const char *url)
{
    struct key_row *keys;
    struct key_created key;
    size_t count;
    TRY(key_list(server->domain.db, &server->arena, &keys, &count));
    if (count)
        return OK;
    TRY(key_create(server->domain.db, "default", "default", &key));
    printf("\nA first key, shown only now (maquette keys create makes others):\n"
           "  key     %s\n  secret  %s\n\nTry it:\n"
           "  curl -u %s:%s %s/v1/models\n\n",
           key.key_id, key.secret, key.key_id, key.secret, url);
    return OK;
}

static struct error start(struct server *server)
{
    server->app = (struct app){.domain = &server->domain, .metrics = metrics_create(), .version = MAQUETTE_VERSION};
    TRY(open_data(server));
    TRY(open_domain(server));
    TRY(key_ring_create(&server->app.keys, server->domain.db));
    TRY(documents_create(&server->app.documents));
    TRY(start_scheduler(server));
    TRY(start_collector(server));
    TRY(start_http(server));
    const char *url = own_url(server, http_server_port(server->http));
    TRY(print_first_key(server, url));
    printf("maquette %s answers on %s\n", MAQUETTE_VERSION, url);
    fflush(stdout);
    return OK;
}

static void stop(struct server *server)
{
    if (server->http && !http_server_drain(server->http, drain_ms))
        log_event(LOG_WARNING, "drain_cut_short", "limit_ms=%d", drain_ms);
    http_server_destroy(server->http);
    collector_stop(server->collector);
    scheduler_destroy(server->app.scheduler);
    executor_destroy(server->executor);
    key_ring_destroy(server->app.keys);
    documents_destroy(server->app.documents);
    metrics_destroy(server->app.metrics);
    captioner_destroy(server->domain.captioner);
    transform_cache_destroy(server->domain.transforms);
    blob_destroy(server->domain.blobs);
    db_close(server->domain.db);
    if (server->lock >= 0)
        close(server->lock);
    arena_finish(&server->arena);
}

/* Before any thread is made, so that none of them takes the signals that end the server. */
static void block_signals(sigset_t *awaited)
{
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(awaited);
    sigaddset(awaited, SIGINT);
    sigaddset(awaited, SIGTERM);
    pthread_sigmask(SIG_BLOCK, awaited, NULL);
}

static struct error serve(const struct options *options)
{
    struct server server = {.options = options, .lock = -1};
    sigset_t awaited;
    int received;
    log_setup(LOG_INFO, options_flag(options, "log-json"));
    mallopt(M_MMAP_THRESHOLD, own_mapping_bytes); /* a picture's memory goes back when it is done */
    block_signals(&awaited);
    arena_init(&server.arena, arena_bytes_max);
    struct error error = start(&server);
    if (!error.code) {
        sigwait(&awaited, &received);
        log_event(LOG_INFO, "stopping", "signal=%d", received);
    }
    stop(&server);
    return error;
}

int command_serve(int argc, char **argv)
{
    struct options options;
    struct error error = options_parse(&serve_option_set, argc, argv, &options);
    if (!error.code && options.help) {
        options_print_help(&serve_option_set, stdout);
        return exit_ok;
    }
    if (!error.code && options.argument_count)
        error = error_make(ERR_INVALID, "%s is no option", options.arguments[0]);
    if (!error.code)
        error = serve(&options);
    if (!error.code)
        return exit_ok;
    fprintf(stderr, "maquette serve: %s\n", error.text);
    return error.code == ERR_INVALID ? exit_usage : exit_failed;
}
