"""Asking for pictures: what is refused and how it is said, dry runs, cancels, and what the rows say of a picture."""

import base64

import pytest
from scenario_sdk import Scenario

from conftest import Client, make_trained, png
from reference import valid

PATH = "/generate/txt2img"
BASE = {"modelId": "sd-1_5", "prompt": "a red apple"}
QUICK = {**BASE, "numSamples": 1, "numInferenceSteps": 2}
ALLOWED = "Allowed model types: sd-1_5-lora, sd-1_5-composition, sd-xl-lora, sd-xl-composition"


def quote(client, **fields):
    answer = client.call("POST", PATH, params={"dryRun": "true"}, json={**BASE, **fields})
    assert answer.status_code == 269, answer.text
    return answer.json()


def refused(client, status=400, **fields):
    reasons = {client.refused(status, "POST", PATH, params=params, json={**BASE, **fields}) for params in ({}, {"dryRun": "true"})}
    assert len(reasons) == 1  # a dry run checks everything
    return reasons.pop()


def jobs(client):
    return client.ok("GET", "/jobs", params={"pageSize": 200})["jobs"]


def test_a_dry_run_costs_nothing_and_makes_nothing(client):
    before = jobs(client)
    assert quote(client) == {"creativeUnitsCost": 0, "creativeUnitsDiscount": 0, "costDetails": {"custom-generation": 0}}
    assert client.call("POST", PATH, params={"dryRun": "api"}, json=BASE).status_code == 269
    assert jobs(client) == before


TAKEN = [("numSamples", 1), ("numSamples", 8), ("width", 64), ("width", 1024), ("height", 72), ("guidance", 0), ("guidance", 20),
         ("numInferenceSteps", 1), ("numInferenceSteps", 150), ("seed", 0), ("seed", "0"), ("seed", 2147483647), ("seed", "2147483647"),
         ("scheduler", "EulerAncestralDiscreteScheduler"), ("prompt", ""), ("prompt", "é" * 2048), ("negativePrompt", "x" * 2048),
         ("loras", []), ("concepts", []), ("hideResults", True), ("somethingElse", {"a": 1})]


@pytest.mark.parametrize("field, value", TAKEN, ids=[f"{field}-{str(value)[:12]}" for field, value in TAKEN])
def test_what_is_taken(client, field, value):
    quote(client, **{field: value})


REFUSED = [
    ("numSamples", 0, "Input numSamples must be at least 1"),
    ("numSamples", 9, "Input numSamples must be at most 8"),
    ("numSamples", 1.5, "Input numSamples must be a whole number"),
    ("width", 56, "Input width must be at least 64"),
    ("width", 2056, "Input width must be at most 2048"),
    ("width", 1032, "Input width must be at most 1024 for models of type sd-1_5"),
    ("height", 100, "Input height must be a multiple of 8"),
    ("height", "64", "Input height must be a number"),
    ("guidance", -0.1, "Input guidance must be at least 0"),
    ("guidance", 20.1, "Input guidance must be at most 20"),
    ("numInferenceSteps", 0, "Input numInferenceSteps must be at least 1"),
    ("numInferenceSteps", 151, "Input numInferenceSteps must be at most 150"),
    ("prompt", "x" * 2049, "Input prompt must be at most 2048 characters long"),
    ("prompt", 7, "Input prompt must be a string"),
    ("prompt", None, "Input prompt is required"),
    ("modelId", None, "Input modelId is required"),
    ("negativePrompt", "x" * 2049, "Input negativePrompt must be at most 2048 characters long"),
    ("seed", -1, "Input seed must be a whole number from 0 to 2147483647"),
    ("seed", 2147483648, "Input seed must be a whole number from 0 to 2147483647"),
    ("seed", 1.5, "Input seed must be a whole number from 0 to 2147483647"),
    ("seed", "", "Input seed must be a whole number from 0 to 2147483647"),
    ("seed", "0x10", "Input seed must be a whole number from 0 to 2147483647"),
    ("seed", True, "Input seed must be a string"),
    ("scheduler", "PNDMScheduler", "Input scheduler must be one of DDIMScheduler, DPMSolverMultistepScheduler, "
                                   "EulerAncestralDiscreteScheduler, EulerDiscreteScheduler"),
    ("loras", [{"modelId": "model_x"}] * 7, "Input loras must be at most 6 items long"),
    ("loras", [{"modelId": "model_x", "weight": 2.1}], "Input loras[0].weight must be at most 2"),
    ("loras", [{"weight": 1}], "Input loras[0].modelId is required"),
    ("loras", ["model_x"], "Input loras[0] must be an object"),
    ("loras", [{"modelId": "model_x"}], "Invalid model(s): model_x.\nAllowed model types: sd-1_5-lora, sd-1_5-composition"),
    ("concepts", [{"modelId": "model_x", "scale": -3}], "Input concepts[0].scale must be at least -2"),
    ("concepts", [{"modelId": "model_x"}], "Input concepts[0].scale is required"),
    ("concepts", [{"modelId": "a", "scale": 1}, {"modelId": "a", "scale": 1}], "Input concepts[1].modelId is there twice"),
    ("modelEpoch", "000001", "Input modelEpoch is only for LoRAs: the concepts of others have a modelEpoch each"),
]


