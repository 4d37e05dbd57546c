"""Starting trainings: what each of the 37 types can be told, what data it needs, compositions, and the answers."""
import pytest

from conftest import data_url, make_trained, png
from contract import DOCUMENT

TYPES = DOCUMENT["components"]["schemas"]["ModelType"]["enum"]
HOSTED = {"custom", "flux.1", "flux.1-kontext-dev", "flux.1-krea-dev", "flux.1-pro", "flux.1.1-pro-ultra", "flux1.1-pro",
          "gpt-image-1"}
COMPOSITIONS = {"flux.1-composition": "flux.1-lora", "sd-1_5-composition": "sd-1_5-lora", "sd-xl-composition": "sd-xl-lora"}
EMBEDDED = {"sd-1_5-lora", "sd-xl-lora"}
EDIT = {name for name in TYPES if "edit-lora" in name or "-edit-" in name} | {"flux.1-kontext-lora"}


def family(name):
    if name in HOSTED or name in COMPOSITIONS:
        return "none"
    if name.startswith("sd-"):
        return "xl" if name.startswith("sd-xl") else "sd"
    if name == "elevenlabs-voice":
        return "voice"
    if name.startswith("flux.1"):
        return "flux"
    return "edit" if name in EDIT else "musubi"


SD, FLUX, MUSUBI, VOICE = {"sd", "xl"}, {"flux"}, {"musubi", "edit"}, {"voice"}

# name, families, values that are taken, values that are refused. A family without a row ignores the parameter.
NUMBERS = [
    ("batchSize", SD | FLUX, [1, 4], [0, 5, 1.5]),
    ("batchSize", MUSUBI, [1, 8], [0, 9, 1.5]),
    ("nbEpochs", SD | FLUX, [1, 30], [0, 31]),
    ("nbEpochs", MUSUBI, [1, 100], [0, 101]),
    ("nbRepeats", SD | FLUX, [1, 30], [0, 31]),
    ("nbRepeats", MUSUBI, [1, 100], [0, 101]),
    ("learningRate", SD | FLUX, [1e-9, 1], [0, -1]),
    ("learningRate", MUSUBI, [1e-5, 1e-3], [9e-6, 1.1e-3]),
    ("learningRateTextEncoder", SD, [1e-9, 1e-3], [1.1e-3]),
    ("learningRateTextEncoder", FLUX, [1e-6, 1e-3], [9e-7, 1.1e-3]),
    ("learningRateUnet", SD, [1e-9, 1], [0]),
    ("rank", FLUX, [2, 64], [1, 65]),
    ("rank", SD | MUSUBI, [2, 128], [1, 129, 2.5]),
    ("maxTrainSteps", FLUX, [0, 10000], [-1, 10001]),
    ("maxTrainSteps", SD, [0, 40000], [-1, 40001]),
    ("numTextTrainSteps", SD, [0, 40000], [-1, 40001]),
    ("numUNetTrainSteps", SD, [0, 40000], [-1, 40001]),
    ("priorLossWeight", SD, [0.1, 1.7976931348623157], [0, 1.8]),
    ("randomCropRatio", SD, [0, 1], [-0.1, 1.1]),
    ("randomCropScale", SD, [0, 1], [-0.1, 1.1]),
    ("textEncoderTrainingRatio", SD, [0, 0.99], [-0.1, 1]),
    ("validationFrequency", SD, [0, 100], [-1, 40001]),
    ("seed", SD | FLUX | MUSUBI, [0, 9007199254740991], [-1, 9007199254740992, 0.5]),
]
OTHERS = [
    ("conceptPrompt", SD | FLUX, ["", "x" * 200], ["x" * 201]),
    ("conceptPrompt", MUSUBI, ["", "x" * 20, "\u00e9" * 20], ["x" * 21]),
    ("samplePrompts", SD | FLUX, [[], ["a"] * 8], [["a"] * 9]),
    ("samplePrompts", MUSUBI, [[], ["a"] * 4], [["a"] * 5]),
    ("sampleSourceImages", FLUX | {"edit"}, [[]], [["asset_x"]]),
    ("lrScheduler", SD, ["constant", "constant-with-warmup", "cosine", "cosine-with-restarts", "linear", "polynomial"], ["cosin"]),
    ("optimizeFor", FLUX, ["likeness"], ["all"]),
    ("randomCrop", SD, [True, False], ["true"]),
    ("scaleLr", SD, [True, False], [1]),
    ("classPrompt", SD, ["a dog"], [7]),
    ("validationPrompt", SD, ["a dog"], [7]),
    ("cloneType", VOICE, ["instant", "professional"], ["slow"]),
    ("language", VOICE, ["en"], ["english", "EN"]),
    ("age", VOICE, ["old"], [7]),
    ("gender", VOICE, ["female"], [7]),
    ("removeBackgroundNoise", VOICE, [True], ["yes"]),
    ("voiceDescription", VOICE, ["warm"], [7]),
]
RULES = NUMBERS + OTHERS
ASKED = {"params": {"dryRun": "true", "trainingImagesCount": 10}}


