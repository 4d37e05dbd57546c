"""The main job with the official SDK and no patch: a model, eight images, a training, samples, the LoRA."""
import io
import json
import zipfile

import numpy
import pytest
import requests
import safetensors.numpy
from PIL import Image
from scenario_sdk import Scenario

from conftest import Server, data_url, png

PARAMETERS = {"maxTrainSteps": 16, "rank": 4, "seed": 7, "validationPrompt": "a red disc", "validationFrequency": 8}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One training of 16 steps on 8 images of 128 px; every test below looks at what it left."""
    server = Server(tmp_path_factory.mktemp("main") / "data").start()
    client = server.client()
    sdk = Scenario(api_key=client.key, api_secret=client.secret, base_url=server.url + "/v1")
    model = sdk.models.create(name="discs", type="sd-1_5-lora").model
    for seed in range(8):
        image = sdk.models.training_images.add(model.id, data=data_url(png(seed=seed)), name=f"disc {seed}.png").training_image
        assert image.automatic_captioning
    answer = sdk.models.train.trigger(model.id, parameters=PARAMETERS)
    assert answer.model.status == "training" and answer.job.job_type == "model-training"
    job = client.wait_for_job(answer.job.job_id)
    assert job["status"] == "success", job
    yield {"sdk": sdk, "client": client, "id": model.id, "job": job}
    assert server.stop() == 0


def download(trained, **query):
    client = trained["client"]
    job_id = client.ok("POST", f"/models/{trained['id']}/download", params=query)["jobId"]
    url = client.wait_for_job(job_id)["metadata"]["output"]["downloadUrl"]
    if query:
        url += "&" + "&".join(f"{key}={value}" for key, value in query.items())
    answer = requests.get(url, timeout=60)
    assert answer.status_code == 200, answer.text[:300]
    return answer.content


def test_the_model_is_trained_and_says_how(trained):
    model = trained["sdk"].models.retrieve(trained["id"]).model
    assert model.status == "trained" and model.training_images_number == 8
    raw = trained["client"].ok("GET", f"/models/{trained['id']}")["model"]
    assert raw["trainingProgress"] == {} and raw["parameters"]["rank"] == 4 and raw["parameters"]["lrScheduler"] == "constant"
    assert raw["trainingStats"]["trainDuration"] > 0 and raw["concepts"][0]["modelId"] == trained["id"]
    statuses = [entry["status"] for entry in trained["job"]["statusHistory"]]
    assert statuses[0] == "queued" and statuses[-1] == "success" and trained["job"]["progress"] == 1


def test_samples_became_assets_of_the_epochs(trained):
    epochs = trained["client"].ok("GET", f"/models/{trained['id']}")["model"]["epochs"]
    assert [epoch["epoch"] for epoch in epochs] == ["000001", "000002"]
    for epoch in epochs:
        picture = Image.open(io.BytesIO(requests.get(epoch["assets"][0]["url"], timeout=10).content))
        assert picture.size == (64, 64) and len(set(picture.convert("L").getdata())) > 8


def test_the_lora_opens_and_was_learned(trained):
    tensors = safetensors.numpy.load(download(trained, format="safetensors"))
    up = [value for key, value in tensors.items() if key.endswith("lora_up.weight")]
    down = [value for key, value in tensors.items() if key.endswith("lora_down.weight")]
    assert up and len(up) == len(down) and all(value.shape[1] == 4 for value in up)
    assert numpy.mean([numpy.any(value != 0) for value in up]) > 0.9
    assert all(numpy.isfinite(value).all() for value in tensors.values())


def test_the_archive_holds_the_lora_the_epochs_a_card_and_the_record(trained):
    archive = zipfile.ZipFile(io.BytesIO(download(trained)))
    assert archive.testzip() is None
    names = archive.namelist()
    assert sum(name.endswith(".safetensors") for name in names) >= 2 and any(name.endswith(".md") for name in names)
    record = json.loads(archive.read(next(name for name in names if name.endswith(".json"))))
    assert record


def test_a_dry_run_changes_nothing(trained):
    client = trained["client"]
    before = client.ok("GET", f"/models/{trained['id']}")
    answer = client.call("PUT", f"/models/{trained['id']}/train", params={"dryRun": "true"}, json={"parameters": {}})
    assert 200 <= answer.status_code < 300 and "creativeUnitsCost" in answer.json()
    assert client.ok("GET", f"/models/{trained['id']}") == before


def test_wandb_key_is_neither_returned_nor_logged(trained):
    client = trained["client"]
    model = client.create_model()
    client.ok("PUT", f"/models/{model['id']}", json={"parameters": {"wandbKey": "w" * 40}})
    assert "w" * 40 not in client.call("GET", f"/models/{model['id']}").text
