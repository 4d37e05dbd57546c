/* A temporary world of job folders, run by the embedded trainer on the base that ships. A picture is a line of text
 * here, "picture SHADE WIDTH HEIGHT", or "rgb WIDTH HEIGHT" and its bytes: the engine knows no image formats. */
#pragma once

#include "unit.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/json.h"
#include "engine/safetensors.h"
#include "engine/trainer.h"

enum { job_path_max = 512 };

extern char job_world[], job_base[job_path_max];
extern const char *job_type; /* "sd-1_5-lora" unless set */
extern volatile sig_atomic_t job_stop;

void job_world_init(void);
void job_world_finish(void);

void path_in(const char *job, const char *name, char path[job_path_max]);
void write_text(const char *job, const char *name, const char *text);
/* Three pictures; parameters begin with a comma and are added to a learning rate of 5e-6 and, if they have none,
 * rank 2. */
void make_job(const char *job, const char *parameters, const char *prompts);
enum trainer_exit run_with(const char *job, unsigned threads, struct trainer_options options);
enum trainer_exit run(const char *job, unsigned threads); /* with a state after every step */
void run_and_kill(const char *job, unsigned states);      /* when the folder's events have so many states */

char *file_of(struct arena *arena, const char *job, const char *name, size_t *size);
bool has_file(const char *job, const char *name);
size_t count_files(const char *job, const char *pattern);
bool same_file(const char *left, const char *right, const char *name);
void assert_same_file(const char *left, const char *right, const char *name);
/* Sequence numbers of all events must rise by one. */
const struct json *last_event(struct arena *arena, const char *job);
const struct json *last_event_named(struct arena *arena, const char *job, const char *name);
unsigned count_events(const char *job, const char *name);
void assert_failed(const char *job, const char *reason, const char *words);
const struct json *result_of(struct arena *arena, const char *job);