@pytest.mark.parametrize("field, value, reason", REFUSED, ids=[f"{field}-{str(value)[:12]}" for field, value, _ in REFUSED])
def test_what_is_refused(client, field, value, reason):
    assert refused(client, **{field: value}) == reason


def test_models_that_cannot_draw(server, client):
    stranger = server.client("generation strangers")
    new, other = client.create_model(), stranger.create_model()
    assert refused(client, 404, modelId="model_unknown") == "Model model_unknown not found"
    assert refused(client, 404, modelId=other["id"]) == f"Model {other['id']} not found"
    assert refused(client, modelId=new["id"]) == f"Input modelId names {new['id']}, which is not trained yet"
    flux = make_trained(server, client, "flux.1-lora")["id"]
    assert refused(client, modelId=flux) == f"Invalid model(s): {flux}.\n{ALLOWED}"
    assert refused(client, loras=[{"modelId": flux}]).startswith(f"Invalid model(s): {flux}.\n")
    assert refused(client, loras=[{"modelId": new["id"]}]) == f"Input loras[0].modelId names {new['id']}, which is not trained yet"
    hollow = make_trained(server, client, "sd-1_5-lora", epochs='[{"epoch":"000001","assetIds":[]}]')["id"]
    assert refused(client, modelId=hollow) == f"Model {hollow} has no weights: train it first"
    assert refused(client, modelId=hollow, modelEpoch="000002") == f"Input modelEpoch must be one of the epochs of {hollow}"
    assert refused(client, modelId=hollow, modelEpoch="000001") == f"Model {hollow} has no weights of epoch 000001: train it first"
    xl = make_trained(server, client, "sd-xl-lora")["id"]
    assert refused(client, loras=[{"modelId": xl}]).startswith("Invalid model(s)")


def test_bodies_and_callers(server, client):
    assert client.refused(400, "POST", PATH) == "A JSON body is required"
    assert client.refused(400, "POST", PATH, params={"dryRun": "maybe"}, json=BASE).startswith("Input dryRun must be one of")
    assert client.refused(403, "POST", PATH, params={"projectId": "proj_x"}, json=BASE)
    assert Client.with_public_token(server.url).refused(403, "POST", PATH, json=BASE)
    assert Client(server.url, None, None).refused(401, "POST", PATH, json=BASE)


def test_pictures_of_the_base_alone(server, client):
    asked = {**QUICK, "numSamples": 2, "negativePrompt": "blur", "seed": "2147483647", "guidance": 3, "width": 72, "height": 80, "scheduler": "EulerDiscreteScheduler"}
    started = client.ok("POST", PATH, json=asked)
    assert started["creativeUnitsCost"] == 0 and valid("Job", started["job"])["jobType"] == "inference"
    job = valid("Job", client.wait_for_job(started["job"]["jobId"]))
    assert job["status"] == "success", job
    assert job["progress"] == 1 and [change["status"] for change in job["statusHistory"]][0] == "queued"
    shown = {key: job["metadata"]["input"][key] for key in asked}
    assert shown == asked and job["metadata"]["input"]["concepts"] == []
    assets = [client.ok("GET", f"/assets/{id}")["asset"] for id in job["metadata"]["assetIds"]]
    assert [asset["metadata"]["seed"] for asset in assets] == ["2147483647", "0"]
    for index, asset in enumerate(assets):
        valid("Asset", asset)
        metadata = asset["metadata"]
        assert metadata["type"] == "inference-txt2img" and asset["source"] == "inference-txt" and metadata["modelId"] == "sd-1_5"
        assert metadata["prompt"] == "a red apple" and metadata["negativePrompt"] == "blur" and metadata["outputIndex"] == index
        assert metadata["guidance"] == 3 and metadata["scheduler"] == "EulerDiscreteScheduler" and metadata["modelType"] == "sd-1_5"
        assert metadata["parentJobId"] == job["jobId"] and metadata["inferenceId"] == assets[0]["metadata"]["inferenceId"]
        assert (asset["properties"]["width"], asset["properties"]["height"]) == (72, 80)
        assert asset["description"] == "a red apple"
    assert not client.ok("GET", "/assets", params={"inferenceId": "inf_unknown"})["assets"]
    listed = client.ok("GET", "/assets", params={"inferenceId": assets[0]["metadata"]["inferenceId"]})["assets"]
    assert sorted(asset["id"] for asset in listed) == sorted(job["metadata"]["assetIds"])


