"""Assets through the wire: lists by every filter, in bulk, copies, downloads, deletion, and what is refused."""
import base64
import io
import itertools

import pytest
import requests
from PIL import Image
from scenario_sdk import Scenario

from conftest import Server, data_url, png
from reference import valid


def sdk_of(client):
    return Scenario(api_key=client.key, api_secret=client.secret, base_url=client.url + "/v1")


@pytest.fixture
def sdk(client):
    return sdk_of(client)


def make_asset(client, seed=1, name=None, **fields):
    body = {"name": name or f"disc {seed}", "image": base64.b64encode(png(16, 16, seed)).decode(), **fields}
    return valid("Asset", client.ok("POST", "/assets", json=body)["asset"])


def pages(client, size=2, **query):
    """The ids of a list, which must be the same whatever the size of its pages."""
    seen, token = [], None
    while True:
        page = client.ok("GET", "/assets", params={**query, "pageSize": size, **({"paginationToken": token} if token else {})})
        seen += [valid("Asset", asset)["id"] for asset in page["assets"]]
        token = page.get("nextPaginationToken")
        assert len(page["assets"]) == size or not token
        if not token:
            assert [asset["id"] for asset in client.ok("GET", "/assets", params={**query, "pageSize": 100})["assets"]] == seen
            return seen


@pytest.fixture(scope="module")
def many(server):
    """A project with seven assets in a tree of parents, in two collections; the third was changed last."""
    client = server.client("many assets")
    made = [make_asset(client, seed) for seed in range(3)]
    made.append(make_asset(client, 3, parentId=made[0]["id"], collectionIds=["col_a"]))
    made.append(make_asset(client, 4, parentId=made[3]["id"], collectionIds=["col_a", "col_b", "col_a"]))
    made.append(make_asset(client, 5, parentId=made[0]["id"], hide=True))
    made.append(make_asset(client, 6))
    made[2] = client.ok("PUT", f"/assets/{made[2]['id']}", json={"name": "renamed"})["asset"]
    client.made = made
    client.ids = [asset["id"] for asset in made]
    return client


def test_an_upload_is_complete(client, sdk):
    asset = sdk.assets.upload(name="disc.png", image=base64.b64encode(png(1024, 1030, 3)).decode(), hide=True).asset
    raw = client.ok("GET", f"/assets/{asset.id}", params={"withEmbedding": "true"})["asset"]
    assert valid("Asset", raw)["metadata"] == {"kind": "image", "type": "uploaded", "name": "disc.png", "width": 1024, "height": 1030,
                                               "size": raw["properties"]["size"]}
    assert raw["properties"] == {"size": raw["metadata"]["size"], "width": 1024, "height": 1030}
    assert (raw["source"], raw["kind"], raw["mimeType"], raw["status"]) == ("uploaded", "image", "image/png", "success")
    assert (raw["privacy"], raw["isHidden"], raw["tags"], raw["collectionIds"]) == ("private", True, [], [])
    assert (raw["ownerId"], raw["authorId"]) == (client.project_id, client.key)
    small = make_asset(client)
    assert "width" not in small["metadata"] and small["properties"]["width"] == 16 and "isHidden" not in small


def test_parents_and_collections_are_told(many):
    root, child, grandchild = many.made[0], many.made[3], many.made[4]
    assert "parentId" not in root["metadata"] and "rootParentId" not in root["metadata"]
    assert (child["metadata"]["parentId"], child["metadata"]["rootParentId"]) == (root["id"], root["id"])
    assert (grandchild["metadata"]["parentId"], grandchild["metadata"]["rootParentId"]) == (child["id"], root["id"])
    assert grandchild["collectionIds"] == ["col_a", "col_b"] and child["collectionIds"] == ["col_a"]


def test_a_list_is_newest_first_and_pages_hold_everything_once(many):
    assert pages(many) == pages(many, 1) == pages(many, 7) == many.ids[::-1]
    assert pages(many, sortBy="createdAt", sortDirection="asc") == many.ids
    assert len(many.ok("GET", "/assets")["assets"]) == 7
    updated = many.ids[:2] + many.ids[3:] + [many.ids[2]]
    assert pages(many, sortBy="updatedAt", sortDirection="asc") == updated
    assert pages(many, sortBy="updatedAt") == updated[::-1]


