/* Answers kept as the bytes that were sent, so that polling clients cost a hash and a copy. A document is current while
 * db_generation is what it was before the document was made; any write retires them all, which needs no thought about
 * which rows an answer is made of. Bounded: documents_max of at most document_bytes_max, 16 MiB. Thread-safe. */
#pragma once

#include "base/fields.h"
#include "handlers/api.h"

enum { documents_max = 1024, document_bytes_max = 16384 };

struct documents;
struct error documents_create(struct documents **documents) __attribute__((warn_unused_result));
void documents_destroy(struct documents *documents); /* NULL is fine */

/* Answers the call when there is a current document of this key, which must name all that the answer depends on beside
 * the database: project, path, links' date. */
bool documents_recall(struct call *call, const char *key, uint64_t generation);
/* Writes the answer as JSON, keeps it, and responds with it. generation is from before the answer's data was read. */
struct error documents_answer(struct call *call, const char *key, uint64_t generation, const struct fields *fields,
                              const void *answer) __attribute__((warn_unused_result));
