"""Taking weights away: epochs, compositions, and links that can be asked for parts."""
import io
import zipfile

import pytest
import requests

from conftest import Client, data_url, make_trained, png


@pytest.fixture(scope="module")
def loras(client):
    """Two LoRAs, each trained for two epochs of one step."""
    made = []
    for seed in range(2):
        model = client.create_model(name=f"Disc, {seed}!")
        client.add_image(model["id"], data_url(png(64, 64, seed=seed)))
        body = {"parameters": {"nbEpochs": 2, "nbRepeats": 1, "rank": 2, "seed": seed, "conceptPrompt": f"disc{seed}", "learningRate": 0.001}}
        job = client.ok("PUT", f"/models/{model['id']}/train", json=body)["job"]
        assert client.wait_for_job(job["jobId"])["status"] == "success"
        made.append(client.ok("GET", f"/models/{model['id']}")["model"])
    return made


def link(client, model, body=None, **query):
    job_id = client.ok("POST", f"/models/{model['id']}/download", json=body, params=query)["jobId"]
    job = client.wait_for_job(job_id)
    assert job["status"] == "success" and job["jobType"] == "model-download"
    return job["metadata"]["output"]["downloadUrl"]


def fetch(url, status=200, **arguments):
    answer = requests.get(url, timeout=60, **arguments)
    assert answer.status_code == status, answer.text[:300]
    return answer


def content(client, model, body=None):
    return fetch(link(client, model, body, format="safetensors")).content


def test_an_epoch_can_be_chosen_and_the_last_is_the_default(client, loras):
    model = loras[0]
    path = f"/models/{model['id']}"
    assert [epoch["epoch"] for epoch in model["epochs"]] == ["000001", "000002"]
    archive = zipfile.ZipFile(io.BytesIO(fetch(link(client, model)).content))
    first, second = (archive.read(f"epochs/{name}.safetensors") for name in ("000001", "000002"))
    assert first != second
    assert content(client, model, {"modelEpoch": "000001"}) == first
    last = content(client, model)
    assert archive.read("disc-0.safetensors") == last != first
    assert content(client, model, {"modelEpoch": ""}) == last
    client.ok("PUT", path, json={"epoch": "000001"})
    assert content(client, model) == first
    assert content(client, model, {"modelEpoch": "000002"}) == second
    client.ok("PUT", path, json={"epoch": None})
    assert content(client, model) == last
    assert client.refused(400, "POST", path + "/download", json={"modelEpoch": "000009"}) == \
        "modelEpoch must be one of 000001, 000002: the model has no 000009"


def test_what_is_not_there_cannot_be_downloaded(client):
    model = client.create_model()
    path = f"/models/{model['id']}/download"
    assert client.refused(400, "POST", path) == "The model has nothing to download: train it first"
    assert client.refused(400, "POST", path, json={"modelEpoch": "000001"}) == \
        "modelEpoch is only for models with epochs: this one has no 000001"
    client.refused(400, "POST", path, params={"format": "tar"})
    client.refused(404, "POST", "/models/model_unknown/download")


@pytest.mark.parametrize("form", ["zip", "safetensors"])
def test_a_link_answers_heads_and_parts(client, loras, form):
    url = link(client, loras[0], format=form)
    whole = fetch(url)
    head = requests.head(url, timeout=60)
    assert head.status_code == 200 and head.content == b""
    for name in ("Content-Length", "Content-Type", "Content-Disposition", "ETag", "Accept-Ranges"):
        assert head.headers[name] == whole.headers[name]
    size = len(whole.content)
    assert int(head.headers["Content-Length"]) == size and f'filename="disc-0.{form}"' in head.headers["Content-Disposition"]
    condition = {"If-Range": whole.headers["ETag"]}
    half = size // 2
    start = fetch(url, 206, headers={"Range": f"bytes=0-{half - 1}", **condition})
    rest = fetch(url, 206, headers={"Range": f"bytes={half}-", **condition})
    assert start.content + rest.content == whole.content and rest.headers["Content-Range"] == f"bytes {half}-{size - 1}/{size}"
    assert fetch(url, 206, headers={"Range": "bytes=-7"}).content == whole.content[-7:]
    fetch(url, 416, headers={"Range": f"bytes={size}-"})
    fetch(url, 304, headers={"If-None-Match": whole.headers["ETag"]})
    assert fetch(url, headers={"Range": "bytes=0-1", "If-Range": '"another"'}).content == whole.content
    fetch(url.replace("Signature=", "Signature=x"), 403)


