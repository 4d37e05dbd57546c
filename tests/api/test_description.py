"""Descriptions: Markdown, what it mentions, and what the reader may see of that."""
import base64

import pytest
from scenario_sdk import Scenario

from conftest import png
from reference import valid


@pytest.fixture
def sdk(server, client):
    return Scenario(api_key=client.key, api_secret=client.secret, base_url=server.url + "/v1")


def make_asset(client, seed=1):
    body = {"name": f"disc {seed}", "image": base64.b64encode(png(16, 16, seed)).decode()}
    return client.ok("POST", "/assets", json=body)["asset"]


def put(client, model, text, **query):
    answer = client.ok("PUT", f"/models/{model['id']}/description", json={"description": text}, params=query)
    assert answer == client.ok("GET", f"/models/{model['id']}/description", params=query)
    return valid("ModelDescription", answer["description"])


def test_a_new_model_has_an_empty_description(client, sdk):
    model = client.create_model()
    answer = client.ok("GET", f"/models/{model['id']}/description")
    assert answer == {"description": {"assets": [], "models": [], "value": ""}}
    valid("DescriptionRetrieveResponse", answer)
    assert sdk.models.description.retrieve(model["id"]).description.value == ""


def test_it_is_written_and_deleted(client, sdk):
    model = client.create_model()
    made = sdk.models.description.update(model["id"], description="# Potions\n\nIn *ink*, with \u00fc and \U0001f3a8.")
    assert made.description.value == "# Potions\n\nIn *ink*, with \u00fc and \U0001f3a8."
    assert client.ok("GET", f"/models/{model['id']}")["model"]["updatedAt"] > model["updatedAt"]
    assert put(client, model, "second")["value"] == "second"
    assert put(client, model, None)["value"] == "" == put(client, model, "")["value"]


def test_mentions_are_resolved_once_in_order_of_the_text(client):
    model, other = client.create_model(), client.create_model(name="other", shortDescription="short")
    first, second = make_asset(client, 1), make_asset(client, 2)
    text = (f"{{asset:{second['id']}}} {{model:{other['id']}}}, then {{asset:{first['id']}}} and again "
            f"{{asset:{second['id']}}}; {{model:{model['id']}}}")
    description = put(client, model, text)
    assert description["value"] == text
    assert [asset["id"] for asset in description["assets"]] == [second["id"], first["id"]]
    assert [row["id"] for row in description["models"]] == [other["id"], model["id"]]
    shown = {key: second[key] for key in ("id", "authorId", "kind", "mimeType", "ownerId", "privacy", "properties", "source", "url")}
    assert description["assets"][0] == shown
    assert description["models"][0] == {"id": other["id"], "privacy": "private", "type": "sd-1_5-lora", "authorId": client.key,
                                        "name": "other", "ownerId": client.project_id, "shortDescription": "short"}


def test_a_mentioned_model_without_a_name_has_none(client):
    model = client.ok("POST", "/models")["model"]
    assert set(put(client, model, f"{{model:{model['id']}}}")["models"][0]) == {"id", "privacy", "type", "authorId", "ownerId"}


def test_original_assets_gives_links_to_the_untouched_bytes(client):
    model, asset = client.create_model(), make_asset(client)
    text = f"{{asset:{asset['id']}}}"
    assert "/assets-transform/" in put(client, model, text)["assets"][0]["url"]
    assert "/assets/" in put(client, model, text, originalAssets="true")["assets"][0]["url"]


@pytest.mark.parametrize("text", ["{asset:}", "{asset:asset_unknown}", "{asset:a b}", "{asset:../x}", "{asset", "{ASSET:x}", "asset:x}",
                                  "{asset:" + "x" * 129 + "}", "{model:model_unknown}", "{{asset:}}"])
def test_what_is_no_mention_or_is_unknown_stays_text(client, text):
    description = put(client, client.create_model(), text)
    assert description == {"assets": [], "models": [], "value": text}


def test_mentions_of_other_projects_and_of_deleted_things_are_not_resolved(server, client):
    model, gone = client.create_model(), client.create_model()
    stranger = server.client("description strangers")
    text = f"{{asset:{make_asset(stranger)['id']}}} {{model:{stranger.create_model()['id']}}} {{model:{gone['id']}}}"
    assert len(put(client, model, text)["models"]) == 1
    client.ok("DELETE", f"/models/{gone['id']}")
    assert put(client, model, text) == {"assets": [], "models": [], "value": text}


def test_many_mentions_are_resolved_and_too_many_refused(client):
    model = client.create_model()
    ids = [make_asset(client, seed)["id"] for seed in range(5)]
    unknown = " ".join(f"{{model:m{i}}}" for i in range(195))
    text = unknown + "".join(f"{{asset:{id}}}" for id in ids)
    assert [asset["id"] for asset in put(client, model, text)["assets"]] == ids
    reason = client.refused(400, "PUT", f"/models/{model['id']}/description", json={"description": text + "{asset:one.more}"})
    assert reason == "description must mention at most 200 different assets and models"
    assert client.ok("GET", f"/models/{model['id']}/description")["description"]["value"] == text


@pytest.mark.parametrize("body, reason", [
    ({}, "description is required"),
    ({"description": 7}, "description must be a string"),
    ({"description": ["x"]}, "description must be a string"),
    ({"description": "x" * 65537}, "description must be at most 65536 characters long"),
    (None, "A JSON body is required"),
])
def test_refusals_name_the_field_and_change_nothing(client, body, reason):
    model = client.create_model()
    put(client, model, "kept")
    assert client.refused(400, "PUT", f"/models/{model['id']}/description", json=body).startswith(reason)
    assert client.ok("GET", f"/models/{model['id']}/description")["description"]["value"] == "kept"


def test_the_longest_description_is_kept(client):
    text = "\u00e9" * 65536
    assert put(client, client.create_model(), text)["value"] == text


def test_models_of_others_and_deleted_ones_are_not_found(server, client):
    model, stranger = client.create_model(), server.client("description strangers")
    for who in (stranger, client):
        for method, body in (("GET", None), ("PUT", {"description": "mine"})):
            assert who.refused(404, method, f"/models/{model['id']}/description", json=body) == f"Model {model['id']} not found"
        if who is stranger:
            client.ok("DELETE", f"/models/{model['id']}")
