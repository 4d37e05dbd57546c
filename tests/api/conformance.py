"""The table of the conformance suite: operation, what is asked, and the answer's status and reason.

"$name" is a thing of the world that test_conformance.py makes; $fresh, $ready and $running are made anew for each row.
Texts are those of the real service where they are known, else the pattern `FIELD must ...`."""

UNKNOWN = "model_111111111111111111111111"
NO_ASSET = "asset_111111111111111111111111"
NO_MODEL = f"Model {UNKNOWN} not found$"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
STALE = "must be used together with sortBy"

ROWS = []


def row(operation_id, title, status, reason=None, params=None, json=None, caller="owner", **path):
    ROWS.append((operation_id, title, status, reason, params or {}, json, caller, path))


# Every kind of model, read in every way.
KINDS = ("minimal", "empty", "full", "trained", "failed", "canceled", "queued", "copied", "copied_trained", "composition", "foreign")
for kind in KINDS:
    row("retrieve_model", kind, 200, modelId=f"${kind}")
    row("retrieve_model", f"{kind}, originals", 200, modelId=f"${kind}", params={"originalAssets": True})
    row("retrieve_description", kind, 200, modelId=f"${kind}")
    row("list_examples", kind, 200, modelId=f"${kind}")
ALL = [f"${kind}" for kind in KINDS]
for switches in ({}, {"minimal": True}, {"thumbnail": True}, {"settings": True}, {"allTrainingImages": True}, {"trainingImagesPreview": True},
                 {"thumbnail": True, "settings": True, "allTrainingImages": True, "trainingImagesPreview": True},
                 {"minimal": True, "thumbnail": True, "settings": True, "allTrainingImages": True}):
    row("get_bulk_models", f"every kind, {' '.join(switches) or 'plain'}", 200, json={"modelIds": ALL, **switches})
row("get_bulk_models", "no ids", 200, json={"modelIds": []})
row("get_bulk_models", "unknown ids are passed over", 200, json={"modelIds": [UNKNOWN, "$empty"]})
row("get_bulk_models", "501 ids", 400, "modelIds must be at most 500 items long", json={"modelIds": ["x"] * 501})
row("retrieve_model", "unknown", 404, NO_MODEL, modelId=UNKNOWN)
row("retrieve_model", "a name that is too long to be repeated whole", 404, "^Model x\U0001f600+ not found$", modelId="x" + "\U0001f600" * 20)
row("retrieve_model", "of another project", 404, "not found$", modelId="$empty", caller="stranger")
row("retrieve_model", "public, from outside", 200, modelId="$public", caller="stranger")
row("retrieve_model", "public, with the public token", 200, modelId="$public", caller="public token")
row("retrieve_model", "private, with the public token", 404, "not found$", modelId="$empty", caller="public token")
row("retrieve_model", "for a project that is not the key's", 403, "no access to project", params={"projectId": "proj_x"}, modelId="$empty")
row("retrieve_model", "without a key", 401, "API key", modelId="$empty", caller="nobody")
row("retrieve_public_model", "public", 200, modelId="$public")
row("retrieve_public_model", "private", 404, "not found$", modelId="$empty")

# GET /models
for status in ("new", "training", "trained", "failed", "deleted"):
    row("list_models", status, 200, params={"status": status})
for params in ({}, {"pageSize": 1}, {"pageSize": 500}, {"privacy": "private", "status": "new", "sortBy": "score"},
               {"sortBy": "createdAt", "sortDirection": "asc", "createdAfter": "2020-01-01T00:00:00.000Z", "createdBefore": "2100-01-01T00:00:00.000Z"},
               {"privacy": "public"}, {"privacy": "public", "tags": "ink,other", "types": "sd-1_5-lora,sd-xl-lora"},
               {"privacy": "public", "type": "flux.1-lora", "sortBy": "updatedAt", "updatedAfter": "2020-01-01T00:00:00.000Z"},
               {"collectionId": "col_x"}, {"privacy": "public", "collectionIds": "col_x,col_y"}, {"loadedOnly": True}, {"originalAssets": True}):
    row("list_models", " ".join(params) or "plain", 200, params=params)
