"""Training images and assets through the wire."""
import io

import pytest
import requests
from PIL import Image

from conftest import data_url, png


def test_an_image_becomes_an_asset_with_a_caption(client):
    model = client.create_model()
    image = client.add_image(model["id"], data_url(png(seed=1)), "red_apple-03.png")
    assert image["id"].startswith("asset_") and image["automaticCaptioning"] == image["description"] == "red apple"
    fetched = client.ok("GET", f"/models/{model['id']}")["model"]
    assert fetched["trainingImagesNumber"] == 1 and fetched["trainingImages"][0]["id"] == image["id"]
    asset = client.ok("GET", f"/assets/{image['id']}")["asset"]
    assert (asset["mimeType"], asset["kind"], asset["status"]) == ("image/png", "image", "success")
    assert (asset["properties"]["width"], asset["properties"]["height"]) == (128, 128)
    changed = client.ok("PUT", f"/assets/{image['id']}", json={"description": "a shiny apple"})["asset"]
    assert changed["description"] == "a shiny apple"
    row = client.ok("GET", f"/models/{model['id']}")["model"]["trainingImages"][0]
    assert (row["description"], row["automaticCaptioning"]) == ("a shiny apple", "red apple")


def test_the_untouched_bytes_come_back(client):
    model, content = client.create_model(), png(seed=2)
    client.add_image(model["id"], data_url(content))
    row = client.ok("GET", f"/models/{model['id']}", params={"originalAssets": "true"})["model"]["trainingImages"][0]
    assert requests.get(row["downloadUrl"], timeout=10).content == content


def test_signed_urls_take_transformations_and_refuse_tampering(client):
    model = client.create_model()
    url = client.add_image(model["id"], data_url(png(200, 100, seed=3)))["downloadUrl"]
    assert "?" in url
    answer = requests.get(url + "&format=jpeg&quality=80&width=50", timeout=10)
    picture = Image.open(io.BytesIO(answer.content))
    assert answer.status_code == 200 and (picture.format, picture.size) == ("JPEG", (50, 25))
    again = requests.get(url, headers={"If-None-Match": requests.get(url, timeout=10).headers["ETag"]}, timeout=10)
    assert again.status_code == 304
    part = requests.get(url, headers={"Range": "bytes=0-7"}, timeout=10)
    assert part.status_code == 206 and part.content == b"\x89PNG\r\n\x1a\n"
    assert requests.get(url[:-6] + "AAAAAA", timeout=10).status_code == 403
    assert requests.get(url.split("?")[0], timeout=10).status_code == 403
    assert requests.get(url + "&width=100000", timeout=10).status_code == 400


def test_lists_carry_the_first_three_images(server):
    client = server.client("three")
    model = client.create_model()
    ids = [client.add_image(model["id"], data_url(png(seed=i)))["id"] for i in range(5)]
    row = client.ok("GET", "/models")["models"][0]
    assert [image["id"] for image in row["trainingImages"]] == ids[:3] and row["trainingImagesNumber"] == 5
    assert [image["id"] for image in client.ok("GET", f"/models/{model['id']}")["model"]["trainingImages"]] == ids


def test_assets_attach_by_id(client):
    model = client.create_model()
    body = {"name": "disc", "image": data_url(png(seed=9)).split(",")[1]}
    ids = [client.ok("POST", "/assets", json=body)["asset"]["id"] for _ in range(2)]
    path = f"/models/{model['id']}/training-images"
    assert client.ok("POST", path, json={"assetId": ids[0]})["trainingImage"]["id"] == ids[0]
    assert client.refused(400, "POST", path, json={"assetId": ids[0]}) == \
        "The provided assetId is already a training image of this model"
    assert client.ok("POST", path, json={"assetIds": ids[1:]})["trainingImage"]["id"] == ids[1]
    assert client.refused(400, "POST", path, json={"assetIds": ids * 6}) == "Too many assetIds provided in a single request"
    client.refused(404, "POST", path, json={"assetId": "asset_111111111111111111111111"})
    client.refused(400, "POST", path, json={"assetId": ids[0], "assetIds": ids})
    client.refused(400, "POST", path, json={})