@pytest.mark.parametrize("query, chosen", [
    ({"parentAssetId": 0}, [3, 5]),
    ({"parentAssetId": 3}, [4]),
    ({"rootAssetId": 0}, [3, 4, 5]),
    ({"rootAssetId": 3}, []),
    ({"collectionId": "col_a"}, [3, 4]),
    ({"collectionId": "col_b"}, [4]),
    ({"collectionId": "col_x"}, []),
    ({"authorId": "key"}, [0, 1, 2, 3, 4, 5, 6]),
    ({"authorId": "nobody"}, []),
    ({"type": "uploaded"}, [0, 1, 2, 3, 4, 5, 6]),
    ({"type": "upscale"}, []),
    ({"types": "upscale,uploaded"}, [0, 1, 2, 3, 4, 5, 6]),
    ({"types": "upscale,patch"}, []),
    ({"modelId": "model_x"}, []),
    ({"inferenceId": "inf_x"}, []),
    ({"privacy": "private"}, [0, 1, 2, 3, 4, 5, 6]),
    ({"rootAssetId": 0, "collectionId": "col_a", "types": "uploaded", "authorId": "key"}, [3, 4]),
    ({"parentAssetId": 0, "collectionId": "col_b"}, []),
])
def test_every_filter_in_every_order(many, query, chosen):
    query = {key: many.ids[value] if isinstance(value, int) else many.key if value == "key" else value for key, value in query.items()}
    wanted = [many.ids[index] for index in chosen]
    assert pages(many, **query) == wanted[::-1] == pages(many, **query, sortBy="createdAt", sortDirection="desc")
    assert pages(many, **query, sortBy="createdAt", sortDirection="asc") == wanted
    updated = [id for id in wanted if id != many.ids[2]] + [id for id in wanted if id == many.ids[2]]
    assert pages(many, **query, sortBy="updatedAt", sortDirection="asc") == updated
    assert pages(many, **query, sortBy="updatedAt") == updated[::-1]


def test_dates_bound_the_list_exclusively(many):
    created = [asset["createdAt"] for asset in many.made]
    for direction in ("asc", "desc"):
        query = {"sortBy": "createdAt", "sortDirection": direction, "createdAfter": created[1], "createdBefore": created[5]}
        wanted = [asset["id"] for asset in many.made if created[1] < asset["createdAt"] < created[5]]
        assert pages(many, **query) == (wanted if direction == "asc" else wanted[::-1])
    changed = many.made[2]["updatedAt"]
    assert pages(many, sortBy="updatedAt", updatedBefore=changed, sortDirection="asc") == many.ids[:2] + many.ids[3:]
    assert pages(many, sortBy="updatedAt", updatedAfter=created[6]) == ([many.ids[2]] if changed > created[6] else [])


@pytest.mark.parametrize("query, reason", [
    ({"pageSize": 0}, "pageSize must be at least 1"),
    ({"pageSize": 101}, "pageSize must be at most 100"),
    ({"paginationToken": "garbage"}, "paginationToken is not a token of this list"),
    ({"type": "uploaded", "types": "upscale"}, "type cannot be used together with types"),
    ({"type": "nonsense"}, "type must be one of"),
    ({"types": "uploaded,nonsense"}, "types[1] must be one of"),
    ({"tags": "castle"}, "tags must be used together with privacy=public"),
    ({"privacy": "secret"}, "privacy must be one of"),
    ({"sortBy": "name"}, "sortBy must be one of"),
    ({"sortDirection": "asc"}, "sortDirection must be used together with sortBy to createdAt or updatedAt"),
    ({"createdAfter": "2026-01-01T00:00:00.000Z"}, "createdAfter must be used together with sortBy=createdAt"),
    ({"updatedBefore": "2026-01-01T00:00:00.000Z", "sortBy": "createdAt"}, "updatedBefore must be used together with sortBy=updatedAt"),
    ({"createdAfter": "yesterday", "sortBy": "createdAt"}, "createdAfter must be a date"),
])
def test_lists_refuse_what_they_cannot_do(many, query, reason):
    assert many.refused(400, "GET", "/assets", params=query).startswith(reason)


