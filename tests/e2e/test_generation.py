"""Pictures through the wire: a LoRA trained here draws, the same seed gives the same bytes, and no crash loses a picture."""
import os
import signal
import subprocess
import time

import pytest
import requests
from PIL import Image

from conftest import BINARY, Server, data_url, png
from reference import valid
from test_crashes import trainers, wait

PROMPT = {"prompt": "a red apple", "numSamples": 2, "numInferenceSteps": 6, "seed": 11, "guidance": 3}
LONG = {**PROMPT, "modelId": "sd-1_5", "numSamples": 6, "numInferenceSteps": 60}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A server with a LoRA of 16 steps that has two epochs."""
    server = Server(tmp_path_factory.mktemp("generate") / "data").start()
    client = server.client()
    client.server = server
    model = client.create_model(name="discs")
    for seed in range(4):
        client.add_image(model["id"], data_url(png(64, 64, seed)), f"disc {seed}.png")
    parameters = {"maxTrainSteps": 16, "rank": 4, "seed": 7, "learningRate": 1e-4, "validationFrequency": 8, "validationPrompt": "a disc"}
    job = client.ok("PUT", f"/models/{model['id']}/train", json={"parameters": parameters})["job"]
    assert client.wait_for_job(job["jobId"])["status"] == "success"
    client.lora, client.training = model["id"], job["jobId"]
    yield client
    server.stop()
    for pid in trainers(server.data):
        os.kill(pid, signal.SIGKILL)


def generate(client, **fields):
    job = client.wait_for_job(client.ok("POST", "/generate/txt2img", json={**PROMPT, **fields})["job"]["jobId"])
    assert job["status"] == "success", job
    return job


def original(client, asset_id):
    asset = client.ok("GET", f"/assets/{asset_id}", params={"originalAssets": "true"})["asset"]
    return requests.get(asset["url"], timeout=30).content


def pictures(client, **fields):
    return [original(client, id) for id in generate(client, **fields)["metadata"]["assetIds"]]


@pytest.fixture(scope="module")
def by_base(world):
    return pictures(world, modelId="sd-1_5")


@pytest.fixture(scope="module")
def by_lora(world):
    return pictures(world, modelId=world.lora)


def test_the_seed_decides_every_byte(world, by_base):
    assert len(set(by_base)) == 2
    assert pictures(world, modelId="sd-1_5", seed="11") == by_base
    assert pictures(world, modelId="sd-1_5", seed=12, numSamples=1) == by_base[1:]
    assert by_base[0] not in pictures(world, modelId="sd-1_5", seed=13)


def test_the_command_line_draws_the_same(world, by_base, by_lora, tmp_path):
    """The LoRA as a download gives it, with the scale that a trained model has for itself."""
    job = world.ok("POST", f"/models/{world.lora}/download", params={"format": "safetensors"})["jobId"]
    weights = tmp_path / "lora.safetensors"
    weights.write_bytes(requests.get(world.wait_for_job(job)["metadata"]["output"]["downloadUrl"], timeout=30).content)
    command = [BINARY, "generate", "--prompt", PROMPT["prompt"], "--steps", "6", "--guidance", "3", "--seed", "11", "--out"]
    for out, more, expected in (("base.png", [], by_base[0]), ("lora.png", ["--lora", f"{weights}:0.8"], by_lora[0])):
        subprocess.run([*command, str(tmp_path / out), *more], check=True, capture_output=True)
        assert (tmp_path / out).read_bytes() == expected


def test_a_lora_counts_as_strongly_as_asked(world, by_base, by_lora):
    assert by_lora[0] != by_base[0] and by_lora[1] != by_base[1]
    assert pictures(world, modelId="sd-1_5", loras=[{"modelId": world.lora, "weight": 0.8}]) == by_lora
    assert pictures(world, modelId="sd-1_5", concepts=[{"modelId": world.lora, "scale": 0.8}]) == by_lora
    assert pictures(world, modelId=world.lora, concepts=[]) == by_base
    taken_out_again = pictures(world, modelId=world.lora, loras=[{"modelId": world.lora, "weight": -0.8}])
    assert all(close(*pair) for pair in zip(taken_out_again, by_base))
    stronger = pictures(world, modelId="sd-1_5", loras=[{"modelId": world.lora}])
    assert stronger not in (by_base, by_lora)


def test_an_epoch_of_the_lora(world, by_lora):
    first = pictures(world, modelId=world.lora, modelEpoch="000001")
    assert first != by_lora and pictures(world, modelId=world.lora, modelEpoch="000002") == by_lora


def test_a_composition_draws_with_its_concepts(world, by_lora):
    composition = world.create_model(type="sd-1_5-composition", name="both", concepts=[{"modelId": world.lora, "scale": 0.4}])
    assert world.ok("PUT", f"/models/{composition['id']}/train", json={})["job"]["status"] == "success"
    more = {"modelId": composition["id"], "loras": [{"modelId": world.lora, "weight": 0.4}]}
    job = generate(world, **more)
    assert job["metadata"]["input"]["concepts"] == [{"modelId": world.lora, "scale": 0.4}] * 2
    halves = [original(world, id) for id in job["metadata"]["assetIds"]]
    assert halves == by_lora or all(close(*pair) for pair in zip(halves, by_lora))


def close(left, right):
    """Twice 0.4 is added in two roundings, 0.8 in one, and 0.8 less 0.8 leaves some."""
    import io
    pairs = zip(*(Image.open(io.BytesIO(content)).convert("RGB").tobytes() for content in (left, right)))
    return max(abs(a - b) for a, b in pairs) <= 2


def test_another_project_draws_with_what_it_may_read(world, by_lora):
    stranger = world.server.client("generators")
    asked = {**PROMPT, "modelId": world.lora}
    assert stranger.refused(404, "POST", "/generate/txt2img", json=asked) == f"Model {world.lora} not found"
    assert "Invalid model(s)" in stranger.refused(400, "POST", "/generate/txt2img", json={**PROMPT, "modelId": "sd-1_5", "loras": [{"modelId": world.lora}]})
    world.ok("PUT", f"/models/{world.lora}", json={"privacy": "unlisted"})
    try:
        job = generate(stranger, modelId=world.lora)
        assert [original(stranger, id) for id in job["metadata"]["assetIds"]] == by_lora
        for id in job["metadata"]["assetIds"]:
            assert world.call("GET", f"/assets/{id}").status_code == 404
    finally:
        world.ok("PUT", f"/models/{world.lora}", json={"privacy": "private"})


def test_examples_say_how_they_were_made(world):
    job = generate(world, modelId=world.lora, negativePrompt="blur")
    ids = job["metadata"]["assetIds"]
    answer = valid("ExampleListResponse", world.ok("PUT", f"/models/{world.lora}/examples", json={"assetIds": ids}))
    for index, example in enumerate(answer["examples"]):
        asked, size = example["inferenceParameters"], example["asset"]["properties"]
        assert example["modelId"] == world.lora and example["job"]["jobId"] == job["jobId"] and example["inferenceId"]
        assert asked == {"prompt": "a red apple", "type": "txt2img", "baseModelId": "sd-1_5", "negativePrompt": "blur",
                         "concepts": [{"modelId": world.lora, "scale": 0.8}], "guidance": 3, "width": size["width"], "height": size["height"],
                         "numInferenceSteps": 6, "numSamples": 2, "scheduler": "DDIMScheduler", "seed": str(11 + index)}


def test_a_picture_to_begin_on_by_wire_and_command_line(world, by_base, tmp_path):
    """The asset's own bytes begin it; what comes out says so as an example."""
    start = generate(world, modelId="sd-1_5", numSamples=1)["metadata"]["assetIds"][0]
    asked = {**PROMPT, "prompt": "a fish", "modelId": world.lora, "concepts": [], "numSamples": 1, "image": start, "strength": 0.5}
    job = world.wait_for_job(world.ok("POST", "/generate/img2img", json=asked)["job"]["jobId"])
    assert job["status"] == "success", job
    drawn = job["metadata"]["assetIds"][0]
    (tmp_path / "start.png").write_bytes(by_base[0])
    command = [BINARY, "generate", "--prompt", "a fish", "--steps", "6", "--guidance", "3", "--seed", "11", "--strength", "0.5",
               "--image", tmp_path / "start.png", "--out", tmp_path / "out.png"]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "out.png").read_bytes() == original(world, drawn)
    examples = world.ok("PUT", f"/models/{world.lora}/examples", json={"assetIds": [drawn]})["examples"]
    asked = examples[0]["inferenceParameters"]
    assert (asked["type"], asked["image"], asked["strength"]) == ("img2img", start, 0.5)


