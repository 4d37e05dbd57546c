"""Examples: a list that replaces and orders, and what is told of how each was made."""
import base64

import pytest
from scenario_sdk import Scenario

from conftest import Server, data_url, png
from reference import valid


@pytest.fixture
def sdk(server, client):
    return Scenario(api_key=client.key, api_secret=client.secret, base_url=server.url + "/v1")


def make_asset(client, seed=1):
    body = {"name": f"disc {seed}", "image": base64.b64encode(png(16, 16, seed)).decode()}
    return client.ok("POST", "/assets", json=body)["asset"]


def put(client, model, ids):
    answer = client.ok("PUT", f"/models/{model['id']}/examples", json={"assetIds": ids})
    assert answer == client.ok("GET", f"/models/{model['id']}/examples")
    assert client.ok("GET", f"/models/{model['id']}")["model"]["exampleAssetIds"] == ids
    return valid("ExampleListResponse", answer)["examples"]


def test_the_list_replaces_and_orders(client, sdk):
    model, ids = client.create_model(), [make_asset(client, seed)["id"] for seed in range(4)]
    assert client.ok("GET", f"/models/{model['id']}/examples") == {"examples": []}
    for chosen in (ids, ids[::-1], ids[1:3], [ids[3]], [], ids):
        assert [example["asset"]["id"] for example in put(client, model, chosen)] == chosen
    assert [example.asset.id for example in sdk.models.examples.list(model["id"]).examples] == ids
    assert [example.asset.id for example in sdk.models.examples.update(model["id"], asset_ids=ids[:2]).examples] == ids[:2]


def test_an_upload_is_an_example_of_the_model_itself(client):
    model, asset = client.create_model(), make_asset(client)
    example, = put(client, model, [asset["id"]])
    assert example == {"asset": asset, "modelId": model["id"]}


def test_one_asset_may_be_an_example_of_several_models(client):
    asset = make_asset(client)["id"]
    first, second = client.create_model(), client.create_model()
    put(client, first, [asset])
    put(client, second, [asset])
    put(client, first, [])
    assert client.ok("GET", f"/models/{second['id']}")["model"]["exampleAssetIds"] == [asset]


def test_150_are_the_most(client):
    model, ids = client.create_model(), [make_asset(client, seed)["id"] for seed in range(2)]
    put(client, model, ids)
    reason = client.refused(400, "PUT", f"/models/{model['id']}/examples", json={"assetIds": ["asset_x"] * 151})
    assert reason == "assetIds must be at most 150 items long"
    many = [make_asset(client, seed)["id"] for seed in range(150)]
    assert len(put(client, model, many)) == 150


@pytest.mark.parametrize("body, status, reason", [
    ({}, 400, "assetIds is required"),
    (None, 400, "A JSON body is required"),
    ({"assetIds": "asset_x"}, 400, "assetIds must be an array"),
    ({"assetIds": [7]}, 400, "assetIds[0] must be a string"),
    ({"assetIds": ["{0}", "{0}"]}, 400, "assetIds[1] is the same as assetIds[0]"),
    ({"assetIds": ["{0}", "asset_unknown"]}, 404, "Asset asset_unknown not found"),
    ({"assetIds": [""]}, 404, "Asset  not found"),
])
def test_refusals_change_nothing(client, body, status, reason):
    model, kept = client.create_model(), make_asset(client)["id"]
    put(client, model, [kept])
    if body and isinstance(body.get("assetIds"), list):
        body = {"assetIds": [kept if id == "{0}" else id for id in body["assetIds"]]}
    assert client.refused(status, "PUT", f"/models/{model['id']}/examples", json=body).startswith(reason)
    assert client.ok("GET", f"/models/{model['id']}")["model"]["exampleAssetIds"] == [kept]