def test_hidden_pictures_and_a_drawn_seed(client):
    started = client.ok("POST", PATH, json={**QUICK, "hideResults": True})["job"]
    job = client.wait_for_job(started["jobId"])
    asset, = [client.ok("GET", f"/assets/{id}")["asset"] for id in job["metadata"]["assetIds"]]
    assert asset["isHidden"] and asset["metadata"]["seed"] == job["metadata"]["input"]["seed"]


def test_a_queued_and_a_running_generation_are_canceled(server, client):
    sdk = Scenario(api_key=client.key, api_secret=client.secret, base_url=server.url + "/v1")
    long = {**BASE, "numSamples": 8, "numInferenceSteps": 150}
    running, queued = [sdk.post(PATH, body=long, cast_to=object)["job"]["jobId"] for _ in range(2)]  # it has no method of its own
    client.wait_for_job(running, ("in-progress", "success", "failure"))
    assert sdk.jobs.trigger_action(queued, action="cancel").job.status == "canceled"
    stranger = server.client("generation cancelers")
    assert stranger.refused(404, "POST", f"/jobs/{running}/action", json={"action": "cancel"}) == f"Job {running} not found"
    client.ok("POST", f"/jobs/{running}/action", json={"action": "cancel"})
    job = client.wait_for_job(running)
    assert job["status"] == "canceled" and len(job["metadata"].get("assetIds", [])) < 8
    for id in (running, queued):
        assert client.refused(400, "POST", f"/jobs/{id}/action", json={"action": "cancel"}) == "Job has ended already: its status is canceled"


def test_a_base_that_cannot_draw_is_a_failure_with_a_hint(client):
    job = client.ok("POST", PATH, json={**QUICK, "modelId": "sd-xl"})["job"]
    failed = client.wait_for_job(job["jobId"])
    assert failed["status"] == "failure" and "SDXL" in failed["metadata"]["error"] and "base model" in failed["metadata"]["hint"]




def test_pictures_that_begin_on_a_picture(client):
    start = client.ok("POST", "/assets", json={"name": "wide.png", "image": base64.b64encode(png(96, 64)).decode()})["asset"]
    asked = {**QUICK, "image": start["id"], "numInferenceSteps": 4, "seed": "5"}
    quoted = client.call("POST", "/generate/img2img", params={"dryRun": "true"}, json=asked)
    assert quoted.status_code == 269 and quoted.json()["costDetails"] == {"custom-generation": 0}
    job = client.wait_for_job(client.ok("POST", "/generate/img2img", json={**asked, "strength": 0.5})["job"]["jobId"])
    assert job["status"] == "success", job
    assert (job["metadata"]["input"]["image"], job["metadata"]["input"]["strength"]) == (start["id"], 0.5)
    asset = valid("Asset", client.ok("GET", f"/assets/{job['metadata']['assetIds'][0]}")["asset"])
    metadata = asset["metadata"]
    assert (metadata["type"], asset["source"]) == ("inference-img2img", "inference-img")
    assert metadata["image"] == metadata["parentId"] == metadata["rootParentId"] == start["id"]
    assert (asset["properties"]["width"], asset["properties"]["height"]) == (64, 64)
    again = client.wait_for_job(client.ok("POST", "/generate/img2img", json={**asked, "image": asset["id"]})["job"]["jobId"])
    child = client.ok("GET", f"/assets/{again['metadata']['assetIds'][0]}")["asset"]["metadata"]
    assert (child["parentId"], child["rootParentId"]) == (asset["id"], start["id"]) and again["metadata"]["input"]["strength"] == 0.75
    listed = client.ok("GET", "/assets", params={"rootAssetId": start["id"]})["assets"]
    assert len(listed) == 2 and client.ok("GET", "/assets", params={"type": "inference-img2img"})["assets"]


def test_an_image_that_is_gone_fails_the_generation(server, client):
    start = client.ok("POST", "/assets", json={"name": "gone.png", "image": base64.b64encode(png(64, 64, 77)).decode()})["asset"]["id"]
    blocker = client.ok("POST", PATH, json={**BASE, "numSamples": 8, "numInferenceSteps": 150})["job"]["jobId"]
    job = client.ok("POST", "/generate/img2img", json={**QUICK, "image": start})["job"]["jobId"]
    client.ok("DELETE", "/assets", json={"assetIds": [start]})
    client.ok("POST", f"/jobs/{blocker}/action", json={"action": "cancel"})
    done = client.wait_for_job(job)
    assert done["status"] == "success" or "gone" in done["metadata"]["error"], done  # its bytes are freed some time later