row("list_models", "public, with the public token", 200, params={"privacy": "public"}, caller="public token")
row("list_models", "private, with the public token", 403, "public-auth-token", caller="public token")
for title, reason, params in (
        ("a page of none", "pageSize must be at least 1", {"pageSize": 0}), ("a page of 501", "pageSize must be at most 500", {"pageSize": 501}),
        ("a token of ours that is none", "paginationToken", {"paginationToken": "garbage"}), ("an unknown privacy", "privacy", {"privacy": "secret"}),
        ("an unknown status", "status", {"status": "ready"}), ("an unknown order", "sortBy", {"sortBy": "name"}),
        ("a direction alone", STALE, {"sortDirection": "asc"}), ("a direction of scores", STALE, {"privacy": "public", "sortBy": "score", "sortDirection": "asc"}),
        ("a date of creation alone", "createdAfter", {"createdAfter": "2026-01-01T00:00:00.000Z"}), ("no date", "createdAfter", {"sortBy": "createdAt", "createdAfter": "yesterday"}),
        ("a date of change of private models", "updatedAfter|sortBy", {"sortBy": "updatedAt", "updatedAfter": "2026-01-01T00:00:00.000Z"}),
        ("scores of private models of any status", "score", {"sortBy": "score"}),
        ("a type of private models", "type", {"type": "flux.1-lora"}), ("types of private models", "types", {"types": "flux.1-lora"}),
        ("tags of private models", "tags", {"tags": "ink"}), ("collections of private models", "collectionIds", {"collectionIds": "col_x"}),
        ("a collection of public models", "collectionId", {"privacy": "public", "collectionId": "col_x"}),
        ("type and types", "type", {"privacy": "public", "type": "flux.1-lora", "types": "flux.1-lora"}), ("an unknown type", "type", {"privacy": "public", "type": "sd-9"})):
    row("list_models", title, 400, reason, params=params)
row("list_public_models", "by score", 200)
row("list_public_models", "by date", 200, params={"sortBy": "createdAt"})
row("list_public_models", "a page of none", 400, "pageSize", params={"pageSize": 0})

# POST and PUT /models
for title, json in (("nothing", None), ("an empty body", {}), ("everything", {"name": "n" * 64, "shortDescription": "d" * 256, "type": "sd-xl-lora", "classSlug": "items"}),
                    ("a composition", {"type": "flux.1-composition", "concepts": [{"modelId": "$flux", "scale": 0.5}]}), ("null for a class", {"classSlug": None})):
    row("create_model", title, 200, json=json)
FIELDS = (("a name of 65", "name must be at most 64", {"name": "n" * 65}), ("a name that is a number", "name must be a string", {"name": 7}),
          ("a description of 257", "shortDescription must be at most 256", {"shortDescription": "d" * 257}), ("an unknown type", "type", {"type": "sd-9"}),
          ("a concept of scale 3", r"concepts\[0\].scale must be at most 2", {"concepts": [{"modelId": "m", "scale": 3}]}),
          ("a concept without a scale", r"concepts\[0\].scale", {"concepts": [{"modelId": "m"}]}))
for title, reason, json in FIELDS:
    row("create_model", title, 400, reason, json=json)
    row("update_model", title, 400, reason, json=json, modelId="$fresh")
row("create_model", "a composition of nothing", 400, "concepts", json={"type": "flux.1-composition"})
row("update_model", "everything", 200, modelId="$ready", json={
    "name": "other", "shortDescription": "short", "classSlug": "items", "promptEmbedding": "ink", "negativePromptEmbedding": "blur", "type": "sd-xl-lora",
    "parameters": {"rank": 8, "learningRate": 0.001, "samplePrompts": ["a disc"]}, "thumbnail": "$ready.0"})