def test_the_model_and_its_training_stay_as_they_are(world):
    model = world.ok("GET", f"/models/{world.lora}")["model"]
    assert model["status"] == "trained" and model["trainingProgress"] == {}
    assert world.refused(400, "POST", f"/models/{world.lora}/train/action", json={"action": "cancel"}) == "Model is not training"


def test_embeddings_of_the_model_are_added_to_prompts(world):
    world.ok("PUT", f"/models/{world.lora}", json={"promptEmbedding": "ink", "negativePromptEmbedding": "blur"})
    try:
        job = generate(world, modelId=world.lora)
        asset = world.ok("GET", f"/assets/{job['metadata']['assetIds'][0]}")["asset"]["metadata"]
        assert asset["prompt"] == "a red apple, ink" and asset["negativePrompt"] == "blur"
    finally:
        world.ok("PUT", f"/models/{world.lora}", json={"promptEmbedding": "", "negativePromptEmbedding": ""})


def start_long(world):
    job = world.ok("POST", "/generate/txt2img", json=LONG)["job"]["jobId"]
    wait(lambda: world.job(job)["metadata"].get("assetIds") or world.job(job)["status"] == "success", what="the first picture")
    return job


@pytest.fixture(scope="module")
def undisturbed(world):
    return pictures(world, **LONG)


