"""Deletion: of a model's images, of models, and what is left of them for others."""
import base64
import random
import sqlite3
import time

import pytest
import requests

from conftest import Server, data_url, png


def upload(client, seed):
    body = {"name": f"disc {seed}", "image": base64.b64encode(png(16, 16, seed)).decode()}
    return client.ok("POST", "/assets", json=body)["asset"]["id"]


def model_of(client, model_id):
    return client.ok("GET", f"/models/{model_id}")["model"]


def images_of(client, model_id):
    return [image["id"] for image in model_of(client, model_id)["trainingImages"]]


def delete_images(client, model_id, ids):
    return client.ok("DELETE", f"/models/{model_id}/images", params={"ids": ",".join(ids)})


@pytest.fixture
def model(client):
    model_id = client.create_model()["id"]
    for seed in range(5):
        client.add_image(model_id, data_url(png(16, 16, seed)), f"disc {seed}.png")
    return model_id


def test_deleted_images_leave_every_place_of_the_model(client, model):
    ids = images_of(client, model)
    client.ok("PUT", f"/models/{model}", json={"thumbnail": ids[1]})
    client.ok("PUT", f"/assets/{ids[1]}/tags", json={"add": ["gone soon"]})
    pairs = [{"sourceId": one, "targetId": two, "instruction": "turn"} for one, two in zip(ids, ids[1:] + ids[:1])]
    client.ok("PUT", f"/models/{model}/training-images/pairs", json=pairs)
    client.ok("PUT", f"/models/{model}/examples", json={"assetIds": [ids[2], ids[0], ids[1]]})
    assert delete_images(client, model, ids[1:3]) == {}
    left = model_of(client, model)
    assert [image["id"] for image in left["trainingImages"]] == [ids[0], ids[3], ids[4]]
    assert left["trainingImagesNumber"] == 3 and "thumbnail" not in left
    assert left["trainingImagePairs"] == pairs[3:] and left["exampleAssetIds"] == [ids[0]]
    row = next(row for row in client.ok("GET", "/models")["models"] if row["id"] == model)
    assert [image["id"] for image in row["trainingImages"]] == [ids[0], ids[3], ids[4]]
    for asset in ids[1:3]:
        assert client.refused(404, "GET", f"/assets/{asset}") == f"Asset {asset} not found"
    assert "gone soon" not in [tag["tagName"] for tag in client.ok("GET", "/tags", params={"pageSize": 100})["tags"]]


def test_a_thumbnail_alone_is_of_the_model_too(client, model):
    thumbnail = upload(client, 9)
    client.ok("PUT", f"/models/{model}", json={"thumbnail": thumbnail})
    assert delete_images(client, model, [thumbnail]) == {}
    assert "thumbnail" not in model_of(client, model)
    client.refused(404, "GET", f"/assets/{thumbnail}")


def test_an_id_that_is_not_the_models_deletes_nothing(client, model):
    ids, unrelated = images_of(client, model), upload(client, 8)
    for wrong in (unrelated, "asset_111111111111111111111111", "../../etc"):
        assert client.refused(404, "DELETE", f"/models/{model}/images", params={"ids": f"{ids[0]},{wrong}"}) == \
            f"Asset {wrong} is no image of model {model}"
        assert images_of(client, model) == ids
    assert client.ok("GET", f"/assets/{unrelated}")


def test_what_another_model_needs_stays_there(client, model):
    other = client.create_model()["id"]
    ids = images_of(client, model)
    client.ok("POST", f"/models/{other}/training-images", json={"assetId": ids[0]})
    client.ok("PUT", f"/models/{other}/examples", json={"assetIds": [ids[3]]})
    client.ok("PUT", f"/models/{other}", json={"thumbnail": ids[4]})
    delete_images(client, model, [*ids[:2], *ids[3:]])
    assert images_of(client, model) == [ids[2]] and images_of(client, other) == ids[:1]
    for asset in (ids[0], ids[3], ids[4]):
        assert client.ok("GET", f"/assets/{asset}")
    kept = model_of(client, other)
    assert kept["exampleAssetIds"] == [ids[3]] and kept["thumbnail"]["assetId"] == ids[4]
    client.refused(404, "GET", f"/assets/{ids[1]}")