def quote(client, model, parameters, **query):
    """A dry run as if there were ten images: checks everything and starts nothing."""
    params = {**ASKED["params"], **query}
    return client.call("PUT", f"/models/{model['id']}/train", params=params, json={"parameters": parameters})


def test_the_tables_speak_of_every_parameter_and_type():
    assert len(TYPES) == 37 and {rule[0] for rule in RULES} | {"wandbKey"} == \
        set(DOCUMENT["components"]["schemas"]["TrainingParameters"]["properties"])


@pytest.mark.parametrize("name", [name for name in TYPES if name not in COMPOSITIONS])
def test_each_type_keeps_its_bounds(client, name):
    model = client.create_model(type=name)
    for parameter, families, good, bad in RULES:
        if family(name) not in families:
            continue
        for value in good:
            answer = quote(client, model, {parameter: value})
            if name in EMBEDDED:
                assert answer.status_code == 269, (parameter, value, answer.text)
            else:
                assert answer.json()["reason"].startswith("No trainer is configured"), (parameter, value, answer.text)
        for value in bad:
            answer = quote(client, model, {parameter: value})
            assert answer.status_code == 400 and answer.json()["reason"].startswith(f"parameters.{parameter}"), \
                (parameter, value, answer.text)
            client.refused(400, "PUT", f"/models/{model['id']}", json={"parameters": {parameter: value}})


@pytest.mark.parametrize("name", ["sd-1_5-lora", "flux.1-lora", "flux.2-dev-lora", "elevenlabs-voice", "gpt-image-1"])
def test_what_a_family_does_not_have_is_ignored(client, name):
    model = client.create_model(type=name)
    foreign = {parameter: good[0] for parameter, families, good, _ in RULES if family(name) not in families
               and not any(family(name) in other[1] for other in RULES if other[0] == parameter)}
    answer = quote(client, model, foreign)
    if name in EMBEDDED:
        assert answer.status_code == 269
    else:
        wanted = "Models of type gpt-image-1 cannot be trained" if name in HOSTED else "No trainer is configured"
        assert answer.json()["reason"].startswith(wanted)
    assert client.ok("PUT", f"/models/{model['id']}", json={"parameters": foreign})


def test_musubi_says_its_name_and_the_limit(client):
    model = client.create_model(type="flux.2-dev-lora")
    reason = quote(client, model, {"conceptPrompt": "twenty-five characters..."}).json()["reason"]
    assert reason == "parameters.conceptPrompt must be at most 20 characters long (Musubi validation error)"
    assert quote(client, model, {"conceptPrompt": "esports-sim-diorama", "rank": 64, "nbRepeats": 20, "batchSize": 1,
                                 "nbEpochs": 10, "learningRate": 0.00005}).json()["reason"].startswith("No trainer")


def test_parameters_that_depend_on_each_other(client):
    model = client.create_model()
    reason = quote(client, model, {"maxTrainSteps": 10, "validationFrequency": 11}).json()["reason"]
    assert reason == "parameters.validationFrequency must be at most maxTrainSteps, which is 10"
    assert quote(client, model, {"validationFrequency": 750}).status_code == 269  # 10 images give 750 steps
    assert quote(client, model, {"validationFrequency": 751}).status_code == 400
    flux = client.create_model(type="flux.1-lora")
    image = client.add_image(model["id"], data_url(png(seed=4)))["id"]
    pair = {"samplePrompts": ["a", "b"], "sampleSourceImages": [image]}
    assert quote(client, flux, pair).json()["reason"] == "parameters.sampleSourceImages must be the same length as samplePrompts"
    assert quote(client, flux, {**pair, "samplePrompts": ["a"]}).json()["reason"].startswith("No trainer")
    reason = quote(client, flux, {"samplePrompts": ["a"], "sampleSourceImages": ["asset_unknown"]}).json()["reason"]
    assert reason == "parameters.sampleSourceImages[0] must be the id of an asset"