def test_a_token_of_one_order_is_refused_in_another(many):
    token = many.ok("GET", "/assets", params={"pageSize": 2})["nextPaginationToken"]
    for query in ({"sortBy": "updatedAt"}, {"sortBy": "createdAt", "sortDirection": "asc"}):
        many.refused(400, "GET", "/assets", params={"paginationToken": token, **query})


def test_the_sdk_walks_all_pages(many):
    assert [asset.id for asset in sdk_of(many).assets.list(page_size=3)] == many.ids[::-1]


def test_public_assets_are_those_that_public_models_show(server, many):
    owner, reader = server.client("showing"), many
    image, thumbnail, example, other = (make_asset(owner, seed) for seed in range(20, 24))
    model = owner.create_model()
    owner.ok("POST", f"/models/{model['id']}/training-images", json={"assetId": image["id"]})
    owner.ok("PUT", f"/models/{model['id']}", json={"thumbnail": thumbnail["id"], "privacy": "public"})
    owner.ok("PUT", f"/models/{model['id']}/examples", json={"assetIds": [example["id"]]})
    shown = [example["id"], thumbnail["id"], image["id"]]
    owner.ok("PUT", f"/assets/{thumbnail['id']}/tags", json={"add": ["open", "castle"]})
    owner.ok("PUT", f"/assets/{image['id']}/tags", json={"add": ["castle"]})
    for client in (owner, reader):
        listed = pages(client, privacy="public")
        assert [id for id in listed if id in shown] == shown and other["id"] not in listed
        assert pages(client, privacy="public", tags="castle") == shown[1:]
        assert pages(client, privacy="public", tags="open,castle,none") == shown[1:] and pages(client, privacy="public", tags="none") == []
    asset = reader.ok("GET", f"/assets/{image['id']}")["asset"]
    assert valid("Asset", asset)["privacy"] == "public" and asset["metadata"]["trainingImage"] is True
    answer = requests.get(server.url + f"/v1/assets/{image['id']}", headers={"Authorization": "public-auth-token"}, timeout=10)
    assert answer.status_code == 200 and answer.json()["asset"]["id"] == image["id"]
    reader.refused(403, "PUT", f"/assets/{image['id']}", json={"name": "mine"})
    reader.refused(403, "DELETE", "/assets", json={"assetIds": [image["id"]]})
    reader.refused(404, "GET", f"/assets/{other['id']}")


def test_get_bulk_keeps_the_order_and_passes_over_what_cannot_be_read(server, many):
    stranger = make_asset(server.client("bulk strangers"))["id"]
    ids = [many.ids[5], "asset_unknown", many.ids[1], stranger, many.ids[5], many.ids[0]]
    found = many.ok("POST", "/assets/get-bulk", json={"assetIds": ids})["assets"]
    assert [valid("Asset", asset)["id"] for asset in found] == [many.ids[5], many.ids[1], many.ids[0]]
    assert found[1] == many.ok("GET", f"/assets/{many.ids[1]}")["asset"]
    assert many.ok("POST", "/assets/get-bulk", json={"assetIds": []}) == {"assets": []}
    full = [f"asset_{index}" for index in range(193)] + many.ids
    assert len(sdk_of(many).assets.get_bulk(asset_ids=full).assets) == 7
    assert many.refused(400, "POST", "/assets/get-bulk", json={"assetIds": ["x"] * 201}) == "assetIds must be at most 200 items long"
    assert many.refused(400, "POST", "/assets/get-bulk", json={}) == "assetIds is required"


@pytest.mark.parametrize("body, reason", [
    ({"name": "x"}, "Either 'image' or 'canvas' must be provided"),
    ({"name": "x", "canvas": "{}"}, "canvas is not supported"),
    ({"image": "AAAA"}, "name is required"),
    ({"name": "x", "image": "AAAA"}, "image is refused"),
    ({"name": "x", "image": "?"}, "image must hold the picture in base64"),
    ({"name": "x" * 257, "image": "AAAA"}, "name must be at most 256 characters long"),
    ({"name": "x", "image": "AAAA", "collectionIds": ["c"] * 50}, "collectionIds must be at most 49 items long"),
])
def test_uploads_are_refused_by_name(client, body, reason):
    assert client.refused(400, "POST", "/assets", json=body).startswith(reason)


def test_an_unknown_parent_is_not_found(client):
    body = {"name": "x", "image": base64.b64encode(png(16, 16)).decode(), "parentId": "asset_unknown"}
    assert client.refused(404, "POST", "/assets", json=body) == "Asset asset_unknown not found"


