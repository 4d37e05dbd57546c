"""Lists of models through the wire: every filter and order, what may be asked of which list, public lists, get-bulk."""
import pytest

from conftest import Client, data_url, png


def walk(client, path="/models", size=3, key="models", **query):
    """Every row of a list, page by page; a page before the last is full."""
    rows, token = [], None
    while True:
        page = client.ok("GET", path, params={**query, "pageSize": size, **({"paginationToken": token} if token else {})})
        assert len(page[key]) <= size
        rows += page[key]
        token = page.get("nextPaginationToken")
        if not token:
            return rows
        assert len(page[key]) == size


def ids(rows):
    return [row["id"] for row in rows]


@pytest.fixture(scope="module")
def world(server):
    """Twelve models of two projects: types, privacies, tags and collections in turn."""
    clients = [server.client("lists one"), server.client("lists two", "--team", "other")]
    models = []
    for number in range(12):
        owner = clients[number % 2]
        model = owner.create_model(name=f"model {number}", type=["sd-1_5-lora", "zimage-lora", "custom"][number % 3],
                                   collectionIds=[f"col_{number % 4}", "col_all"])
        tags = [["ink"], ["castle"], ["ink", "castle"], []][number // 2 % 4]
        owner.ok("PUT", f"/models/{model['id']}/tags", json={"add": ["lists", *tags]})
        privacy = ["public", "public", "public", "unlisted", "private", "public"][number // 2]
        models.append((owner, owner.ok("PUT", f"/models/{model['id']}", json={"privacy": privacy})["model"]))
    return clients, models


def expected(world, keep, key="createdAt", reverse=True):
    chosen = [model for owner, model in world[1] if keep(owner, model)]
    return ids(sorted(chosen, key=lambda model: (model[key], model["id"]), reverse=reverse))


def is_public(_, model):
    return model["privacy"] == "public"


def test_the_private_list_is_all_of_ones_own(world):
    for client in world[0]:
        own = expected(world, lambda owner, model: owner is client)
        assert ids(walk(client)) == own and ids(walk(client, privacy="private")) == own
        assert ids(walk(client, sortBy="createdAt", sortDirection="asc")) == own[::-1]
        assert ids(walk(client, collectionId="col_all")) == own
        one = expected(world, lambda owner, model: owner is client and "col_1" in model["collectionIds"])
        assert ids(walk(client, collectionId="col_1")) == one
        assert walk(client, collectionId="col_nowhere") == []
        assert ids(walk(client, status="new", privacy="private", collectionId="col_1")) == one


@pytest.mark.parametrize("query, keep", [
    ({}, lambda model: True),
    ({"tags": "ink"}, lambda model: "ink" in model["tags"]),
    ({"tags": "ink,castle"}, lambda model: {"ink", "castle"} & set(model["tags"])),
    ({"tags": "nowhere"}, lambda model: False),
    ({"type": "custom"}, lambda model: model["type"] == "custom"),
    ({"types": "custom,zimage-lora"}, lambda model: model["type"] != "sd-1_5-lora"),
    ({"collectionIds": "col_1,col_2"}, lambda model: {"col_1", "col_2"} & set(model["collectionIds"])),
    ({"status": "new"}, lambda model: True),
    ({"status": "trained"}, lambda model: False),
    ({"tags": "ink", "types": "custom,sd-1_5-lora", "status": "new", "collectionIds": "col_0,col_1,col_2,col_3"},
     lambda model: "ink" in model["tags"] and model["type"] != "zimage-lora"),
])
def test_public_lists_take_every_filter_in_every_order(world, query, keep):
    clients, _ = world
    public = Client.with_public_token(clients[0].url)
    common = {"privacy": "public", **query}
    if "tags" not in query:
        common["collectionIds"] = query.get("collectionIds", "col_all")
    chosen = expected(world, lambda owner, model: is_public(owner, model) and keep(model))
    for client in (*clients, public):
        assert ids(walk(client, **common, sortBy="createdAt")) == chosen
        assert ids(walk(client, **common, sortBy="createdAt", sortDirection="asc")) == chosen[::-1]
    updated = expected(world, lambda owner, model: is_public(owner, model) and keep(model), "updatedAt")
    assert ids(walk(public, **common, sortBy="updatedAt", sortDirection="desc")) == updated
    assert sorted(ids(walk(public, **common))) == sorted(chosen)


def test_dates_bound_a_list_exclusively(world):
    clients, models = world
    public = sorted((model for owner, model in models if is_public(owner, model)), key=lambda model: model["createdAt"])
    low, high = public[2]["createdAt"], public[7]["createdAt"]
    between = [model["id"] for model in public if low < model["createdAt"] < high]
    common = {"privacy": "public", "tags": "lists", "createdAfter": low, "createdBefore": high, "sortBy": "createdAt"}
    assert ids(walk(clients[0], **common, size=2, sortDirection="asc")) == between
    assert ids(walk(clients[0], **common, size=2)) == between[::-1]
    last = max(model["updatedAt"] for model in public)
    assert walk(clients[0], privacy="public", tags="lists", sortBy="updatedAt", updatedAfter=last) == []
    assert len(walk(clients[0], privacy="public", tags="lists", sortBy="updatedAt", updatedBefore="2999-01-01")) == len(public)
    assert walk(clients[0], sortBy="createdAt", createdBefore="1970-01-01T00:00:00Z") == []


def test_what_makes_a_model_worth_a_look_puts_it_first(server):
    client = server.client("scores")
    made = [client.create_model(name=f"{number}")["id"] for number in range(3)]
    for model in made:
        client.ok("PUT", f"/models/{model}/tags", json={"add": ["scored"]})
        client.ok("PUT", f"/models/{model}", json={"privacy": "public"})
    client.add_image(made[0], data_url(png(seed=3)))
    assert ids(walk(client, privacy="public", tags="scored"))[0] == made[0]
    assert ids(walk(client, privacy="private", status="new", sortBy="score"))[0] == made[0]


def test_deleted_models_are_listed_to_their_project_only(server):
    client, other = server.client("deleted one"), server.client("deleted two")
    gone, kept = (client.create_model(collectionIds=["col_x"]) for _ in range(2))
    for model in (gone, kept):
        client.ok("PUT", f"/models/{model['id']}", json={"privacy": "public"})
    client.ok("DELETE", f"/models/{gone['id']}")
    assert ids(walk(client, status="deleted")) == ids(walk(client, status="deleted", collectionId="col_x")) == [gone["id"]]
    assert ids(walk(client)) == ids(walk(other, privacy="public", collectionIds="col_x")) == [kept["id"]]
    assert walk(other, status="deleted") == []
    assert ids(walk(client, status="deleted", privacy="private", sortBy="score")) == [gone["id"]]


@pytest.mark.parametrize("query, reason", [
    ({"sortDirection": "asc"}, "must be used together with sortBy to createdAt or updatedAt"),
    ({"privacy": "public", "sortBy": "score", "sortDirection": "desc"}, "must be used together with sortBy to createdAt or updatedAt"),
    ({"createdAfter": "2026-01-01"}, "createdAfter must be used together with sortBy=createdAt"),
    ({"privacy": "public", "sortBy": "updatedAt", "createdBefore": "2026-01-01"}, "createdBefore must be used together with sortBy=createdAt"),
    ({"privacy": "public", "updatedBefore": "2026-01-01"}, "updatedBefore must be used together with sortBy=updatedAt"),
    ({"privacy": "public", "sortBy": "createdAt", "createdAfter": "yesterday"}, "createdAfter must be a date"),
    ({"sortBy": "updatedAt"}, "sortBy"),
    ({"sortBy": "score"}, "privacy and status"),
    ({"sortBy": "score", "status": "new"}, "privacy and status"),
    ({"sortBy": "score", "privacy": "private"}, "privacy and status"),
    ({"updatedAfter": "2026-01-01"}, "updatedAfter must be used together with privacy=public"),
    ({"type": "custom"}, "type must be used together with privacy=public"),
    ({"types": "custom"}, "types must be used together with privacy=public"),
    ({"tags": "ink"}, "tags must be used together with privacy=public"),
    ({"collectionIds": "a"}, "collectionIds must be used together with privacy=public"),
    ({"privacy": "public", "collectionId": "a"}, "collectionId is for privacy=private"),
    ({"privacy": "public", "status": "deleted"}, "status can be deleted for privacy=private only"),
    ({"privacy": "public", "type": "custom", "types": "custom"}, "type cannot be used together with types"),
    ({"privacy": "public", "types": "custom,sd-9"}, "types"),
    ({"privacy": "unlisted"}, "privacy"),
    ({"status": "ready"}, "status"),
    ({"sortBy": "name"}, "sortBy"),
    ({"privacy": "public", "tags": ",".join("abcdefghijklmnopqrstu")}, "tags"),
    ({"loadedOnly": "maybe"}, "loadedOnly"),
])
def test_what_a_list_cannot_do_is_refused(client, query, reason):
    assert reason in client.refused(400, "GET", "/models", params=query)


def test_a_token_is_of_one_order(world):
    client = world[0][0]
    token = client.ok("GET", "/models", params={"pageSize": 1})["nextPaginationToken"]
    for query in ({"sortBy": "createdAt", "sortDirection": "asc"}, {"privacy": "public"}):
        assert client.refused(400, "GET", "/models", params={**query, "paginationToken": token}).startswith("paginationToken")
    jobs = client.refused(400, "GET", "/jobs", params={"paginationToken": token})
    assert jobs.startswith("paginationToken")


def test_nothing_is_loaded_and_nothing_blacklisted(world):
    client = world[0][0]
    assert client.ok("GET", "/models", params={"loadedOnly": "true"}) == {"models": []}
    assert client.ok("GET", "/models", params={"blacklisted": "true"}) == client.ok("GET", "/models")


def test_the_older_public_paths(world):
    clients, models = world
    public = Client.with_public_token(clients[0].url)
    chosen = expected(world, is_public)
    for client in (clients[1], public):
        assert ids(walk(client, "/models/public", tags="lists")) == chosen
        assert ids(walk(client, "/models/public", tags="lists", sortBy="createdAt", sortDirection="asc")) == chosen[::-1]
        assert client.refused(400, "GET", "/models/public", params={"sortBy": "score"}).startswith("sortBy")
        for owner, model in models:
            if is_public(owner, model):
                assert client.ok("GET", f"/models/public/{model['id']}")["model"]["id"] == model["id"]
            else:
                client.refused(404, "GET", f"/models/public/{model['id']}")


def test_bulk_gives_models_in_the_order_asked(world):
    clients, models = world
    stranger = clients[1]
    asked = ["model_unknown", *[model["id"] for _, model in models[::-1]], models[0][1]["id"]]
    rows = stranger.ok("POST", "/models/get-bulk", json={"modelIds": asked})["models"]
    readable = [model["id"] for owner, model in models[::-1] if owner is stranger or model["privacy"] != "private"]
    assert ids(rows) == readable
    assert stranger.ok("POST", "/models/get-bulk") == {"models": []}
    assert stranger.refused(400, "POST", "/models/get-bulk", json={"modelIds": ["x"] * 501}).startswith("modelIds")
    Client.with_public_token(stranger.url).refused(403, "POST", "/models/get-bulk", json={"modelIds": asked})


def test_bulk_tells_what_was_asked_for(server):
    client = server.client("bulk")
    model, empty = client.create_model(name="full"), client.create_model(name="empty")
    images = [client.add_image(model["id"], data_url(png(seed=seed)), f"{seed}.png") for seed in range(5)]
    client.ok("PUT", f"/models/{model['id']}", json={"promptEmbedding": "ink, ", "negativePromptEmbedding": "blur"})
    def bulk(**body):
        return client.ok("POST", "/models/get-bulk", json={"modelIds": [model["id"], empty["id"]], **body})["models"]
    assert bulk(minimal=True, settings=True) == [
        {"id": row["id"], "privacy": "private", "type": row["type"], "name": row["name"]} for row in (model, empty)]
    plain = bulk()[0]
    assert ids(plain["trainingImages"]) == ids(images[:3]) and plain["trainingImagesNumber"] == 5
    assert not {"thumbnail", "promptEmbedding", "negativePromptEmbedding"} & set(plain)
    assert ids(bulk(trainingImagesPreview=True)[0]["trainingImages"]) == ids(images[:3])
    for preview in (False, True):
        full = bulk(allTrainingImages=True, trainingImagesPreview=preview)
        assert ids(full[0]["trainingImages"]) == ids(images) and full[1]["trainingImages"] == []
    assert bulk(settings=True)[0]["promptEmbedding"] == "ink, "
    with_thumbnail = bulk(thumbnail=True)
    assert with_thumbnail[0]["thumbnail"] == {"assetId": images[0]["id"], "url": images[0]["downloadUrl"]}
    assert "thumbnail" not in with_thumbnail[1]
    client.ok("PUT", f"/models/{model['id']}", json={"thumbnail": images[2]["id"]})
    assert bulk(thumbnail=True)[0]["thumbnail"]["assetId"] == images[2]["id"]