def test_stored_parameters_are_checked_again_with_what_is_sent(client):
    model = client.create_model(type="sd-xl-lora")
    assert client.ok("PUT", f"/models/{model['id']}", json={"parameters": {"rank": 128}})["model"]["parameters"] == {"rank": 128}
    assert quote(client, model, {}).status_code == 269
    client.ok("PUT", f"/models/{model['id']}", json={"type": "flux.1-lora"})
    assert quote(client, model, {}).json()["reason"] == "parameters.rank must be at most 64"
    assert quote(client, model, {"rank": 64}).json()["reason"].startswith("No trainer")


@pytest.mark.parametrize("name", sorted(EDIT))
def test_edit_types_need_two_pairs(client, name):
    model = client.create_model(type=name)
    wanted = "The model needs at least 2 training image pairs"
    assert quote(client, model, {}, trainingImagesCount=3).json()["reason"] == wanted
    assert quote(client, model, {}, trainingImagesCount=4).json()["reason"].startswith("No trainer")
    for seed in range(2):
        client.add_image(model["id"], data_url(png(seed=seed)))
    assert client.refused(400, "PUT", f"/models/{model['id']}/train", json={}) == wanted


@pytest.mark.parametrize("query", [{"dryRun": "maybe"}, {"dryRun": "true", "trainingImagesCount": -1},
                                   {"dryRun": "true", "trainingImagesCount": "x"}])
def test_a_dry_run_refuses_bad_queries(client, query):
    assert next(reversed(query)) in client.refused(400, "PUT", f"/models/{client.create_model()['id']}/train", params=query)


def test_a_dry_run_answers_269_and_starts_nothing(client):
    model = client.create_model()
    reason = client.refused(400, "PUT", f"/models/{model['id']}/train", params={"dryRun": "api"})
    assert reason == "The model needs at least 1 training image: add some first"
    answer = quote(client, model, {"rank": 4})
    assert (answer.status_code, answer.json()) == (269, {"creativeUnitsCost": 0, "creativeUnitsDiscount": 0})
    assert client.ok("GET", f"/models/{model['id']}")["model"] == model


# Compositions and concepts.

EPOCHS = '[{"epoch":"000001","assetIds":[]},{"epoch":"000002","assetIds":[]}]'


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_a_composition_ends_trained_without_images(server, client, name):
    loras = [make_trained(server, client, COMPOSITIONS[name], EPOCHS) for _ in range(2)]
    concepts = [{"modelId": loras[0]["id"], "scale": 0.75, "modelEpoch": "000001"}, {"modelId": loras[1]["id"], "scale": -2}]
    model = client.ok("POST", "/models", json={"type": name, "concepts": concepts})["model"]
    assert model["status"] == "new" and model["concepts"] == concepts
    assert quote(client, model, {}).status_code == 269
    assert client.ok("GET", f"/models/{model['id']}")["model"]["status"] == "new"
    answer = client.ok("PUT", f"/models/{model['id']}/train", json={"parameters": {}})
    trained, job = answer["model"], answer["job"]
    assert (trained["status"], trained["trainingProgress"], trained["concepts"]) == ("trained", {}, concepts)
    assert "txt2img" in trained["capabilities"] and trained["name"] and trained["shortDescription"] == "Composed of 2 models"
    assert (job["status"], job["progress"]) == ("success", 1)
    assert [entry["status"] for entry in job["statusHistory"]] == ["queued", "success"]
    assert client.job(job["jobId"]) == job and client.ok("GET", f"/models/{model['id']}")["model"] == trained
    assert job["jobType"] == ("flux-model-training" if name.startswith("flux") else "model-training")
    again = client.ok("PUT", f"/models/{model['id']}/train")
    assert again["model"]["status"] == "trained" and again["job"]["jobId"] != job["jobId"]