row("update_model", "nulls unset", 200, json={"classSlug": None, "thumbnail": None, "epoch": None}, modelId="$full")
row("update_model", "a rank of 1", 400, "parameters.rank must be at least 2", json={"parameters": {"rank": 1}}, modelId="$fresh")
row("update_model", "a thumbnail that is none", 404, f"Asset {NO_ASSET} not found", json={"thumbnail": NO_ASSET}, modelId="$fresh")
row("update_model", "a type after training", 400, "type", json={"type": "sd-xl-lora"}, modelId="$trained")
row("update_model", "an epoch without epochs", 400, "epoch", json={"epoch": "000001"}, modelId="$fresh")
row("update_model", "unknown", 404, NO_MODEL, json={"name": "x"}, modelId=UNKNOWN)
row("update_model", "of another project, public", 403, "belongs to another project", json={"name": "x"}, modelId="$public", caller="stranger")
row("delete_model", "unknown", 404, NO_MODEL, modelId=UNKNOWN)
row("delete_model", "while it trains", 200, modelId="$running")
row("restore_model", "deleted", 200, modelId="$gone")
row("restore_model", "not deleted", 400, "is not deleted$", modelId="$empty")
row("restore_model", "unknown", 404, NO_MODEL, modelId=UNKNOWN)

# copy, download, images, tags, transfer
row("copy_model", "without examples", 200, json={"copyExamples": False}, modelId="$full")
row("copy_model", "trained", 200, json={"copyAsTrained": True}, modelId="$trained")
row("copy_model", "as trained what is not", 400, "trained", json={"copyAsTrained": True}, modelId="$full")
row("copy_model", "unknown", 404, NO_MODEL, modelId=UNKNOWN)
row("copy_model", "public, by another project", 200, modelId="$public", caller="stranger")
row("download_model", "trained", 200, json={}, modelId="$trained")
row("download_model", "an epoch", 200, json={"modelEpoch": "000001"}, modelId="$trained")
row("download_model", "an epoch that is none", 400, "000099", json={"modelEpoch": "000099"}, modelId="$trained")
row("download_model", "not trained", 400, "train it first", json={}, modelId="$empty")
row("download_model", "unknown", 404, NO_MODEL, json={}, modelId=UNKNOWN)
row("delete_model_images", "one", 200, params={"ids": ["$ready.0"]}, modelId="$ready")
row("delete_model_images", "no ids", 400, "ids", params={"ids": []}, modelId="$full")
row("delete_model_images", "not the model's", 404, f"{NO_ASSET} not found|{NO_ASSET}", params={"ids": [NO_ASSET]}, modelId="$full")
row("delete_model_images", "unknown", 404, NO_MODEL, params={"ids": [NO_ASSET]}, modelId=UNKNOWN)
row("update_model_tags", "strict", 200, json={"add": ["new"], "strict": True}, modelId="$fresh")
row("update_model_tags", "nothing", 200, json={}, modelId="$fresh")
row("update_model_tags", "strict, there already", 400, "add", json={"add": ["ink"], "strict": True}, modelId="$full")
row("update_model_tags", "strict, not there", 400, "delete", json={"delete": ["nope"], "strict": True}, modelId="$full")
row("update_model_tags", "a comma", 400, "add", json={"add": ["a,b"]}, modelId="$full")
row("update_model_tags", "unknown", 404, NO_MODEL, json={"add": ["a"]}, modelId=UNKNOWN)
row("transfer_model", "to a project of the team", 200, json={"destinationProjectId": "$sibling"}, modelId="$fresh")
row("transfer_model", "nowhere", 400, "destinationProjectId", json={}, modelId="$fresh")
row("transfer_model", "to another team unasked", 403, "", json={"destinationProjectId": "$elsewhere", "destinationTeamId": "$otherTeam"}, modelId="$fresh")
row("transfer_model", "while it trains", 400, "training", json={"destinationProjectId": "$sibling"}, modelId="$queued")
row("transfer_model", "unknown", 404, NO_MODEL, json={"destinationProjectId": "$sibling"}, modelId=UNKNOWN)