def test_others_see_nothing_and_lend_nothing(server, client):
    stranger = server.client("example strangers")
    model, theirs = client.create_model(), make_asset(stranger)["id"]
    assert client.refused(404, "PUT", f"/models/{model['id']}/examples", json={"assetIds": [theirs]}) == f"Asset {theirs} not found"
    for method, body in (("GET", None), ("PUT", {"assetIds": []})):
        assert stranger.refused(404, method, f"/models/{model['id']}/examples", json=body) == f"Model {model['id']} not found"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two samples of a training of two steps, and the job that made them."""
    server = Server(tmp_path_factory.mktemp("examples") / "data").start()
    client = server.client()
    model = client.create_model()
    for seed in range(2):
        client.add_image(model["id"], data_url(png(seed=seed)))
    parameters = {"maxTrainSteps": 2, "rank": 2, "seed": 9007199254740991, "samplePrompts": ["a disc", "a \"red\" disc"]}
    job = client.ok("PUT", f"/models/{model['id']}/train", json={"parameters": parameters})["job"]
    job = client.wait_for_job(job["jobId"])
    assert job["status"] == "success", job
    yield client, model, job
    assert server.stop() == 0


def test_a_sample_tells_how_it_was_made(trained):
    client, model, job = trained
    ids = job["metadata"]["assetIds"]
    assert len(ids) == 2
    examples = put(client, model, ids)
    for index, (example, prompt) in enumerate(zip(examples, ["a disc", 'a "red" disc'])):
        parameters, metadata = example["inferenceParameters"], example["asset"]["metadata"]
        assert example["modelId"] == model["id"] and example["job"] == client.job(job["jobId"])
        assert example["inferenceId"].startswith("inf_") and metadata["inferenceId"] == example["inferenceId"]
        assert (parameters["prompt"], parameters["type"], parameters["modelEpoch"]) == (prompt, "txt2img", "000001")
        assert parameters["seed"] == "9007199254740991" and parameters["scheduler"].endswith("Scheduler")
        assert parameters["guidance"] > 0 and 1 <= parameters["numInferenceSteps"] <= 150
        assert example["asset"]["properties"]["width"] == parameters["width"] == parameters["height"]
        for field in ("prompt", "seed", "guidance", "numInferenceSteps", "scheduler"):
            assert metadata[field] == parameters[field]
        assert (metadata["modelId"], metadata["modelType"], metadata["parentJobId"]) == (model["id"], "sd-1_5-lora", job["jobId"])
        assert (metadata["type"], metadata["outputIndex"], example["asset"]["outputIndex"]) == ("inference-txt2img", index, index)


def test_a_sample_can_be_an_example_of_another_model(trained):
    client, model, job = trained
    example, = put(client, client.create_model(), job["metadata"]["assetIds"][:1])
    assert example["modelId"] == model["id"] and example["job"]["jobId"] == job["jobId"]


def test_examples_are_copied_moved_and_deleted_with_their_model(server, client):
    model, ids = client.create_model(), [make_asset(client, seed)["id"] for seed in range(2)]
    put(client, model, ids)
    copy = client.ok("POST", f"/models/{model['id']}/copy")["model"]
    copies = [example["asset"]["id"] for example in client.ok("GET", f"/models/{copy['id']}/examples")["examples"]]
    assert copies == copy["exampleAssetIds"] and len(copies) == 2 and not set(copies) & set(ids)
    client.ok("DELETE", f"/models/{copy['id']}/images", params={"ids": copies[0]})
    assert put(client, copy, copies[1:]) and client.refused(404, "GET", f"/assets/{copies[0]}")
    other = server.client("example owners")
    client.ok("POST", f"/models/{model['id']}/transfer", json={"destinationProjectId": other.project_id})
    assert [example["asset"]["id"] for example in other.ok("GET", f"/models/{model['id']}/examples")["examples"]] == ids
    assert client.refused(404, "GET", f"/assets/{ids[0]}")


def test_examples_of_a_public_model_are_open_to_all(server, client):
    model, asset = client.create_model(), make_asset(client)
    put(client, model, [asset["id"]])
    client.ok("PUT", f"/models/{model['id']}", json={"privacy": "public"})
    stranger = server.client("example readers")
    example, = stranger.ok("GET", f"/models/{model['id']}/examples")["examples"]
    assert example["asset"]["id"] == asset["id"] and example["asset"]["privacy"] == "public"
    assert stranger.ok("GET", f"/assets/{asset['id']}")["asset"]["id"] == asset["id"]
    assert "belongs to another project" in stranger.refused(403, "PUT", f"/models/{model['id']}/examples", json={"assetIds": []})