def test_an_update_changes_what_is_sent(client, sdk):
    asset = make_asset(client)
    changed = sdk.assets.update(asset["id"], name="new name", description="a caption").asset
    assert (changed.description, changed.metadata.name) == ("a caption", "new name")
    assert client.ok("PUT", f"/assets/{asset['id']}", json={"lockId": "x", "disableSnapshot": True})["asset"]["description"] == "a caption"
    assert client.refused(400, "PUT", f"/assets/{asset['id']}", json={"canvas": "{}"}).startswith("canvas is not supported")
    assert client.refused(400, "PUT", f"/assets/{asset['id']}", json={"thumbnail": "x"}).startswith("thumbnail is not supported")
    assert client.refused(400, "PUT", f"/assets/{asset['id']}", json={"description": "x" * 4097}).startswith("description must be at most")
    assert client.refused(404, "PUT", "/assets/asset_unknown", json={}) == "Asset asset_unknown not found"


def test_a_copy_is_an_asset_of_its_own(server, sdk):
    client, other = server.client("copy here"), server.client("copy there")
    parent = make_asset(client, 7)
    asset = make_asset(client, 8, parentId=parent["id"], collectionIds=["col_a"])
    client.ok("PUT", f"/assets/{asset['id']}/tags", json={"add": ["red"]})
    asset = client.ok("PUT", f"/assets/{asset['id']}", json={"description": "a caption"})["asset"]
    copy = valid("Asset", client.ok("POST", f"/assets/{asset['id']}/copy")["asset"])
    assert copy["id"] != asset["id"] and (copy["description"], copy["tags"], copy["collectionIds"]) == ("a caption", ["red"], [])
    metadata = copy["metadata"]
    assert (metadata["originalAssetId"], metadata["sourceProjectId"]) == (asset["id"], client.project_id)
    assert metadata["copiedAt"] == copy["createdAt"] and metadata["parentId"] == parent["id"]
    there = client.ok("POST", f"/assets/{asset['id']}/copy", json={"targetProjectId": other.project_id})["asset"]
    assert there["ownerId"] == other.project_id and "parentId" not in there["metadata"]
    assert valid("Asset", other.ok("GET", f"/assets/{there['id']}")["asset"])["tags"] == ["red"]
    client.refused(404, "GET", f"/assets/{there['id']}")
    client.ok("DELETE", "/assets", json={"assetIds": [asset["id"]]})
    original = other.ok("GET", f"/assets/{there['id']}", params={"originalAssets": "true"})["asset"]["url"]
    assert requests.get(original, timeout=10).content == png(16, 16, 8)
    assert sdk_of(client).assets.duplicate(copy["id"], target_project_id=other.project_id).asset.owner_id == other.project_id


def test_copies_go_to_projects_of_the_team_only(server, client):
    asset, outsider = make_asset(client)["id"], server.keys("create", "--project", "p", "--team", "another team")
    assert "another team" in client.refused(403, "POST", f"/assets/{asset}/copy", json={"targetProjectId": outsider["projectId"]})
    assert client.refused(404, "POST", f"/assets/{asset}/copy", json={"targetProjectId": "proj_unknown"}) == "Project proj_unknown not found"
    assert client.refused(404, "POST", "/assets/asset_unknown/copy") == "Asset asset_unknown not found"


@pytest.mark.parametrize("format, kind", [(None, "PNG"), ("png", "PNG"), ("jpeg", "JPEG"), ("jpg", "JPEG"), ("webp", "WEBP"),
                                          ("tiff", "TIFF"), ("tif", "TIFF"), ("gif", "GIF")])
def test_a_download_is_a_link_to_the_picture_in_that_format(client, format, kind):
    asset = make_asset(client, 9)
    answer = client.ok("POST", f"/assets/{asset['id']}/download", json={"targetFormat": format} if format else None)
    content = requests.get(answer["url"], timeout=10).content
    assert set(answer) == {"url"} and Image.open(io.BytesIO(content)).format == kind
    assert kind != "PNG" or content == png(16, 16, 9)