@pytest.mark.parametrize("query, reason", [
    ({}, "ids is required"), ({"ids": ""}, "ids must be ids of assets"), ({"ids": "asset_1,"}, "ids must be ids of assets"), ({"ids": ",".join(["x"] * 101)}, "ids must be at most 100 items long"),
    ({"ids": "x" * 129}, "ids[0] must be at most 128 characters long"),
])
def test_bad_lists_of_ids_are_refused(client, model, query, reason):
    assert client.refused(400, "DELETE", f"/models/{model}/images", params=query).startswith(reason)


def test_repeated_and_bracketed_ids_are_understood(client, model):
    ids = images_of(client, model)
    client.ok("DELETE", f"/models/{model}/images?ids={ids[0]}&ids={ids[0]}")
    client.ok("DELETE", f"/models/{model}/images?ids[]={ids[1]}&ids[]={ids[2]}")
    assert images_of(client, model) == ids[3:]


def test_a_model_that_trains_keeps_its_images(client):
    model = client.create_model()["id"]
    ids = [client.add_image(model, data_url(png(64, 64, seed)), "disc.png")["id"] for seed in range(2)]
    client.ok("PUT", f"/models/{model}/train", json={"parameters": {"maxTrainSteps": 3000, "rank": 4}})
    path = f"/models/{model}"
    assert client.refused(400, "DELETE", path + "/images", params={"ids": ids[0]}) == "Model is already training"
    client.ok("POST", path + "/train/action", json={"action": "cancel"})


def test_deleting_a_model_cancels_its_training(client):
    """The second training waits while the first one runs: both ends of a deletion."""
    models, jobs = [], []
    for _ in range(2):
        model = client.create_model()["id"]
        for seed in range(2):
            client.add_image(model, data_url(png(64, 64, seed)), "disc.png")
        models.append(model)
        jobs.append(client.ok("PUT", f"/models/{model}/train", json={"parameters": {"maxTrainSteps": 4000, "rank": 4}})["job"]["jobId"])
    client.wait_for_job(jobs[0], ("in-progress",), 60)
    for model, job in zip(models[::-1], jobs[::-1]):
        assert client.ok("DELETE", f"/models/{model}") == {}
        assert client.wait_for_job(job, seconds=20)["status"] == "canceled"
    for model in models:
        client.refused(404, "GET", f"/models/{model}")
        back = client.ok("POST", f"/models/{model}/restore")["model"]
        assert back["status"] == "training-canceled" and back["trainingProgress"] == {} and len(back["trainingImages"]) == 2


def test_a_restored_model_is_as_it_was_without_tags_and_collections(server):
    client, stranger = server.client("restoring"), server.client("restoring strangers")
    model = client.create_model(name="back", collectionIds=["collection_a"])["id"]
    images = [client.add_image(model, data_url(png(16, 16, seed)), "disc.png") for seed in range(4)]
    client.ok("PUT", f"/models/{model}/tags", json={"add": ["tagged"]})
    client.ok("PUT", f"/models/{model}", json={"privacy": "public", "parameters": {"rank": 8}})
    path = f"/models/{model}/restore"
    assert client.refused(400, "POST", path) == f"Model {model} is not deleted"
    assert "only that project" in stranger.refused(403, "POST", path)
    before = model_of(client, model)
    client.ok("DELETE", f"/models/{model}")
    assert stranger.refused(404, "POST", path) == f"Model {model} not found"
    back = client.ok("POST", path)["model"]
    assert back == {**before, "tags": [], "collectionIds": [], "updatedAt": back["updatedAt"]} and len(images) == 4
    assert model_of(client, model) == back and client.ok("GET", "/tags")["tags"] == []
    assert [row["id"] for row in client.ok("GET", "/models")["models"]] == [model]
    assert client.ok("GET", "/models", params={"status": "deleted"})["models"] == []
    assert client.refused(404, "POST", "/models/model_x/restore") == "Model model_x not found"


