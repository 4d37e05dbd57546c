"""Copies of models: what comes along, what does not, and that neither side can harm the other."""
import base64
import io
import json
import sqlite3
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from conftest import Server, data_url, png


def model_of(client, model_id):
    return client.ok("GET", f"/models/{model_id}", params={"originalAssets": "true"})["model"]


def copy(client, model_id, **body):
    return client.ok("POST", f"/models/{model_id}/copy", json=body, params={"originalAssets": "true"})["model"]


def fetch(url):
    answer = requests.get(url, timeout=30)
    assert answer.status_code == 200, answer.text[:300]
    return answer.content


def blobs(server):
    return sorted(path.name for path in (server.data / "blobs").rglob("*") if path.is_file())


def upload(client, seed):
    body = {"name": f"disc {seed}", "image": base64.b64encode(png(16, 16, seed)).decode()}
    return client.ok("POST", "/assets", json=body)["asset"]["id"]


def make_pairs(ids):
    """Each image turned into the one after it."""
    return [{"sourceId": one, "targetId": two, "instruction": f"make {number}"}
            for number, (one, two) in enumerate(zip(ids, ids[1:] + ids[:1]))]


def download(client, model_id, **body):
    job_id = client.ok("POST", f"/models/{model_id}/download", json=body)["jobId"]
    return zipfile.ZipFile(io.BytesIO(fetch(client.wait_for_job(job_id)["metadata"]["output"]["downloadUrl"])))


