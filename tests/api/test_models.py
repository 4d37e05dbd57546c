"""Models through the wire: create, list, retrieve, update, delete, and what is refused."""
import pytest


def test_a_new_model_has_every_required_field(client):
    model = client.create_model(name="potions", shortDescription="ink potions")
    assert model["id"].startswith("model_") and len(model["id"]) == 30
    assert (model["name"], model["shortDescription"], model["type"]) == ("potions", "ink potions", "sd-1_5-lora")
    assert (model["status"], model["privacy"], model["source"], model["custom"]) == ("new", "private", "scenario", False)
    assert model["trainingProgress"] == {} and model["parameters"] == {} and model["trainingImagePairs"] == []
    assert model["trainingImagesNumber"] == 0 and model["tags"] == [] and model["exampleAssetIds"] == []
    assert model["ownerId"] == client.project_id
    assert client.ok("GET", f"/models/{model['id']}")["model"] == model


def test_create_needs_no_body(client):
    assert client.ok("POST", "/models")["model"]["status"] == "new"
    assert client.ok("POST", "/models", json={})["model"]["status"] == "new"


@pytest.mark.parametrize("body, reason", [
    ({"name": "x" * 65}, "name"),
    ({"name": 7}, "name"),
    ({"shortDescription": "x" * 257}, "shortDescription"),
    ({"type": "sd-9"}, "type"),
    ({"concepts": [{"modelId": "model_x", "scale": 3}]}, "concepts"),
])
def test_create_names_the_field_at_fault(client, body, reason):
    assert client.refused(400, "POST", "/models", json=body).startswith(reason)


@pytest.mark.parametrize("body", [b"{", b"[1]", b'"x"', b"\xff", b'{"name":"\\u0000"}', b"[" * 5000])
def test_a_malformed_body_is_refused(client, body):
    client.refused(400, "POST", "/models", data=body, headers={"Content-Type": "application/json"})


def test_unknown_fields_are_ignored(client):
    assert client.create_model(caption="x", nested={"a": [1]})["status"] == "new"


def test_update_changes_what_is_given(client):
    path = f"/models/{client.create_model()['id']}"
    assert client.ok("PUT", path, json={"name": "renamed"})["model"]["name"] == "renamed"
    model = client.ok("PUT", path, json={"shortDescription": "short", "type": "sd-xl-lora"})["model"]
    assert (model["name"], model["shortDescription"], model["type"]) == ("renamed", "short", "sd-xl-lora")
    assert client.ok("PUT", path, json={"parameters": {"rank": 8}})["model"]["parameters"]["rank"] == 8
    assert client.refused(400, "PUT", path, json={"parameters": {"rank": 1}}).startswith("parameters.rank must be at least 2")


def test_delete_answers_an_empty_object_and_hides_the_model(client):
    model = client.create_model()
    assert client.ok("DELETE", f"/models/{model['id']}") == {}
    assert client.refused(404, "GET", f"/models/{model['id']}") == f"Model {model['id']} not found"
    assert model["id"] not in [row["id"] for row in client.ok("GET", "/models", params={"pageSize": 500})["models"]]


def test_pages_hold_every_model_once_newest_first(server):
    client = server.client("paging")
    made = [client.create_model(name=f"model {i}")["id"] for i in range(7)]
    seen, token = [], None
    while True:
        page = client.ok("GET", "/models", params={"pageSize": 3, **({"paginationToken": token} if token else {})})
        seen += [row["id"] for row in page["models"]]
        token = page.get("nextPaginationToken")
        if not token:
            break
    assert seen == made[::-1]
    assert client.ok("GET", "/models", params={"status": "trained"})["models"] == []
    assert len(client.ok("GET", "/models", params={"status": "new"})["models"]) == 7


@pytest.mark.parametrize("query", [{"pageSize": 0}, {"pageSize": 501}, {"pageSize": "x"}, {"paginationToken": "garbage!"}])
def test_list_refuses_bad_paging(client, query):
    client.refused(400, "GET", "/models", params=query)


def test_another_projects_model_is_not_found(server, client):
    model = client.create_model()
    stranger = server.client("strangers")
    for method, body in (("GET", None), ("PUT", {"name": "mine"}), ("DELETE", None)):
        assert "not found" in stranger.refused(404, method, f"/models/{model['id']}", json=body)


def test_project_id_asserts_ownership(client):
    assert client.ok("GET", "/models", params={"projectId": client.project_id})
    client.refused(403, "GET", "/models", params={"projectId": "proj_111111111111111111111111"})
