"""Pairs of training images: a bare array that replaces all, and what becomes of pairs when images change."""
import json

import pytest

from conftest import data_url, png


@pytest.fixture
def model(client):
    """An edit model with four images; the fifth id is of an asset that is no training image."""
    model = client.create_model(type="qwen-image-edit-lora")
    model["images"] = [client.add_image(model["id"], data_url(png(seed=i)))["id"] for i in range(4)]
    body = {"name": "stranger", "image": data_url(png(seed=5)).split(",")[1]}
    model["images"].append(client.ok("POST", "/assets", json=body)["asset"]["id"])
    return model


def path(model):
    return f"/models/{model['id']}/training-images/pairs"


def stored(client, model):
    return client.ok("GET", f"/models/{model['id']}")["model"]["trainingImagePairs"]


def pair(model, source, target, **fields):
    return {"sourceId": model["images"][source], "targetId": model["images"][target], **fields}


def test_pairs_replace_all_and_are_mirrored(client, model):
    pairs = [pair(model, 0, 1, instruction="make it red"), pair(model, 2, 3)]
    assert client.ok("PUT", path(model), json=pairs) == {"count": 2, "pairs": pairs}
    assert stored(client, model) == pairs
    listed = client.ok("GET", "/models", params={"pageSize": 500})["models"]
    assert next(row for row in listed if row["id"] == model["id"])["trainingImagePairs"] == pairs
    again = [pair(model, 1, 1, instruction="")]
    assert client.ok("PUT", path(model), json=again)["count"] == 1
    assert stored(client, model) == [pair(model, 1, 1)]
    assert client.ok("PUT", path(model), json=[]) == {"count": 0, "pairs": []}
    assert stored(client, model) == []


def test_a_list_shows_the_first_three_and_one_model_all(client, model):
    pairs = [pair(model, i % 4, (i + 1) % 4, instruction=f"step {i}") for i in range(1000)]
    assert client.ok("PUT", path(model), json=pairs)["count"] == 1000
    assert stored(client, model) == pairs
    listed = client.ok("GET", "/models", params={"pageSize": 500})["models"]
    assert next(row for row in listed if row["id"] == model["id"])["trainingImagePairs"] == pairs[:3]
    assert client.refused(400, "PUT", path(model), json=pairs + pairs[:1]) == "the body must be at most 1000 items long"
    assert len(stored(client, model)) == 1000


@pytest.mark.parametrize("change, reason", [
    (lambda pairs: pairs[1].pop("sourceId"), "[1].sourceId is required"),
    (lambda pairs: pairs[0].pop("targetId"), "[0].targetId is required"),
    (lambda pairs: pairs[1].update(targetId=7), "[1].targetId must be a string"),
    (lambda pairs: pairs[1].update(targetId=None), "[1].targetId is required"),
    (lambda pairs: pairs[0].update(instruction="x" * 4097), "[0].instruction must be at most 4096 characters long"),
    (lambda pairs: pairs.append(7), "[2] must be an object"),
    (lambda pairs: pairs.append(None), "[2] must be an object"),
    (lambda pairs: pairs.append([]), "[2] must be an object"),
])
def test_what_is_wrong_is_named_by_its_place(client, model, change, reason):
    pairs = [pair(model, 0, 1), pair(model, 2, 3)]
    client.ok("PUT", path(model), json=pairs)
    change(pairs)
    assert client.refused(400, "PUT", path(model), json=pairs) == reason
    assert len(stored(client, model)) == 2


@pytest.mark.parametrize("side", ["sourceId", "targetId"])
def test_both_sides_are_training_images_of_the_model(client, model, side):
    client.ok("PUT", path(model), json=[pair(model, 0, 1)])
    for foreign in (model["images"][4], "asset_unknown"):
        pairs = [pair(model, 0, 1)] * 3 + [{**pair(model, 0, 1), side: foreign}]
        assert client.refused(400, "PUT", path(model), json=pairs) == f"[3].{side} {foreign} is not a training image of this model"
    assert stored(client, model) == [pair(model, 0, 1)]


@pytest.mark.parametrize("body, reason", [
    (b"{}", "the body must be a JSON array"), (b'{"pairs":[]}', "the body must be a JSON array"),
    (b"null", "the body must be a JSON array"), (b'"x"', "the body must be a JSON array"),
    (b"7", "the body must be a JSON array"), (b"true", "the body must be a JSON array"),
    (b"", "A JSON body is required"), (b"[", "the body is not valid JSON"), (b"[] []", "the body is not valid JSON"),
    (b"[[[[", "[0] must be an object"),
])
def test_nothing_but_an_array_is_taken(client, model, body, reason):
    assert client.refused(400, "PUT", path(model), data=body).startswith(reason)


def test_unknown_fields_of_a_pair_are_ignored(client, model):
    assert client.ok("PUT", path(model), json=[pair(model, 0, 1, weight={"deep": [1]})])["pairs"] == [pair(model, 0, 1)]


def test_the_route_wins_over_an_image_of_that_name(client, model):
    assert "count" in client.ok("PUT", path(model), data=json.dumps([]))
    assert client.refused(404, "DELETE", path(model)).startswith("Training image pairs not found")


def test_a_deleted_image_takes_its_pairs_along(client, model):
    client.ok("PUT", path(model), json=[pair(model, 0, 1), pair(model, 1, 2), pair(model, 2, 3)])
    client.ok("DELETE", f"/models/{model['id']}/training-images/{model['images'][1]}")
    assert stored(client, model) == [pair(model, 2, 3)]


def test_a_replaced_image_keeps_its_pairs(client, model):
    client.ok("PUT", path(model), json=[pair(model, 0, 1, instruction="red"), pair(model, 1, 2)])
    image = client.ok("PUT", f"/models/{model['id']}/training-images/{model['images'][1]}", json={"assetId": model["images"][4]})
    assert image["trainingImage"]["id"] == model["images"][4]
    assert stored(client, model) == [pair(model, 0, 4, instruction="red"), pair(model, 4, 2)]


def test_two_pairs_let_an_edit_model_train(client, model):
    train = f"/models/{model['id']}/train"
    client.ok("PUT", path(model), json=[pair(model, 0, 1)])
    assert client.refused(400, "PUT", train) == "The model needs at least 2 training image pairs"
    client.ok("PUT", path(model), json=[pair(model, 0, 1), pair(model, 2, 3)])
    assert client.refused(400, "PUT", train).startswith("No trainer is configured for models of type qwen-image-edit-lora")


def test_pairs_of_unknown_and_foreign_models_are_not_found(server, client, model):
    client.refused(404, "PUT", "/models/model_unknown/training-images/pairs", json=[])
    server.client("strangers").refused(404, "PUT", path(model), json=[])


def test_a_copy_has_pairs_of_its_own(client, model):
    client.ok("PUT", path(model), json=[pair(model, 0, 1, instruction="red"), pair(model, 2, 3)])
    copy = client.ok("POST", f"/models/{model['id']}/copy")["model"]
    pairs, images = stored(client, copy), [image["id"] for image in client.ok("GET", f"/models/{copy['id']}")["model"]["trainingImages"]]
    assert [(images.index(p["sourceId"]), images.index(p["targetId"]), p.get("instruction")) for p in pairs] == \
        [(0, 1, "red"), (2, 3, None)]