def test_the_three_modes_exclude_each_other(client):
    model = client.create_model()
    path = f"/models/{model['id']}/training-images"
    ids = [client.ok("POST", "/assets", json={"name": "disc", "image": data_url(png(seed=9)).split(",")[1]})["asset"]["id"] for _ in range(3)]
    picture = data_url(png(seed=1))
    for other in ({"assetId": ids[1]}, {"data": picture}, {"name": "x.png"}):
        assert client.refused(400, "POST", path, json={"assetIds": ids[:1], **other}) == \
            "assetIds cannot be used together with assetId, data or name"
    assert client.ok("POST", path, json={"assetId": ids[0], "data": "nonsense", "name": "x"})["trainingImage"]["id"] == ids[0]
    answer = client.ok("POST", path, json={"assetIds": ids[1:]})
    assert [image["id"] for image in answer["trainingImages"]] == ids[1:] and answer["trainingImage"] == answer["trainingImages"][0]
    assert client.refused(400, "POST", path, json={"data": picture}) == "name is required with data"
    assert client.refused(400, "POST", path, json={"name": "x.png"}).startswith("One of assetId, assetIds or data")
    assert client.refused(400, "POST", path, json={"assetIds": []}) == "assetIds must have at least 1 item"
    again = client.ok("POST", "/assets", json={"name": "disc", "image": picture.split(",")[1]})["asset"]["id"]
    client.refused(400, "POST", path, json={"assetIds": [again, again]})  # all or none
    assert client.ok("GET", f"/models/{model['id']}")["model"]["trainingImagesNumber"] == 3
    for wrong in ("https://example.com/x.png", "./x.png", picture[:40], "asset id"):
        assert client.refused(400, "POST", path, json={"assetId": wrong}).startswith("assetId must be the id of an asset")
        assert client.refused(400, "POST", path, json={"assetIds": [again, wrong]}).startswith("assetIds[1] must be the id of an asset")


@pytest.mark.parametrize("preset, status", [("default", 200), ("style", 200), ("subject", 200), ("other", 400), (7, 400)])
def test_a_preset_is_one_of_three(client, preset, status):
    path = f"/models/{client.create_model()['id']}/training-images"
    body = {"data": data_url(png(seed=1)), "name": "x.png", "preset": preset}
    answer = client.call("POST", path, json=body)
    assert answer.status_code == status and (status == 200 or answer.json()["reason"].startswith("preset must be"))


def test_replace_and_delete(client):
    model = client.create_model()
    first = client.add_image(model["id"], data_url(png(seed=1)))
    path = f"/models/{model['id']}/training-images"
    second = client.ok("PUT", f"{path}/{first['id']}", json={"data": data_url(png(seed=2)), "name": "b.png"})["trainingImage"]
    assert second["id"] != first["id"]
    images = client.ok("GET", f"/models/{model['id']}")["model"]["trainingImages"]
    assert [image["id"] for image in images] == [second["id"]]
    assert client.ok("DELETE", f"{path}/{second['id']}") == {}
    assert client.ok("GET", f"/models/{model['id']}")["model"]["trainingImagesNumber"] == 0
    client.refused(404, "DELETE", f"{path}/{second['id']}")


HOSTILE = {
    "truncated": png()[:200],
    "not a picture": b"<html>hello</html>",
    "empty": b"",
    "bomb": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x01\x86\xa0\x00\x01\x86\xa0\x08\x02\x00\x00\x00" + b"\x00" * 40,
    "external": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd" width="9" height="9"/></svg>',
    "entities": b'<!DOCTYPE s [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><svg xmlns="http://www.w3.org/2000/svg"><text>&b;</text></svg>',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_images_are_refused_and_leave_nothing(client, name):
    model = client.create_model()
    body = {"data": data_url(HOSTILE[name]), "name": "x.png"}
    assert client.refused(400, "POST", f"/models/{model['id']}/training-images", json=body)
    assert client.ok("GET", f"/models/{model['id']}")["model"]["trainingImagesNumber"] == 0


def test_malformed_data_urls_are_refused(client):
    model = client.create_model()
    for data in ("", "nonsense", "data:image/png;base64,@@@@", "data:,x", "https://example.com/x.png"):
        client.refused(400, "POST", f"/models/{model['id']}/training-images", json={"data": data, "name": "x.png"})


@pytest.mark.parametrize("name", ["JPEG", "WEBP", "GIF", "TIFF", "PNG"])
def test_formats_are_known_by_content(client, name):
    out = io.BytesIO()
    Image.open(io.BytesIO(png())).save(out, name)
    model = client.create_model()
    image = client.add_image(model["id"], data_url(out.getvalue(), "application/octet-stream"), "wrong.bmp")
    assert client.ok("GET", f"/assets/{image['id']}")["asset"]["mimeType"] == f"image/{name.lower()}"
