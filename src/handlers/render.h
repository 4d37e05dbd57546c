/* Rows of the domain as the contract's objects. What they point to lives in the call's arena. */
#pragma once

#include "domain/asset.h"
#include "domain/dataset.h"
#include "domain/model.h"
#include "domain/plan.h"
#include "domain/training.h"
#include "domain/training_pair.h"
#include "handlers/api.h"

/* With as many training images as the model has loaded. */
struct error render_model(struct call *call, const struct model *model, struct api_model *out)
    __attribute__((warn_unused_result));
void render_training_pair(const struct training_pair *pair, struct api_training_pair *out);
void render_training_image(struct call *call, const struct training_image *image, struct api_training_image *out);
struct error render_asset(struct call *call, const struct asset *asset, struct api_asset *out)
    __attribute__((warn_unused_result));
struct error render_assets(struct call *call, const struct asset *assets, size_t count, struct api_asset **out)
    __attribute__((warn_unused_result));
/* The pieces that a mention of an asset shows too. */
struct api_asset_properties *render_asset_properties(struct call *call, const struct asset *asset);
/* What was asked of the model that made the asset; NULL when it was not generated. */
struct error render_inference(struct call *call, const struct asset *asset, struct api_inference_parameters **out)
    __attribute__((warn_unused_result));

/* Bodies to the JSON text that rows keep. Secrets in parameters are dropped. NULL stays NULL. */
struct error parameters_text(struct arena *arena, const struct api_training_parameters *parameters, const char **text)
    __attribute__((warn_unused_result));
const char *date_text(struct arena *arena, int64_t ms);
/* Gives the error back; for ERR_PLAN_LIMIT after telling the call what its answer's details are and when to retry. */
struct error explain_refusal(struct call *call, struct error error, const struct plan_refusal *refusal)
    __attribute__((warn_unused_result));

/* Operations that can be priced first: whether the query's dryRun ("true", "false", "api" or NULL) asks for that. */
bool is_dry_run(const char *dry_run);
/* Such an answer has a status of its own and another shape. label names what costs, in costDetails; NULL: no details.
 */
struct error respond_quote(struct call *call, const struct training_quote *quote, const char *label)
    __attribute__((warn_unused_result));