def test_a_killed_server_loses_no_picture(world, undisturbed):
    job = start_long(world)
    world.server.kill()
    world.server.start()
    world.url = world.server.url
    done = world.wait_for_job(job)
    assert done["status"] == "success" and [original(world, id) for id in done["metadata"]["assetIds"]] == undisturbed


def test_a_killed_generator_goes_on(world, undisturbed):
    job = start_long(world)
    for pid in trainers(world.server.data):
        os.kill(pid, signal.SIGKILL)
    done = world.wait_for_job(job)
    assert done["status"] == "success" and [original(world, id) for id in done["metadata"]["assetIds"]] == undisturbed


def test_a_generator_that_keeps_dying_fails_with_a_hint(world):
    job = world.ok("POST", "/generate/txt2img", json={**LONG, "numInferenceSteps": 150})["job"]["jobId"]
    deadline = time.monotonic() + 60
    while world.job(job)["status"] not in ("failure", "success"):
        for pid in trainers(world.server.data):
            os.kill(pid, signal.SIGKILL)
        assert time.monotonic() < deadline
        time.sleep(0.05)
    failed = world.job(job)
    assert failed["status"] == "failure" and "generator" in failed["metadata"]["error"] and "memory" in failed["metadata"]["hint"]


def test_a_finished_folder_keeps_its_record_only(world):
    job = generate(world, modelId=world.lora)["jobId"]
    folder = world.server.data / "jobs" / job
    wait(lambda: not (folder / "loras").exists(), what="tidying")
    assert {"job.json", "events.ndjson"} <= {entry.name for entry in folder.iterdir()}
    assert sorted(entry.name for entry in (folder / "out").iterdir()) == ["result.json"]


def test_a_copy_draws_the_same_and_takes_its_pictures_along(world, by_lora):
    """To another project of the team: pictures, examples and the job that made them."""
    copy = world.ok("POST", f"/models/{world.lora}/copy", json={"copyAsTrained": True})["model"]["id"]
    job = generate(world, modelId=copy)
    ids = job["metadata"]["assetIds"]
    assert [original(world, id) for id in ids] == by_lora
    listed = world.ok("GET", "/assets", params={"modelId": copy})["assets"]
    assert {asset["id"] for asset in listed} >= set(ids)
    world.ok("PUT", f"/models/{copy}/examples", json={"assetIds": ids})
    heir = world.server.client("heirs")
    world.ok("POST", f"/models/{copy}/transfer", json={"destinationProjectId": heir.project_id})
    examples = heir.ok("GET", f"/models/{copy}/examples")["examples"]
    assert [example["job"]["jobId"] for example in examples] == [job["jobId"]] * 2
    assert [original(heir, example["asset"]["id"]) for example in examples] == by_lora
    assert world.call("GET", f"/jobs/{job['jobId']}").status_code == 404