# description, examples
row("update_description", "mentions", 200, json={"description": "see {asset:$ready.0}, {model:$public} and {asset:asset_none}"}, modelId="$ready")
row("update_description", "null deletes", 200, json={"description": None}, modelId="$fresh")
row("update_description", "nothing", 400, "description", json={}, modelId="$fresh")
row("update_description", "too long", 400, "description must be at most", json={"description": "x" * 65537}, modelId="$fresh")
row("update_description", "unknown", 404, NO_MODEL, json={"description": "x"}, modelId=UNKNOWN)
row("retrieve_description", "unknown", 404, NO_MODEL, modelId=UNKNOWN)
row("update_examples", "a sample and an upload", 200, json={"assetIds": ["$sample", "$ready.1"]}, modelId="$ready")
row("update_examples", "none", 200, json={"assetIds": []}, modelId="$ready")
row("update_examples", "151", 400, "assetIds must be at most 150 items long", json={"assetIds": ["x"] * 151}, modelId="$ready")
row("update_examples", "nothing", 400, "assetIds", json={}, modelId="$ready")
row("update_examples", "one twice", 400, "assetIds", json={"assetIds": ["$ready.0", "$ready.0"]}, modelId="$ready")
row("update_examples", "unknown", 404, f"Asset {NO_ASSET} not found", json={"assetIds": [NO_ASSET]}, modelId="$ready")
row("list_examples", "unknown", 404, NO_MODEL, modelId=UNKNOWN)

# train
row("trigger_training", "dry", 269, params={"dryRun": "true"}, json={"parameters": {}}, modelId="$ready")
row("trigger_training", "dry, as the SDK says it", 269, params={"dryRun": "api", "trainingImagesCount": 20}, json={"parameters": {}}, modelId="$empty")
row("trigger_training", "a composition", 200, json={"parameters": {}}, modelId="$composed")
row("trigger_training", "while it trains", 400, "^Model is already training$", json={}, modelId="$queued")
row("trigger_training", "no images", 400, "image", json={}, modelId="$empty")
row("trigger_training", "an edit model without pairs", 400, "at least 2 training image pairs", json={}, modelId="$edit")
row("trigger_training", "no trainer for it", 400, "trainer", json={}, modelId="$flux_ready")
row("trigger_training", "a rank of 1", 400, "parameters.rank must be at least 2", json={"parameters": {"rank": 1}}, modelId="$ready")
row("trigger_training", "a trigger word of 25", 400, "conceptPrompt", json={"parameters": {"conceptPrompt": "c" * 25}}, modelId="$musubi")
row("trigger_training", "unknown", 404, NO_MODEL, json={}, modelId=UNKNOWN)
row("trigger_training", "over the plan", 429, "^You have reached your plan's limit. Please upgrade your plan to continue using this feature.$", json={}, modelId="$limited", caller="limited")
row("add_training_image", "over the plan", 429, "^You have reached your plan's limit", json={"data": f"data:image/png;base64,{PIXEL}", "name": "x"}, modelId="$limited", caller="limited")
row("training_action", "running", 200, json={"action": "cancel"}, modelId="$running")
row("training_action", "not training", 400, "Model is not training", json={"action": "cancel"}, modelId="$fresh")
row("training_action", "no action", 400, "action", json={}, modelId="$fresh")
row("training_action", "another action", 400, "action", json={"action": "pause"}, modelId="$fresh")
row("training_action", "unknown", 404, NO_MODEL, json={"action": "cancel"}, modelId=UNKNOWN)

# training images, pairs
DATA = {"data": f"data:image/png;base64,{PIXEL}", "name": "pixel.png"}
row("add_training_image", "data", 200, json={**DATA, "preset": "style"}, modelId="$fresh")
row("add_training_image", "an asset", 200, json={"assetId": "$upload"}, modelId="$fresh")
row("add_training_image", "assets", 200, json={"assetIds": ["$upload", "$full.0"]}, modelId="$fresh")
IMAGES = (("nothing", "", {}), ("data without a name", "name", {"data": DATA["data"]}), ("no data URL", "data", {"data": "hello", "name": "x"}),
          ("no picture", "data|image", {"data": "data:image/png;base64,aGVsbG8=", "name": "x"}), ("a path for an asset", "assetId", {"assetId": "./disc.png"}),
          ("a link for an asset", "assetId", {"assetId": "https://example.com/disc.png"}), ("a preset of none", "preset", {**DATA, "preset": "poem"}))