def test_others_cannot_delete(server, client, model):
    stranger = server.client("deleting strangers")
    ids = images_of(client, model)
    stranger.refused(404, "DELETE", f"/models/{model}/images", params={"ids": ids[0]})
    client.ok("PUT", f"/models/{model}", json={"privacy": "public"})
    stranger.refused(403, "DELETE", f"/models/{model}/images", params={"ids": ids[0]})
    assert images_of(client, model) == ids


def test_a_deleted_model_is_listed_as_deleted_and_not_found_otherwise(server):
    client = server.client("deleting")
    model = client.create_model(name="gone")["id"]
    assert client.ok("DELETE", f"/models/{model}") == {}
    for method, path, body in (("DELETE", "", None), ("GET", "", None), ("PUT", "/tags", {}), ("POST", "/copy", {})):
        assert client.refused(404, method, f"/models/{model}{path}", json=body) == f"Model {model} not found"
    assert client.ok("GET", "/models")["models"] == []
    deleted = client.ok("GET", "/models", params={"status": "deleted"})["models"]
    assert [row["id"] for row in deleted] == [model] and deleted[0]["name"] == "gone"


def rows(server, sql, *values):
    connection = sqlite3.connect(f"file:{server.data}/maquette.db?mode=ro", uri=True)
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.close()