def test_a_changed_model_gives_another_etag(client, loras):
    url = link(client, loras[1])
    before = fetch(url)
    client.ok("PUT", f"/models/{loras[1]['id']}", json={"name": "Disc, renamed"})
    after = fetch(url)
    assert before.headers["ETag"] != after.headers["ETag"] and before.content != after.content
    client.ok("PUT", f"/models/{loras[1]['id']}", json={"name": "Disc, 1!"})
    assert fetch(url).headers["ETag"] == before.headers["ETag"]


def compose(client, *concepts):
    body = {"name": "Both discs", "type": "sd-1_5-composition", "concepts": list(concepts)}
    model = client.ok("POST", "/models", json=body)["model"]
    return client.ok("PUT", f"/models/{model['id']}/train")["model"]


def test_a_composition_gives_all_its_parts(client, loras):
    inner = compose(client, {"modelId": loras[1]["id"], "scale": 0.5})
    outer = compose(client, {"modelId": loras[0]["id"], "scale": 0.75, "modelEpoch": "000001"}, {"modelId": inner["id"], "scale": 0.5})
    answer = fetch(link(client, outer))
    assert 'filename="both-discs.zip"' in answer.headers["Content-Disposition"]
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    assert sorted(archive.namelist()) == ["01-disc-0.safetensors", "02-disc-1.safetensors", "README.md", "job.json"]
    assert archive.read("01-disc-0.safetensors") == content(client, loras[0], {"modelEpoch": "000001"})
    assert archive.read("02-disc-1.safetensors") == content(client, loras[1])
    card = archive.read("README.md").decode()
    assert "Scale: 0.75" in card and "Scale: 0.25" in card and "Epoch: 000001" in card and "Trigger: `disc1`" in card
    path = f"/models/{outer['id']}/download"
    assert client.refused(400, "POST", path, json={"modelEpoch": "000001"}).startswith("modelEpoch is not for compositions")
    assert client.refused(400, "POST", path, params={"format": "safetensors"}).startswith("format must be zip for a composition")


def test_a_composition_lacks_what_its_parts_lack(server, client, loras):
    empty = make_trained(server, client, "sd-1_5-lora")
    model = compose(client, {"modelId": loras[0]["id"], "scale": 1}, {"modelId": empty["id"], "scale": 1})
    reason = client.refused(400, "POST", f"/models/{model['id']}/download")
    assert reason == f"Concept {empty['id']} cannot be taken along: The model has nothing to download: train it first"
    body = {"type": "sd-1_5-composition", "concepts": [{"modelId": loras[0]["id"], "scale": 1}]}
    unfinished = client.ok("POST", "/models", json=body)["model"]
    assert client.refused(400, "POST", f"/models/{unfinished['id']}/download").endswith("train it first")


def test_a_part_of_another_project_stays_there(server, client, loras):
    stranger = server.client("strangers")
    foreign = make_trained(server, stranger, "sd-1_5-lora", privacy="public")
    model = compose(client, {"modelId": foreign["id"], "scale": 1})
    assert model["status"] == "trained"
    reason = client.refused(403, "POST", f"/models/{model['id']}/download")
    assert reason == f"Model {foreign['id']} is another project's: its weights cannot be taken along"


def test_a_jobs_link_follows_the_server(server, client, loras):
    """The last of the module: the server starts again on another port."""
    job_id = client.ok("POST", f"/models/{loras[0]['id']}/download")["jobId"]
    old = client.job(job_id)["metadata"]["output"]["downloadUrl"]
    body = fetch(old).content
    assert server.stop() == 0
    server.start()
    new = Client(server.url, client.key, client.secret).job(job_id)["metadata"]["output"]["downloadUrl"]
    assert new.startswith(server.url) and not old.startswith(server.url) and fetch(new).content == body