for title, reason, json in IMAGES:
    row("add_training_image", title, 400, reason, json=json, modelId="$fresh")
    row("replace_training_image", title, 400, reason, json=json, modelId="$full", trainingImageId="$full.0")
row("add_training_image", "assetIds with data", 400, "assetIds", json={**DATA, "assetIds": ["$upload"]}, modelId="$fresh")
row("add_training_image", "eleven", 400, "^Too many assetIds provided in a single request$", json={"assetIds": ["x"] * 11}, modelId="$fresh")
row("add_training_image", "one that is there", 400, "^The provided assetId is already a training image of this model$", json={"assetId": "$full.0"}, modelId="$full")
row("add_training_image", "an unknown asset", 404, f"Asset {NO_ASSET} not found", json={"assetId": NO_ASSET}, modelId="$fresh")
row("add_training_image", "while it trains", 400, "Model is already training", json=DATA, modelId="$queued")
row("add_training_image", "unknown", 404, NO_MODEL, json=DATA, modelId=UNKNOWN)
row("replace_training_image", "an asset", 200, json={"assetId": "$upload"}, modelId="$ready", trainingImageId="$ready.0")
row("replace_training_image", "an unknown image", 404, "asset_none not found", json=DATA, modelId="$full", trainingImageId="asset_none")
row("replace_training_image", "unknown", 404, NO_MODEL, json=DATA, modelId=UNKNOWN, trainingImageId="asset_none")
row("delete_training_image", "an unknown image", 404, "asset_none not found", modelId="$full", trainingImageId="asset_none")
row("delete_training_image", "unknown", 404, NO_MODEL, modelId=UNKNOWN, trainingImageId="asset_none")
row("replace_training_pairs", "none", 200, json=[], modelId="$ready")
row("replace_training_pairs", "without a word", 200, json=[{"sourceId": "$ready.0", "targetId": "$ready.1"}], modelId="$ready")
row("replace_training_pairs", "half a pair", 400, r"\[0\].targetId", json=[{"sourceId": "$full.0"}], modelId="$full")
row("replace_training_pairs", "a foreign image", 400, r"\[0\].sourceId asset_none is not a training image", json=[{"sourceId": "asset_none", "targetId": "$full.0"}], modelId="$full")
row("replace_training_pairs", "unknown", 404, NO_MODEL, json=[], modelId=UNKNOWN)

# pictures of a prompt
ASKED = {"modelId": "$trained", "prompt": "a disc"}
row("generate_txt2img", "no prompt", 400, "^Input prompt is required$", json={"modelId": "$trained"})
row("generate_txt2img", "no model", 400, "^Input modelId is required$", json={"prompt": "a disc"})
row("generate_txt2img", "an unknown model", 404, NO_MODEL, json={**ASKED, "modelId": UNKNOWN})
row("generate_txt2img", "another project's model", 404, "not found$", json=ASKED, caller="stranger")
row("generate_txt2img", "a model of another family", 400, r"^Invalid model\(s\): \S+\nAllowed model types: sd-1_5-lora", json={**ASKED, "modelId": "$musubi"})
row("generate_txt2img", "7 LoRAs", 400, "^Input loras must be at most 6 items long$", json={**ASKED, "loras": [{"modelId": "x"}] * 7})
row("generate_txt2img", "a strong LoRA", 400, r"^Input loras\[0\].weight must be at most 2$", json={**ASKED, "loras": [{"modelId": "x", "weight": 3}]})
row("generate_img2img", "no image", 400, "^Input image is required$", json=ASKED)
row("generate_img2img", "an unknown image", 404, "^Asset asset_none not found$", json={**ASKED, "image": "asset_none"})
row("generate_img2img", "another project's image", 404, "not found$", json={**ASKED, "modelId": "sd-1_5", "image": "$ready.0"}, caller="stranger")
row("generate_img2img", "no strength", 400, "^Input strength must be at least 0.01$", json={**ASKED, "image": "$ready.0", "strength": 0})
row("generate_txt2img", "too narrow", 400, "^Input width must be at least 64$", json={**ASKED, "width": 32})