def wait(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def own(tmp_path):
    """A server whose rounds of purging are its starts."""
    server = Server(tmp_path / "data").start()
    yield server
    if server.process.poll() is None:
        assert server.stop() == 0


def restart(server, client, *arguments, how="stop"):
    getattr(server, how)()
    server.arguments = list(arguments)
    server.start()
    client.url = server.url


def without_links(value):
    """The server has another port after each start."""
    if isinstance(value, list):
        return [without_links(item) for item in value]
    if isinstance(value, dict):
        return {key: without_links(item) for key, item in value.items() if key not in ("url", "downloadUrl")}
    return value


def train(client, model):
    parameters = {"maxTrainSteps": 4, "rank": 4, "seed": 7, "validationPrompt": "a disc", "validationFrequency": 2}
    job = client.ok("PUT", f"/models/{model}/train", json={"parameters": parameters})["job"]["jobId"]
    assert client.wait_for_job(job)["status"] == "success"
    return job


def test_a_purge_frees_what_only_the_deleted_model_needed(own):
    client = own.client()
    model, other = client.create_model()["id"], client.create_model()["id"]
    ids = [client.add_image(model, data_url(png(64, 64, seed)), "disc.png")["id"] for seed in range(3)]
    library = upload(client, 7)
    client.ok("POST", f"/models/{model}/training-images", json={"assetId": library})
    client.ok("POST", f"/models/{other}/training-images", json={"assetId": ids[0]})
    client.ok("PUT", f"/assets/{ids[1]}/tags", json={"add": ["tagged"]})
    job = train(client, model)
    kept = client.ok("POST", f"/models/{model}/copy", json={"copyAsTrained": True})["model"]
    sample = kept["epochs"][0]["assets"][0]["assetId"]
    delete_images(client, kept["id"], [sample])
    kept = model_of(client, kept["id"])
    assert [len(epoch["assets"]) for epoch in kept["epochs"]] == [0, 1]
    assert [len(epoch["assets"]) for epoch in model_of(client, model)["epochs"]] == [1, 1]
    assert (own.data / "jobs" / job).is_dir()
    client.ok("DELETE", f"/models/{model}")
    restart(own, client, "--purge-after", "1")
    assert len(client.ok("GET", "/models", params={"status": "deleted"})["models"]) == 1
    assert client.job(job)["status"] == "success"
    restart(own, client, "--purge-after", "0")
    wait(lambda: not client.ok("GET", "/models", params={"status": "deleted"})["models"])
    assert rows(own, "SELECT count(*) FROM model WHERE id = ?", model) == [(0,)]
    client.refused(404, "GET", f"/jobs/{job}")
    assert not (own.data / "jobs" / job).exists()
    for asset in ids[1:]:
        client.refused(404, "GET", f"/assets/{asset}")
    assert client.ok("GET", f"/assets/{library}")
    assert images_of(client, other) == ids[:1]
    assert [tag["itemCount"] for tag in client.ok("GET", "/tags")["tags"]] == [1]  # of the copy's asset
    left = model_of(client, kept["id"])
    assert without_links(left) == without_links(kept)
    url = client.wait_for_job(client.ok("POST", f"/models/{kept['id']}/download")["jobId"])["metadata"]["output"]["downloadUrl"]
    assert requests.get(url, timeout=30).status_code == 200
    # What lived on for the other model goes with that one.
    client.ok("DELETE", f"/models/{other}")
    restart(own, client, "--purge-after", "0")
    wait(lambda: not client.ok("GET", "/models", params={"status": "deleted"})["models"])
    client.refused(404, "GET", f"/assets/{ids[0]}")
    assert rows(own, "PRAGMA foreign_key_check") == [] and rows(own, "PRAGMA integrity_check") == [("ok",)]


def test_deleted_assets_are_purged_too(own):
    client = own.client()
    model = client.create_model()["id"]
    ids = [client.add_image(model, data_url(png(16, 16, seed)), "disc.png")["id"] for seed in range(3)]
    delete_images(client, model, ids[:2])
    restart(own, client)
    assert rows(own, "SELECT count(*) FROM asset") == [(3,)]
    restart(own, client, "--purge-after", "0")
    wait(lambda: rows(own, "SELECT count(*) FROM asset") == [(1,)])
    other = client.create_model()["id"]
    client.ok("DELETE", f"/models/{other}")
    assert "too long ago" in client.refused(410, "POST", f"/models/{other}/restore")
    assert images_of(client, model) == ids[2:]


def test_a_purge_that_is_killed_goes_on_where_it_was(own):
    """Kills at every moment: in the end all that was deleted is gone, and what was copied is whole."""
    client = own.client()
    kept = []
    for number in range(30):
        model = client.create_model(name=str(number))["id"]
        ids = [upload(client, number * 5 + seed) for seed in range(2)]
        for seed in range(5):
            client.add_image(model, data_url(png(16, 16, seed)), "disc.png")
        client.ok("POST", f"/models/{model}/training-images", json={"assetIds": ids})
        client.ok("PUT", f"/models/{model}/tags", json={"add": ["all"]})
        if number % 3 == 0:
            kept.append(client.ok("POST", f"/models/{model}/copy")["model"])
        client.ok("DELETE", f"/models/{model}")
    chance, kills = random.Random(3), 0
    restart(own, client, "--purge-after", "0", how="kill")
    while rows(own, "SELECT count(*) FROM model WHERE deleted_at > 0") != [(0,)] and kills < 60:
        time.sleep(chance.random() * 0.004)
        restart(own, client, "--purge-after", "0", how="kill")
        kills += 1
    wait(lambda: rows(own, "SELECT count(*) FROM model WHERE deleted_at > 0") == [(0,)])
    assert rows(own, "SELECT count(*) FROM model") == [(len(kept),)]
    assert rows(own, "SELECT count(*) FROM asset") == [(60 + 7 * len(kept),)]
    assert rows(own, "SELECT name, item_count FROM tag") == [("all", len(kept))]
    assert rows(own, "PRAGMA foreign_key_check") == [] and rows(own, "PRAGMA integrity_check") == [("ok",)]
    for model in kept:
        left = model_of(client, model["id"])
        assert [image["id"] for image in left["trainingImages"]] == [image["id"] for image in model["trainingImages"]]
        assert all(requests.get(image["downloadUrl"], timeout=10).status_code == 200 for image in left["trainingImages"])
