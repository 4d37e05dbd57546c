"""Tags through the wire: what is added and deleted, what is refused, and how a project counts them."""
import base64
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import png


def make_asset(client, seed=1):
    body = {"name": "disc", "image": base64.b64encode(png(16, 16, seed)).decode()}
    return client.ok("POST", "/assets", json=body)["asset"]


def tags(client, path, **body):
    return client.ok("PUT", path + "/tags", json=body)


def counts(client):
    return {tag["tagName"]: tag["itemCount"] for tag in client.ok("GET", "/tags", params={"pageSize": 100})["tags"]}


@pytest.fixture(params=["models", "assets"])
def item(request, client):
    """The path of a model and of an asset, and how to read its tags."""
    made = client.create_model() if request.param == "models" else make_asset(client)
    path = f"/{request.param}/{made['id']}"
    return path, lambda: client.ok("GET", path)[request.param[:-1]]["tags"]


def test_only_real_changes_are_answered(client, item):
    path, read = item
    assert tags(client, path, add=["sci-fi", "landscape"]) == {"added": ["sci-fi", "landscape"], "deleted": []}
    assert read() == ["sci-fi", "landscape"]
    assert tags(client, path, add=["landscape", "icon", "icon"], delete=["gone", "sci-fi", "sci-fi"]) == \
        {"added": ["icon"], "deleted": ["sci-fi"]}
    assert read() == ["landscape", "icon"]
    assert tags(client, path) == client.ok("PUT", path + "/tags") == {"added": [], "deleted": []}


def test_strict_refuses_what_is_there_and_what_is_not(client, item):
    path, read = item
    tags(client, path, add=["one"])
    for body, field in (({"add": ["two", "one"]}, "add[1] is a tag of it already"),
                        ({"add": ["two"], "delete": ["three"]}, "delete[0] is no tag of it")):
        assert client.refused(400, "PUT", path + "/tags", json={**body, "strict": True}).startswith(field)
        assert read() == ["one"]
    assert tags(client, path, add=["two"], delete=["one"], strict=True) == {"added": ["two"], "deleted": ["one"]}
    assert read() == ["two"]


@pytest.mark.parametrize("body, reason", [
    ({"add": ["same"], "delete": ["same"]}, "add[0] is in delete too"),
    ({"add": [""]}, "add[0] must not be empty"),
    ({"add": ["ok", "a,b"]}, "add[1] must not have a comma"),
    ({"delete": [" padded"]}, "delete[0] must not begin or end with a space"),
    ({"add": ["line\nbreak"]}, "add[0] must not have control characters"),
    ({"add": ["x" * 129]}, "add[0] must be at most 128 characters long"),
    ({"add": [str(i) for i in range(101)]}, "add must be at most 100 items long"),
    ({"add": "word"}, "add must be"),
    ({"strict": "yes"}, "strict must be"),
])
def test_a_request_that_makes_no_sense_changes_nothing(client, item, body, reason):
    path, read = item
    assert client.refused(400, "PUT", path + "/tags", json=body).startswith(reason)
    assert read() == []


def test_an_item_carries_at_most_a_hundred(client, item):
    path, read = item
    tags(client, path, add=[f"tag {i}" for i in range(100)])
    assert client.refused(400, "PUT", path + "/tags", json={"add": ["one more"]}).startswith("add would make 101 tags")
    assert tags(client, path, add=["one more"], delete=["tag 0"])["added"] == ["one more"]
    assert len(read()) == 100


def test_unicode_names_are_whole_characters(client, item):
    path, read = item
    name = "🗡" * 128
    tags(client, path, add=[name, "Éclair", "éclair"])
    assert read() == [name, "Éclair", "éclair"]


def test_the_project_counts_models_and_assets(server):
    client, stranger = server.client("counting"), server.client("others")
    model, asset = client.create_model(), make_asset(client)
    tags(client, f"/models/{model['id']}", add=["both", "model"])
    tags(client, f"/assets/{asset['id']}", add=["both", "asset"])
    tags(stranger, f"/models/{stranger.create_model()['id']}", add=["both"])
    rows = client.ok("GET", "/tags")["tags"]
    assert [(row["tagName"], row["itemCount"]) for row in rows] == [("asset", 1), ("both", 2), ("model", 1)]
    assert all(row["ownerId"] == client.project_id and row["createdAt"] <= row["updatedAt"] for row in rows)
    tags(client, f"/assets/{asset['id']}", delete=["both", "asset"])
    assert counts(client) == {"both": 1, "model": 1}
    client.ok("DELETE", f"/models/{model['id']}")
    assert counts(client) == {} and counts(stranger) == {"both": 1}
    deleted = client.ok("GET", "/models", params={"status": "deleted"})["models"]
    assert deleted[0]["tags"] == ["both", "model"]


def test_pages_of_tags_hold_each_once(server):
    client = server.client("tag pages")
    names = sorted(f"{'🗡' * 100}{i}" for i in range(7))
    tags(client, f"/models/{client.create_model()['id']}", add=names)
    seen, token = [], None
    while True:
        page = client.ok("GET", "/tags", params={"pageSize": 3, **({"paginationToken": token} if token else {})})
        seen += [tag["tagName"] for tag in page["tags"]]
        token = page.get("nextPaginationToken")
        if not token:
            break
        assert len(page["tags"]) == 3
    assert seen == names


@pytest.mark.parametrize("query", [{"pageSize": 0}, {"pageSize": 101}, {"paginationToken": "!"}, {"paginationToken": "AAAA"}])
def test_bad_paging_is_refused(client, query):
    client.refused(400, "GET", "/tags", params=query)


def test_items_of_others_are_not_found(server, client):
    stranger = server.client("tag strangers")
    for path in (f"/models/{client.create_model()['id']}", f"/assets/{make_asset(client)['id']}", "/models/model_x"):
        assert "not found" in stranger.refused(404, "PUT", path + "/tags", json={"add": ["mine"]})
    assert counts(stranger) == {}


def test_concurrent_changes_add_up(server):
    client = server.client("tag crowd")
    path = f"/models/{client.create_model()['id']}/tags"

    def change(number):
        body = {"add": [f"t{number % 7}"]} if number % 3 else {"delete": [f"t{number % 7}"]}
        return client.ok("PUT", path, json=body)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(change, range(200)))
    balance = {}
    for answer in answers:
        for name in answer["added"]:
            balance[name] = balance.get(name, 0) + 1
        for name in answer["deleted"]:
            balance[name] = balance.get(name, 0) - 1
    assert set(balance.values()) <= {0, 1}
    present = {name for name, left in balance.items() if left}
    assert set(client.ok("GET", path.removesuffix("/tags"))["model"]["tags"]) == present
    assert counts(client) == dict.fromkeys(present, 1)