@pytest.mark.parametrize("format", ["glb", "fbx", "obj", "svg", "heif", "nonsense", ""])
def test_a_format_that_cannot_be_had_is_refused(client, sdk, format):
    asset = make_asset(client)
    assert client.refused(400, "POST", f"/assets/{asset['id']}/download", json={"targetFormat": format}) == "Invalid target format"


def test_the_sdk_downloads(client, sdk):
    asset = make_asset(client)
    assert sdk.assets.download.request(asset["id"], target_format="webp").url.endswith("&format=webp")
    client.refused(404, "POST", "/assets/asset_unknown/download")


def test_deleted_assets_are_gone_everywhere(client, sdk):
    """A training image that is a pair, an example and the thumbnail of two models; and a parent."""
    models, asset, other = [client.create_model(), client.create_model(type="flux.1-kontext-lora")], make_asset(client, 1), make_asset(client, 2)
    child = make_asset(client, 3, parentId=asset["id"])
    for model in models:
        for id in (asset["id"], other["id"]):
            client.ok("POST", f"/models/{model['id']}/training-images", json={"assetId": id})
        client.ok("PUT", f"/models/{model['id']}/examples", json={"assetIds": [asset["id"], other["id"]]})
        client.ok("PUT", f"/models/{model['id']}", json={"thumbnail": asset["id"]})
        client.ok("PUT", f"/models/{model['id']}/training-images/pairs", json=[{"sourceId": asset["id"], "targetId": other["id"], "instruction": "x"}])
    client.ok("PUT", f"/models/{models[0]['id']}/description", json={"description": f"{{asset:{asset['id']}}} {{asset:{other['id']}}}"})
    client.ok("PUT", f"/assets/{asset['id']}/tags", json={"add": ["to be deleted"]})
    assert client.ok("DELETE", "/assets", json={"assetIds": [asset["id"], asset["id"]]}) == {}
    for model in models:
        row = valid("Model", client.ok("GET", f"/models/{model['id']}")["model"])
        assert [image["id"] for image in row["trainingImages"]] == row["exampleAssetIds"] == [other["id"]]
        assert row["trainingImagesNumber"] == 1 and row["trainingImagePairs"] == [] and "thumbnail" not in row
        assert [example["asset"]["id"] for example in client.ok("GET", f"/models/{model['id']}/examples")["examples"]] == [other["id"]]
    description = client.ok("GET", f"/models/{models[0]['id']}/description")["description"]
    assert [shown["id"] for shown in description["assets"]] == [other["id"]]
    assert client.refused(404, "GET", f"/assets/{asset['id']}") == f"Asset {asset['id']} not found"
    assert client.ok("POST", "/assets/get-bulk", json={"assetIds": [asset["id"]]}) == {"assets": []}
    assert asset["id"] not in pages(client, 100)
    assert "to be deleted" not in [tag["tagName"] for tag in client.ok("GET", "/tags", params={"pageSize": 100})["tags"]]
    assert requests.get(asset["url"], timeout=10).status_code == 404
    orphan = client.ok("GET", f"/assets/{child['id']}")["asset"]["metadata"]
    assert "parentId" not in orphan and "rootParentId" not in orphan
    sdk.assets.delete_multiple(asset_ids=[child["id"]])
    client.refused(404, "DELETE", "/assets", json={"assetIds": [child["id"]]})


@pytest.mark.parametrize("ids, status, reason", [
    ("kept unknown", 404, "Asset asset_unknown not found"),
    ("kept theirs", 404, "Asset {theirs} not found"),
])
def test_deletion_is_all_or_nothing(server, client, ids, status, reason):
    names = {"kept": make_asset(client)["id"], "theirs": make_asset(server.client("delete strangers"))["id"], "unknown": "asset_unknown"}
    body = {"assetIds": [names[name] for name in ids.split()]}
    assert client.refused(status, "DELETE", "/assets", json=body) == reason.format(**names)
    client.ok("GET", f"/assets/{names['kept']}")