@pytest.fixture
def source(client):
    """A new model with all that a user can put on one."""
    model = client.create_model(name="potions", shortDescription="ink potions", classSlug="items")
    for seed in range(4):
        client.add_image(model["id"], data_url(png(16, 16, seed)), f"red_potion_{seed}.png")
    ids = [image["id"] for image in model_of(client, model["id"])["trainingImages"]]
    client.ok("PUT", f"/models/{model['id']}/training-images/pairs", json=make_pairs(ids))
    thumbnail = upload(client, 9)
    client.ok("PUT", f"/models/{model['id']}", json={"promptEmbedding": "ink", "negativePromptEmbedding": "blur",
                                                    "parameters": {"rank": 8}, "thumbnail": thumbnail})
    client.ok("PUT", f"/models/{model['id']}/tags", json={"add": ["ink", "potion"]})
    client.ok("PUT", f"/models/{model['id']}/examples", json={"assetIds": [upload(client, 8), ids[2]]})
    client.ok("PUT", f"/models/{model['id']}/description", json={"description": f"Like {{asset:{ids[1]}}}, {{asset:asset_none}}."})
    return model_of(client, model["id"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A server with a model that has weights, epochs and samples."""
    server = Server(tmp_path_factory.mktemp("copies") / "data").start()
    client = server.client()
    model = client.create_model(name="discs")
    for seed in range(2):
        client.add_image(model["id"], data_url(png(64, 64, seed)), f"disc {seed}.png")
    parameters = {"maxTrainSteps": 4, "rank": 4, "seed": 7, "validationPrompt": "a red disc", "validationFrequency": 2}
    answer = client.ok("PUT", f"/models/{model['id']}/train", json={"parameters": parameters})
    assert client.wait_for_job(answer["job"]["jobId"])["status"] == "success"
    yield server, client, model["id"]
    assert server.stop() == 0


def test_a_copy_is_a_new_model_with_the_same_data(server, client, source):
    before = blobs(server)
    made = copy(client, source["id"])
    assert blobs(server) == before
    assert made["id"] != source["id"] and made["parentModelId"] == source["id"] and made["status"] == "new"
    for field in ("name", "shortDescription", "type", "parameters", "tags", "promptEmbedding", "negativePromptEmbedding",
                  "capabilities", "trainingImagesNumber", "source", "ownerId"):
        assert made[field] == source[field], field
    assert made["privacy"] == "private" and made["collectionIds"] == [] and "epochs" not in made
    assert len(made["trainingImages"]) == 4
    for old, new in zip(source["trainingImages"], made["trainingImages"]):
        assert new["id"] != old["id"] and fetch(new["downloadUrl"]) == fetch(old["downloadUrl"])
        assert [new[key] for key in ("name", "description", "automaticCaptioning")] == \
            [old[key] for key in ("name", "description", "automaticCaptioning")]
    assert made["trainingImagePairs"] == make_pairs([image["id"] for image in made["trainingImages"]])
    assert made["thumbnail"]["assetId"] != source["thumbnail"]["assetId"]
    assert fetch(made["thumbnail"]["url"]) == fetch(source["thumbnail"]["url"])
    assert model_of(client, made["id"]) == made
    row = next(row for row in client.ok("GET", "/models")["models"] if row["id"] == made["id"])
    assert [image["id"] for image in row["trainingImages"]] == [image["id"] for image in made["trainingImages"][:3]]
    assert row["trainingImagePairs"] == made["trainingImagePairs"][:3]


def test_examples_and_description_speak_of_the_copys_assets(client, source):
    made = copy(client, source["id"])
    assert len(made["exampleAssetIds"]) == 2 and not set(made["exampleAssetIds"]) & set(source["exampleAssetIds"])
    assert made["exampleAssetIds"][1] == made["trainingImages"][2]["id"]
    examples = client.ok("GET", f"/models/{made['id']}/examples")["examples"]
    assert [example["asset"]["id"] for example in examples] == made["exampleAssetIds"]
    assert examples[0]["asset"]["metadata"]["originalAssetId"] == source["exampleAssetIds"][0]
    text = client.ok("GET", f"/models/{made['id']}/description")["description"]
    assert text["value"] == f"Like {{asset:{made['trainingImages'][1]['id']}}}, {{asset:asset_none}}."
    assert [asset["id"] for asset in text["assets"]] == [made["trainingImages"][1]["id"]]
    without = copy(client, source["id"], copyExamples=False)
    assert without["exampleAssetIds"] == [] and without["trainingImagesNumber"] == 4
    assert client.ok("GET", f"/models/{without['id']}/examples")["examples"] == []


def test_an_asset_in_two_roles_is_copied_once(client, source):
    image = source["trainingImages"][0]["id"]
    client.ok("PUT", f"/models/{source['id']}", json={"thumbnail": image})
    made = copy(client, source["id"])
    assert made["thumbnail"]["assetId"] == made["trainingImages"][0]["id"]


def test_each_side_lives_on_its_own(client, source):
    made = copy(client, source["id"])
    mine, other = made["trainingImages"][0]["id"], source["trainingImages"][0]["id"]
    client.ok("PUT", f"/assets/{mine}", json={"description": "changed in the copy"})
    assert model_of(client, source["id"])["trainingImages"][0]["description"] == "red potion"
    client.ok("DELETE", f"/models/{source['id']}/training-images/{other}")
    client.ok("PUT", f"/models/{source['id']}/tags", json={"delete": ["ink"]})
    assert model_of(client, made["id"])["trainingImagesNumber"] == 4
    client.ok("DELETE", f"/models/{source['id']}")
    kept = model_of(client, made["id"])
    assert kept["tags"] == ["ink", "potion"] and kept["trainingImages"][0]["description"] == "changed in the copy"
    assert all(fetch(image["downloadUrl"]) for image in kept["trainingImages"])
    assert copy(client, made["id"])["parentModelId"] == made["id"]


def test_a_copy_as_trained_needs_weights(client, source):
    count = len(client.ok("GET", "/models", params={"pageSize": 500})["models"])
    reason = client.refused(400, "POST", f"/models/{source['id']}/copy", json={"copyAsTrained": True})
    assert reason == "copyAsTrained needs a trained model: the status of this one is new"
    assert len(client.ok("GET", "/models", params={"pageSize": 500})["models"]) == count


def test_a_copy_as_trained_brings_the_whole_training(trained):
    server, client, model_id = trained
    source, before = model_of(client, model_id), blobs(server)
    made = copy(client, model_id, copyAsTrained=True)
    assert blobs(server) == before
    assert made["status"] == "trained" and made["trainingStats"] == source["trainingStats"]
    assert made["concepts"] == [{"modelId": made["id"], "scale": 0.8}]
    assert [epoch["epoch"] for epoch in made["epochs"]] == [epoch["epoch"] for epoch in source["epochs"]]
    for old, new in zip(source["epochs"], made["epochs"]):
        assert len(old["assets"]) == len(new["assets"]) > 0
        for one, two in zip(old["assets"], new["assets"]):
            assert one["assetId"] != two["assetId"] and fetch(one["url"]) == fetch(two["url"])
    client.ok("DELETE", f"/models/{copy(client, made['id'], copyAsTrained=True)['id']}")
    ours, theirs = download(client, made["id"]), download(client, model_id)
    assert ours.namelist() == theirs.namelist() and len(ours.namelist()) >= 5
    for name in ours.namelist():
        if name.endswith(".safetensors"):
            assert ours.read(name) == theirs.read(name)
    record, original = json.loads(ours.read("job.json")), json.loads(theirs.read("job.json"))
    assert record["jobId"] == original["jobId"] and record["metadata"]["output"] == original["metadata"]["output"]
    assert set(record["metadata"]["assetIds"]) == {asset["assetId"] for epoch in made["epochs"] for asset in epoch["assets"]}
    epoch = made["epochs"][0]["epoch"]
    client.ok("PUT", f"/models/{made['id']}", json={"epoch": epoch})
    assert copy(client, made["id"], copyAsTrained=True)["epoch"] == epoch


def test_a_trained_model_can_be_copied_as_new(trained):
    _, client, model_id = trained
    made = copy(client, model_id)
    assert made["status"] == "new" and made["trainingImagesNumber"] == 2 and made["parameters"]["rank"] == 4
    assert not {"epochs", "epoch", "trainingStats", "concepts"} & set(made)
    assert client.refused(400, "POST", f"/models/{made['id']}/download").startswith("The model has nothing to download")
    started = client.ok("PUT", f"/models/{made['id']}/train")["model"]
    assert started["parameters"]["rank"] == 4 and started["parameters"]["maxTrainSteps"] == 4
    client.ok("POST", f"/models/{made['id']}/train/action", json={"action": "cancel"})


def test_what_can_be_read_can_be_copied(server, client, source):
    stranger = server.client("copy strangers")
    path = f"/models/{source['id']}/copy"
    assert stranger.refused(404, "POST", path) == f"Model {source['id']} not found"
    client.ok("PUT", f"/models/{source['id']}", json={"privacy": "public"})
    made = copy(stranger, source["id"])
    assert made["ownerId"] == stranger.project_id != source["ownerId"] and made["authorId"] == stranger.key
    assert made["privacy"] == "private" and made["parentModelId"] == source["id"]
    for image in made["trainingImages"]:
        assert stranger.ok("GET", f"/assets/{image['id']}")["asset"]["ownerId"] == stranger.project_id
    assert "only that project" in stranger.refused(403, "POST", path, json={"copyAsTrained": True})
    client.ok("PUT", f"/models/{source['id']}", json={"privacy": "private"})
    assert len(model_of(stranger, made["id"])["trainingImages"]) == 4
    assert {tag["tagName"]: tag["itemCount"] for tag in stranger.ok("GET", "/tags")["tags"]} == {"ink": 1, "potion": 1}


@pytest.mark.parametrize("body, reason", [({"copyAsTrained": "yes"}, "copyAsTrained"), ({"copyExamples": 1}, "copyExamples")])
def test_what_makes_no_sense_is_refused(client, source, body, reason):
    assert client.refused(400, "POST", f"/models/{source['id']}/copy", json=body).startswith(reason)


def test_an_unknown_model_is_not_found(client):
    assert client.refused(404, "POST", "/models/model_x/copy") == "Model model_x not found"


def test_copies_of_a_model_that_changes_are_whole(client):
    """Images come and go meanwhile: every copy is the data set of one moment."""
    model = client.create_model()["id"]
    ids = [upload(client, seed) for seed in range(6)]

    copied = threading.Event()

    def churn(number):
        path = f"/models/{model}/training-images"
        while not copied.is_set():
            client.call("POST", path, json={"assetIds": ids[number * 2:number * 2 + 2]})
            client.call("DELETE", f"{path}/{ids[number * 2]}")
            client.call("DELETE", f"{path}/{ids[number * 2 + 1]}")

    with ThreadPoolExecutor(8) as pool:
        churning = [pool.submit(churn, number) for number in range(3)]
        try:
            made = [future.result() for future in [pool.submit(copy, client, model) for _ in range(40)]]
        finally:
            copied.set()
        [future.result() for future in churning]
    seen = set()
    for one in made:
        seen.add(one["trainingImagesNumber"])
        assert one["trainingImagesNumber"] == len(one["trainingImages"])
        assert len({image["id"] for image in one["trainingImages"]}) == len(one["trainingImages"])
    assert len(seen) > 1, seen


def test_a_kill_in_the_middle_of_copies_tears_none(tmp_path):
    """What was acknowledged is there, and whatever is there is whole: no half data set, no asset of a copy that is not."""
    server = Server(tmp_path / "data").start()
    client = server.client()
    source = client.create_model(name="copied")["id"]
    ids = [client.add_image(source, data_url(png(16, 16, seed)), "disc.png")["id"] for seed in range(12)]
    client.ok("PUT", f"/models/{source}/training-images/pairs", json=make_pairs(ids))
    client.ok("PUT", f"/models/{source}/tags", json={"add": ["whole"]})
    acknowledged, stop = [], threading.Event()

    def copy_on():
        while not stop.is_set():
            try:
                acknowledged.append(copy(client, source)["id"])
            except requests.RequestException:
                time.sleep(0.01)  # it was killed, or is not up yet

    with ThreadPoolExecutor(4) as pool:
        copying = [pool.submit(copy_on) for _ in range(4)]
        try:
            for _ in range(6):
                count = len(acknowledged)
                while len(acknowledged) < count + 5 and not any(future.done() for future in copying):
                    time.sleep(0.005)
                server.kill()
                server.start()
                client.url = server.url
        finally:
            stop.set()
        [future.result() for future in copying]
    models = client.ok("GET", "/models", params={"pageSize": 500})["models"]
    assert set(acknowledged) <= {model["id"] for model in models} and len(acknowledged) >= 30
    for model in models:
        whole = model_of(client, model["id"])
        images = [image["id"] for image in whole["trainingImages"]]
        assert len(images) == whole["trainingImagesNumber"] == 12 and whole["tags"] == ["whole"]
        assert whole["trainingImagePairs"] == make_pairs(images)
    connection = sqlite3.connect(f"file:{server.data}/maquette.db?mode=ro", uri=True)

    def count(sql):
        return connection.execute(sql).fetchall()

    assert count("SELECT count(*) FROM asset") == count("SELECT 12 * count(*) FROM model")
    assert count("SELECT item_count FROM tag") == [(len(models),)]
    assert count("PRAGMA foreign_key_check") == [] and count("PRAGMA integrity_check") == [("ok",)]
    connection.close()
    assert server.stop() == 0