def test_a_composition_ignores_parameters(server, client):
    lora = make_trained(server, client, "flux.1-lora")
    body = {"type": "flux.1-composition", "concepts": [{"modelId": lora["id"], "scale": 1}]}
    model = client.ok("POST", "/models", json=body)["model"]
    answer = client.ok("PUT", f"/models/{model['id']}/train", json={"parameters": {"rank": 99, "seed": 7}})
    assert answer["model"]["parameters"] == {}


def test_concepts_are_models_that_fit(server, client):
    lora, other = (make_trained(server, client, name, EPOCHS) for name in ("flux.1-lora", "zimage-lora"))
    untrained = client.create_model(type="flux.1-lora")
    stranger = make_trained(server, server.client("strangers"), "flux.1-lora")
    composition = client.ok("POST", "/models", json={"type": "flux.1-composition", "concepts": [{"modelId": lora["id"], "scale": 1}]})
    path = f"/models/{composition['model']['id']}"
    allowed = "\nAllowed model types: flux.1-lora, flux.1-composition"

    def both(concepts):
        """Refused alike when a model is made and when it is changed."""
        body = {"type": "flux.1-composition", "concepts": concepts}
        reason = client.refused(400, "POST", "/models", json=body)
        assert client.refused(400, "PUT", path, json={"concepts": concepts}) == reason
        return reason

    assert both([{"modelId": other["id"], "scale": 1}]) == f"Invalid model(s): {other['id']}." + allowed
    assert both([{"modelId": "model_x", "scale": 1}, {"modelId": lora["id"], "scale": 1}, {"modelId": other["id"], "scale": 1}]) \
        == f"Invalid model(s): model_x, {other['id']}." + allowed
    assert both([{"modelId": stranger["id"], "scale": 1}]) == f"Invalid model(s): {stranger['id']}." + allowed
    assert both([{"modelId": "", "scale": 1}]) == "Invalid model(s): ." + allowed
    assert both([{"modelId": untrained["id"], "scale": 1}]) == \
        f"concepts[0].modelId names {untrained['id']}, which is not trained yet"
    assert both([{"modelId": lora["id"], "scale": 1, "modelEpoch": "000003"}]) == \
        f"concepts[0].modelEpoch must be one of the epochs of {lora['id']}"
    assert both([{"modelId": lora["id"], "scale": 1}] * 2) == "concepts[1].modelId is there twice"
    for scale, reason in ((2.1, "at most 2"), (-2.1, "at least -2")):
        assert both([{"modelId": lora["id"], "scale": scale}]) == f"concepts[0].scale must be {reason}"
    assert both([{"modelId": lora["id"]}]) == "concepts[0].scale is required"
    client.refused(400, "PUT", path, json={"concepts": []})
    client.refused(400, "POST", "/models", json={"type": "flux.1-composition"})
    assert "cannot be set" in client.refused(400, "POST", "/models", json={"type": "gpt-image-1", "concepts": [{"modelId": lora["id"], "scale": 1}]})


def test_a_composition_cannot_hold_itself(server, client):
    lora = make_trained(server, client, "flux.1-lora")
    inner, outer = (client.ok("POST", "/models", json={"type": "flux.1-composition", "concepts": [{"modelId": lora["id"], "scale": 1}]})["model"]
                    for _ in range(2))
    for model in (inner, outer):
        client.ok("PUT", f"/models/{model['id']}/train")
    client.ok("PUT", f"/models/{outer['id']}", json={"concepts": [{"modelId": inner["id"], "scale": 0.5}]})
    for model in (inner, outer):
        reason = client.refused(400, "PUT", f"/models/{inner['id']}", json={"concepts": [{"modelId": model["id"], "scale": 1}]})
        assert reason == "concepts contain the model itself"


def test_a_composition_is_checked_again_when_it_is_launched(server, client):
    lora = make_trained(server, client, "flux.1-lora")
    model = client.ok("POST", "/models", json={"type": "flux.1-composition", "concepts": [{"modelId": lora["id"], "scale": 1}]})["model"]
    client.ok("DELETE", f"/models/{lora['id']}")
    assert client.refused(400, "PUT", f"/models/{model['id']}/train").startswith(f"Invalid model(s): {lora['id']}.")
    assert client.ok("GET", f"/models/{model['id']}")["model"]["status"] == "new"


