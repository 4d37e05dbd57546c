"""Deletion: of a model's images, of models, and what is left of them for others."""
import base64

import pytest

from conftest import data_url, png


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
    assert delete_images(client, model, ids[1:3]) == {}
    left = model_of(client, model)
    assert [image["id"] for image in left["trainingImages"]] == [ids[0], ids[3], ids[4]]
    assert left["trainingImagesNumber"] == 3 and "thumbnail" not in left
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
    delete_images(client, model, ids[:2])
    assert images_of(client, model) == ids[2:] and images_of(client, other) == ids[:1]
    assert client.ok("GET", f"/assets/{ids[0]}")
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
    assert client.refused(400, "DELETE", path) == "Model is already training"
    client.ok("POST", path + "/train/action", json={"action": "cancel"})


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