def test_deletion_needs_ids_and_takes_a_hundred(client):
    assert client.refused(400, "DELETE", "/assets", json={}) == "assetIds is required"
    assert client.refused(400, "DELETE", "/assets") == "A JSON body is required"
    assert client.refused(400, "DELETE", "/assets", json={"assetIds": ["x"] * 101}) == "assetIds must be at most 100 items long"
    assert client.ok("DELETE", "/assets", json={"assetIds": []}) == {}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("generated") / "data").start()
    client = server.client()
    model = client.create_model()
    images = [client.add_image(model["id"], data_url(png(seed=seed)))["id"] for seed in range(2)]
    parameters = {"maxTrainSteps": 2, "rank": 2, "seed": 5, "samplePrompts": ["a disc", "two discs"]}
    job = client.ok("PUT", f"/models/{model['id']}/train", json={"parameters": parameters})["job"]
    reason = client.refused(400, "DELETE", "/assets", json={"assetIds": images[:1]})
    assert reason == f"assetIds must not be used by model {model['id']} while it trains: cancel the training or wait"
    job = client.wait_for_job(job["jobId"])
    assert job["status"] == "success", job
    yield client, model, job, images
    assert server.stop() == 0


def test_samples_are_found_by_model_inference_and_type(trained):
    client, model, job, images = trained
    samples = job["metadata"]["assetIds"]
    assert pages(client, 1, modelId=model["id"]) == samples[::-1] == pages(client, 1, type="inference-txt2img")
    assert sorted(pages(client, 1, types="inference-txt2img,uploaded")) == sorted(samples + images)
    assert pages(client, 1, modelId=model["id"], type="uploaded") == []
    for asset in client.ok("GET", "/assets", params={"modelId": model["id"]})["assets"]:
        assert pages(client, inferenceId=asset["metadata"]["inferenceId"]) == [asset["id"]]
    for id in images:
        assert client.ok("GET", f"/assets/{id}")["asset"]["metadata"]["trainingImage"] is True


def test_a_copied_sample_still_tells_how_it_was_made(trained):
    client, model, job, _ = trained
    sample = client.ok("GET", f"/assets/{job['metadata']['assetIds'][0]}")["asset"]
    copy = valid("Asset", client.ok("POST", f"/assets/{sample['id']}/copy")["asset"])
    same = ("prompt", "seed", "guidance", "numInferenceSteps", "scheduler", "modelId", "modelType", "inferenceId", "parentJobId")
    assert {key: copy["metadata"][key] for key in same} == {key: sample["metadata"][key] for key in same}


def test_a_deleted_sample_leaves_the_epochs(trained):
    client, model, job, _ = trained
    first, second = job["metadata"]["assetIds"]
    client.ok("DELETE", "/assets", json={"assetIds": [first]})
    epochs = valid("Model", client.ok("GET", f"/models/{model['id']}")["model"])["epochs"]
    assert [asset["assetId"] for epoch in epochs for asset in epoch["assets"]] == [second]
    assert pages(client, modelId=model["id"]) == [second]


def picture(asset, query):
    answer = requests.get(asset["url"] + query, timeout=10)
    assert answer.status_code == 200, answer.text[:300]
    return Image.open(io.BytesIO(answer.content))


def test_links_take_effects(client):
    asset = client.ok("POST", "/assets", json={"name": "x", "image": base64.b64encode(png(60, 30, 3)).decode()})["asset"]
    assert picture(asset, "&rotate=90").size == (30, 60) and picture(asset, "&rotate=90&width=10").size == (10, 20)
    assert picture(asset, "&greyscale").mode == "L" and picture(asset, "&greyscale=false").mode == "RGB"
    turned = picture(asset, "&rotate=45")
    assert turned.mode == "RGBA" and turned.getpixel((0, 0))[3] == 0
    assert picture(asset, "&rotate=45&background=ff0000").convert("RGB").getpixel((0, 0)) == (255, 0, 0)
    assert picture(asset, "&rotate=45&flatten").convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert picture(asset, "&width=60&height=60&fit=contain&background=00ff00&format=jpeg").size == (60, 60)
    assert picture(asset, "&blur=100&format=webp").size == (60, 30)
    first, again = (requests.get(asset["url"] + f"&blur={blur}", timeout=10).content for blur in (3, 8))
    assert first != again


@pytest.mark.parametrize("query", ["&rotate=400", "&blur=-1", "&greyscale=maybe", "&background=red", "&flatten=x", "&format=bmp"])
def test_links_refuse_effects_that_there_are_not(client, query):
    answer = requests.get(make_asset(client)["url"] + query, timeout=10)
    assert answer.status_code == 400 and answer.json()["reason"].startswith(query[1:].split("=")[0])