def test_kontext_takes_no_negative_scale(server, client):
    lora = make_trained(server, client, "flux.1-kontext-lora")
    path = f"/models/{lora['id']}"
    reason = client.refused(400, "PUT", path, json={"concepts": [{"modelId": lora["id"], "scale": -0.1}]})
    assert reason == "concepts[0].scale must be at least 0 for models of type flux.1-kontext-lora"
    assert client.ok("PUT", path, json={"concepts": [{"modelId": lora["id"], "scale": 2}]})["model"]["concepts"][0]["scale"] == 2


def test_z_image_loras_fit_each_other(server, client):
    lora, turbo = (make_trained(server, client, name) for name in ("zimage-lora", "zimage-turbo-lora"))
    concepts = [{"modelId": lora["id"], "scale": 0.8}, {"modelId": turbo["id"], "scale": 0.2}]
    assert client.ok("PUT", f"/models/{lora['id']}", json={"concepts": concepts})["model"]["concepts"] == concepts


def test_only_trained_flux_loras_name_compliant_models(server, client):
    assert make_trained(server, client, "flux.1-lora")["compliantModelIds"] == ["flux.1-dev", "flux.1-schnell"]
    for name in ("flux.2-dev-lora", "sd-1_5-lora", "flux.1-kontext-lora"):
        assert "compliantModelIds" not in make_trained(server, client, name)
    assert "compliantModelIds" not in client.create_model(type="flux.1-lora")


@pytest.mark.parametrize("name", [name for name in TYPES if name not in COMPOSITIONS])
def test_capabilities_follow_the_type(client, name):
    capabilities = client.create_model(type=name)["capabilities"]
    if name in EDIT:
        assert capabilities == ["img2img"]
    elif name == "elevenlabs-voice":
        assert capabilities == ["txt2audio"]
    else:
        assert capabilities[0] == "txt2img" and len(capabilities) == (1 if name in HOSTED else 13)


# Epoch, class and action.

def test_an_epoch_is_one_of_the_models(server, client):
    model = make_trained(server, client, "flux.1-lora", EPOCHS)
    path = f"/models/{model['id']}"
    assert [epoch["epoch"] for epoch in model["epochs"]] == ["000001", "000002"] and "epoch" not in model
    assert client.ok("PUT", path, json={"epoch": "000001"})["model"]["epoch"] == "000001"
    assert client.refused(400, "PUT", path, json={"epoch": "000009"}).startswith("epoch must be one of")
    assert client.ok("PUT", path, json={"name": "kept"})["model"]["epoch"] == "000001"
    assert "epoch" not in client.ok("PUT", path, json={"epoch": None})["model"]
    client.refused(400, "PUT", f"/models/{client.create_model()['id']}", json={"epoch": "000001"})


def test_a_class_is_its_slug(client):
    model = client.create_model(classSlug="characters-npcs")
    assert model["class"] == {"category": "", "conceptPrompt": "", "modelId": "", "name": "characters-npcs", "prompt": "",
                              "slug": "characters-npcs", "status": "unpublished", "thumbnails": []}
    assert "class" not in client.ok("PUT", f"/models/{model['id']}", json={"classSlug": None})["model"]


def test_a_thumbnail_is_set_and_unset(client):
    model = client.create_model()
    image = client.add_image(model["id"], data_url(png(seed=2)))["id"]
    path = f"/models/{model['id']}"
    assert client.ok("PUT", path, json={"thumbnail": image})["model"]["thumbnail"]["assetId"] == image
    assert "thumbnail" not in client.ok("PUT", path, json={"thumbnail": None})["model"]
    client.refused(404, "PUT", path, json={"thumbnail": "asset_unknown"})


def test_an_idle_model_cannot_be_canceled(server, client):
    path = f"/models/{client.create_model()['id']}/train/action"
    assert client.refused(400, "POST", path, json={"action": "cancel"}) == "Model is not training"
    assert client.refused(400, "POST", path, json={"action": "pause"}).startswith("action must be one of cancel")
    assert client.refused(400, "POST", path) == "action is required"
    trained = make_trained(server, client, "sd-1_5-lora")
    assert client.refused(400, "POST", f"/models/{trained['id']}/train/action", json={"action": "cancel"}) == "Model is not training"
    client.refused(404, "POST", "/models/model_unknown/train/action", json={"action": "cancel"})
