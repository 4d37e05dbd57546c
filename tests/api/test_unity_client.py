"""The habits of the Unity plugin, as a client of a few lines: only 200 is a success, lists are walked until the token is gone or
comes again, and transformations are appended to links that must already have a query."""
import base64
import io

import pytest
import requests
from PIL import Image

from conftest import data_url, make_trained, png

APPENDED = "&format=jpeg&quality=80&width=256"


class Plugin:
    """What it does with an answer; everything else that can happen to it is a failure that it shows to its user."""

    def __init__(self, client):
        self.url, self.auth = client.url + "/v1/", (client.key, client.secret)

    def request(self, method, path, json=None):
        answer = requests.request(method, self.url + path, json=json, auth=self.auth, timeout=60)
        if answer.status_code != 200 and "creativeUnitsCost" not in answer.text:
            raise ConnectionError(answer.status_code, answer.json()["reason"])
        return answer.json()

    def walk(self, privacy):
        """Every trained model, page by page."""
        models, token, before = [], "", None
        while token is not None and token != before:
            page = self.request("GET", f"models?pageSize=15&status=trained&privacy={privacy}" + (f"&paginationToken={token}" if token else ""))
            models += page["models"]
            before, token = token, page.get("nextPaginationToken")
        return [self.read(model) for model in models]

    @staticmethod
    def read(model):
        """The fields that it looks at. Links are asked for in its own size."""
        links = [image["downloadUrl"] for image in model.get("trainingImages", [])]
        if "thumbnail" in model:
            links.append(model["thumbnail"]["url"])
        return {"links": [link + APPENDED for link in links],
                **{key: model[key] for key in ("id", "name", "type", "tags", "privacy", "status")}}


def links_in(value, path=""):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from links_in(item, f"{path}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from links_in(item, f"{path}[{number}]")
    elif isinstance(value, str) and value.startswith("http"):
        yield path, value


@pytest.fixture(scope="module")
def models(server, client):
    """More than a page of private ones and more than two of public ones; the first has images, some smaller than the plugin asks."""
    made = {privacy: [make_trained(server, client, "flux.1-lora", privacy=privacy)["id"] for _ in range(count)]
            for privacy, count in (("private", 17), ("public", 33))}
    for privacy in made:
        images = [client.add_image(made[privacy][0], data_url(png(size, size // 2, size)))["id"] for size in (400, 300, 40)]
        client.ok("PUT", f"/models/{made[privacy][0]}", json={"thumbnail": images[1]})
        client.ok("PUT", f"/models/{made[privacy][0]}/tags", json={"add": ["ink"]})
    return made


def test_lists_are_walked_to_their_end(client, models):
    plugin = Plugin(client)
    own = plugin.walk("private")  # the project's own, whatever their privacy
    assert [model["id"] for model in own] == (models["private"] + models["public"])[::-1]
    public = plugin.walk("public")
    assert sorted(model["id"] for model in public) == sorted(models["public"])
    assert all(model["status"] == "trained" and model["privacy"] == "public" for model in public)


def test_another_projects_plugin_finds_the_public_ones(server, models):
    found = Plugin(server.client("elsewhere", "--team", "another team")).walk("public")
    assert sorted(model["id"] for model in found) == sorted(models["public"])


@pytest.mark.parametrize("privacy", ["private", "public"])
def test_links_take_what_is_appended(client, models, privacy):
    model = next(model for model in Plugin(client).walk(privacy) if model["id"] == models[privacy][0])
    sizes = []
    for link in model["links"]:
        answer = requests.get(link, timeout=60)  # no key: a link is permission enough
        assert answer.status_code == 200 and answer.headers["Content-Type"] == "image/jpeg", answer.text[:200]
        sizes.append(Image.open(io.BytesIO(answer.content)).size)
    assert sizes[0] == (256, 128) and sizes[-1] == (256, 128) and len(sizes) == 4


def test_every_link_of_every_answer_has_a_query_and_works(client, models):
    plugin, model = Plugin(client), models["private"][0]
    image = plugin.request("GET", f"models/{model}")["model"]["trainingImages"][0]["id"]
    plugin.request("PUT", f"models/{model}/examples", {"assetIds": [image]})
    plugin.request("PUT", f"models/{model}/description", {"description": f"{{asset:{image}}}"})
    job = plugin.request("POST", f"assets/{image}/download", {"targetFormat": "png"})
    found = dict(links_in(job))
    for path in (f"models/{model}", "models?pageSize=500", f"models/{model}/examples", f"models/{model}/description", f"assets/{image}",
                 "assets?pageSize=100", f"models/{model}?originalAssets=true"):
        found |= {path + where: link for where, link in links_in(plugin.request("GET", path))}
    assert len(found) > 10
    for where, link in found.items():
        assert "?" in link, where
        assert requests.get(link, timeout=60).status_code == 200, where
        assert requests.get(link + APPENDED, timeout=60).status_code == 200, where


def test_what_it_starts_is_a_200_or_has_a_cost(client):
    plugin = Plugin(client)
    model = plugin.request("POST", "models", {"name": "from Unity", "type": "sd-1_5-lora"})["model"]["id"]
    asset = plugin.request("POST", "assets", {"name": "shot", "image": base64.b64encode(png(64, 64)).decode()})["asset"]["id"]
    assert plugin.request("GET", f"assets/{asset}")["asset"]["url"]
    plugin.request("POST", f"models/{model}/training-images", {"assetId": asset})
    assert plugin.request("PUT", f"models/{model}/train?dryRun=true", {})["creativeUnitsCost"] == 0
    job = plugin.request("PUT", f"models/{model}/train", {"parameters": {"maxTrainSteps": 40000}})["job"]["jobId"]
    plugin.request("POST", f"models/{model}/train/action", {"action": "cancel"})
    assert client.wait_for_job(job)["status"] == "canceled"
    assert plugin.request("GET", f"jobs/{job}")["job"]["status"] == "canceled"
    assert plugin.request("DELETE", f"models/{model}") == {}


def test_failures_say_why(client):
    with pytest.raises(ConnectionError, match="Model model_x not found"):
        Plugin(client).request("GET", "models/model_x")