# jobs, assets, tags
for params in ({}, {"pageSize": 1}, {"status": "success"}, {"type": "model-training"}, {"types": "model-training,model-download"}, {"authorId": "x"}, {"hideResults": True}):
    row("list_jobs", " ".join(params) or "plain", 200, params=params)
row("list_jobs", "a page of 201", 400, "pageSize must be at most 200", params={"pageSize": 201})
row("list_jobs", "an unknown type", 400, "type", params={"type": "nap"})
for job in ("trained_job", "failed_job", "canceled_job", "queued_job", "download_job"):
    row("retrieve_job", job, 200, jobId=f"${job}")
row("retrieve_job", "unknown", 404, "job_x not found", jobId="job_x")
row("job_action", "a download", 400, "^Cannot cancel this type of job$", json={"action": "cancel"}, jobId="$download_job")
row("job_action", "a training", 400, "^Cannot cancel this type of job$", json={"action": "cancel"}, jobId="$queued_job")
row("job_action", "unknown", 404, "job_x not found", json={"action": "cancel"}, jobId="job_x")
for asset in ("upload", "svg", "sample", "full.0", "copied_asset", "captioned"):
    row("retrieve_asset", asset, 200, assetId=f"${asset}")
row("retrieve_asset", "unknown", 404, f"Asset {NO_ASSET} not found", assetId=NO_ASSET)
row("create_asset", "everything", 200, json={"name": "all", "image": PIXEL, "hide": True, "parentId": "$upload"})
row("create_asset", "nothing in it", 400, "Either 'image' or 'canvas' must be provided", json={"name": "x"})
row("create_asset", "no picture", 400, "Unhandled image format", json={"name": "x", "image": "aGVsbG8="})
row("create_asset", "no base64", 400, "image", json={"name": "x", "image": "%%%"})
row("create_asset", "no name", 400, "name", json={"image": PIXEL})
row("update_asset", "a caption", 200, json={"description": "a pixel", "name": "pixel"}, assetId="$upload")
row("update_asset", "a caption without end", 400, "description must be at most", json={"description": "x" * 4097}, assetId="$upload")
row("update_asset_tags", "a comma", 400, "add", json={"add": ["a,b"]}, assetId="$upload")
row("list_assets", "plain", 200)
row("list_assets", "by a model", 200, params={"modelId": "$trained", "pageSize": 1})
row("list_assets", "a page of 101", 400, "pageSize must be at most 100", params={"pageSize": 101})
row("list_assets", "a date alone", 400, "createdAfter|sortBy", params={"createdAfter": "2026-01-01T00:00:00.000Z"})
row("get_bulk_assets", "every kind", 200, json={"assetIds": ["$upload", "$svg", "$sample", "$full.0", NO_ASSET]})
row("get_bulk_assets", "201", 400, "assetIds must be at most 200 items long", json={"assetIds": ["x"] * 201})
row("delete_assets", "101", 400, "assetIds must be at most 100 items long", json={"assetIds": ["x"] * 101})
row("delete_assets", "unknown", 404, NO_ASSET, json={"assetIds": [NO_ASSET]})
row("copy_asset", "unknown", 404, f"Asset {NO_ASSET} not found", assetId=NO_ASSET)
row("download_asset", "as WebP", 200, json={"targetFormat": "webp"}, assetId="$upload")
row("download_asset", "as a poem", 400, "Invalid target format", json={"targetFormat": "poem"}, assetId="$upload")
row("list_tags", "a page of 101", 400, "pageSize must be at most 100", params={"pageSize": 101})
