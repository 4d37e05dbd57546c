"""Who sees what: private, unlisted and public things, from their project, from others, with the public token."""
import pytest

from conftest import Client, data_url, png


@pytest.fixture(scope="module")
def teammate(server):
    return server.client("another project of the team")


@pytest.fixture(scope="module")
def stranger(server):
    return server.client("elsewhere", "--team", "another team")


@pytest.fixture(scope="module")
def public(server):
    return Client.with_public_token(server.url)


def model_of(client, privacy):
    model = client.create_model(name=privacy)
    client.add_image(model["id"], data_url(png(seed=1)))
    answered = client.ok("PUT", f"/models/{model['id']}", json={"privacy": privacy})["model"]
    assert answered["privacy"] == privacy
    return client.ok("GET", f"/models/{model['id']}")["model"]


@pytest.mark.parametrize("privacy, readers", [("private", ""), ("unlisted", "key"), ("public", "key token")])
def test_strangers_read_what_is_open_and_change_nothing(client, teammate, stranger, public, privacy, readers):
    model = model_of(client, privacy)
    paths = {"Model": f"/models/{model['id']}", "Asset": f"/assets/{model['trainingImages'][0]['id']}"}
    for other, kind in ((teammate, "key"), (stranger, "key"), (public, "token")):
        for noun, path in paths.items():
            if kind in readers.split():
                seen = other.ok("GET", path)[noun.lower()]
                assert (seen["privacy"], seen["ownerId"]) == (privacy, client.project_id)
            else:
                assert other.refused(404, "GET", path) == f"{noun} {path.split('/')[-1]} not found"
    if "key" in readers:
        assert stranger.ok("GET", paths["Model"])["model"]["trainingImages"] == model["trainingImages"]
    for other in (teammate, stranger):
        for method, path, body in (("PUT", paths["Model"], {"name": "mine"}), ("DELETE", paths["Model"], None),
                                   ("PUT", paths["Asset"], {"description": "mine"}), ("PUT", paths["Model"] + "/train", {}),
                                   ("POST", paths["Model"] + "/training-images", {"data": data_url(png()), "name": "x"}),
                                   ("POST", paths["Model"] + "/download", {})):
            other.refused(403 if "key" in readers else 404, method, path, json=body)
    assert client.ok("GET", paths["Model"])["model"] == model


def test_the_public_token_only_reads(client, public):
    model = model_of(client, "public")
    path = f"/models/{model['id']}"
    for method, other, body in (("PUT", path, {"name": "x"}), ("DELETE", path, None), ("POST", "/models", {}),
                                ("PUT", path + "/train", {}), ("GET", "/jobs", None), ("POST", "/assets", {"name": "x"})):
        assert "public-auth-token" in public.refused(403, method, other, json=body)
    assert "public-auth-token" in public.refused(403, "GET", "/models")
    assert "public-auth-token" in public.refused(403, "GET", path, params={"projectId": client.project_id})
    for header in ("Public-Auth-Token", "public-auth-token ", "public-auth-token x", "Bearer public-auth-token"):
        other = Client(public.url, None, None)
        other.session.headers["Authorization"] = header
        if header.strip() != "public-auth-token":
            other.refused(401, "GET", path)


def test_assets_follow_the_models_that_show_them(client, stranger):
    first, second = model_of(client, "public"), model_of(client, "private")
    asset = second["trainingImages"][0]["id"]
    path = f"/assets/{asset}"
    stranger.refused(404, "GET", path)
    client.ok("POST", f"/models/{first['id']}/training-images", json={"assetId": asset})
    assert stranger.ok("GET", path)["asset"]["privacy"] == "public"
    client.ok("DELETE", f"/models/{first['id']}/training-images/{asset}")
    stranger.refused(404, "GET", path)
    client.ok("PUT", f"/models/{first['id']}", json={"thumbnail": asset})
    assert stranger.ok("GET", path)["asset"]["privacy"] == "public"
    client.ok("PUT", f"/models/{first['id']}", json={"privacy": "unlisted"})
    assert client.ok("GET", path)["asset"]["privacy"] == "unlisted"
    client.ok("PUT", f"/models/{first['id']}", json={"privacy": "private"})
    stranger.refused(404, "GET", path)


def test_a_foreign_public_asset_cannot_join_ones_own_data(client, stranger):
    asset = model_of(client, "public")["trainingImages"][0]["id"]
    own = stranger.create_model()
    stranger.refused(403, "POST", f"/models/{own['id']}/training-images", json={"assetId": asset})
    stranger.refused(403, "PUT", f"/models/{own['id']}", json={"thumbnail": asset})
    secret = model_of(client, "private")["trainingImages"][0]["id"]
    stranger.refused(404, "POST", f"/models/{own['id']}/training-images", json={"assetId": secret})


def test_what_is_deleted_is_gone_for_everyone(client, stranger, public):
    model = model_of(client, "public")
    client.ok("DELETE", f"/models/{model['id']}")
    for other in (client, stranger, public):
        other.refused(404, "GET", f"/models/{model['id']}")
    for other in (stranger, public):
        other.refused(404, "GET", f"/assets/{model['trainingImages'][0]['id']}")


def test_privacy_is_one_of_three(client):
    model = client.create_model()
    assert client.refused(400, "PUT", f"/models/{model['id']}", json={"privacy": "secret"}).startswith("privacy")
