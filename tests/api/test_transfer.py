"""Transfers: a model changes its owner with all that belongs to it, at once or not at all."""
import base64
import random
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from conftest import BINARY, Client, data_url, png


def client_of(server, project, team="default"):
    made = server.keys("create", "--project", project, "--team", team)
    client = Client(server.url, made["key"], made["secret"])
    client.project_id, client.team_id = made["projectId"], made["teamId"]
    return client


@pytest.fixture(scope="module")
def receiver(server, client):
    return client_of(server, "receiver")


def transfer(client, model_id, receiver, **body):
    return client.ok("POST", f"/models/{model_id}/transfer", json={"destinationProjectId": receiver.project_id, **body})["model"]


def model_of(client, model_id):
    return client.ok("GET", f"/models/{model_id}", params={"originalAssets": "true"})["model"]


def upload(client, seed):
    body = {"name": f"disc {seed}", "image": base64.b64encode(png(16, 16, seed)).decode()}
    return client.ok("POST", "/assets", json=body)["asset"]["id"]


def make_pairs(ids):
    return [{"sourceId": one, "targetId": two, "instruction": "turn"} for one, two in zip(ids, ids[1:] + ids[:1])]


def make_model(client, images=4):
    model = client.create_model(name="given")["id"]
    for seed in range(images):
        client.add_image(model, data_url(png(16, 16, seed)), f"red_potion_{seed}.png")
    client.ok("PUT", f"/models/{model}", json={"thumbnail": upload(client, 9)})
    ids = [image["id"] for image in model_of(client, model)["trainingImages"]]
    client.ok("PUT", f"/models/{model}/training-images/pairs", json=make_pairs(ids))
    client.ok("PUT", f"/models/{model}/tags", json={"add": ["ink"]})
    client.ok("PUT", f"/models/{model}/examples", json={"assetIds": [upload(client, 8), ids[0]]})
    client.ok("PUT", f"/models/{model}/description", json={"description": f"Like {{asset:{ids[0]}}}."})
    return model


def tag_counts(client):
    return {tag["tagName"]: tag["itemCount"] for tag in client.ok("GET", "/tags")["tags"]}


def test_the_model_and_its_assets_change_hands(server, receiver):
    giver = client_of(server, "giver")
    model = make_model(giver)
    before = model_of(giver, model)
    asset = before["trainingImages"][0]["id"]
    giver.ok("PUT", f"/assets/{asset}/tags", json={"add": ["bright"]})
    after = transfer(giver, model, receiver)
    assert after["ownerId"] == receiver.project_id and after["id"] == model and after["authorId"] == giver.key
    for method, path in (("GET", ""), ("PUT", "/tags"), ("POST", "/copy"), ("DELETE", "")):
        assert giver.refused(404, method, f"/models/{model}{path}", json={}) == f"Model {model} not found"
    assert giver.ok("GET", "/models")["models"] == [] and tag_counts(giver) == {}
    fetched = model_of(receiver, model)
    assert [image["id"] for image in fetched["trainingImages"]] == [image["id"] for image in before["trainingImages"]]
    assert fetched["thumbnail"]["assetId"] == before["thumbnail"]["assetId"]
    assert fetched["trainingImagePairs"] == before["trainingImagePairs"] != []
    for image in fetched["trainingImages"]:
        giver.refused(404, "GET", f"/assets/{image['id']}")
        assert receiver.ok("GET", f"/assets/{image['id']}")["asset"]["ownerId"] == receiver.project_id
        assert requests.get(image["downloadUrl"], timeout=10).status_code == 200
    assert {"ink", "bright"} <= set(tag_counts(receiver))
    assert fetched["exampleAssetIds"] == before["exampleAssetIds"]
    assert len(receiver.ok("GET", f"/models/{model}/examples")["examples"]) == 2
    assert receiver.ok("GET", f"/models/{model}/description")["description"]["assets"][0]["id"] == asset
    receiver.ok("PUT", f"/models/{model}", json={"name": "taken"})
    receiver.ok("DELETE", f"/models/{model}/training-images/{asset}")
    receiver.ok("DELETE", f"/models/{model}")


def test_what_another_model_needs_stays_with_it(server, receiver):
    giver = client_of(server, "sharing")
    model, other = make_model(giver), giver.create_model()["id"]
    ids = [image["id"] for image in model_of(giver, model)["trainingImages"]]
    giver.ok("POST", f"/models/{other}/training-images", json={"assetIds": ids[:1]})
    giver.ok("PUT", f"/models/{other}", json={"thumbnail": ids[1]})
    giver.ok("PUT", f"/assets/{ids[0]}", json={"description": "shared"})
    transfer(giver, model, receiver)
    kept, taken = model_of(giver, other), model_of(receiver, model)
    assert [image["id"] for image in kept["trainingImages"]] == ids[:1] and kept["thumbnail"]["assetId"] == ids[1]
    assert all(giver.ok("GET", f"/assets/{asset}") for asset in ids[:2])
    new = [image["id"] for image in taken["trainingImages"]]
    assert new[2:] == ids[2:] and not set(new[:2]) & set(ids) and taken["trainingImagesNumber"] == 4
    assert taken["trainingImages"][0]["description"] == "shared"
    assert taken["trainingImagePairs"] == make_pairs(new)
    assert taken["exampleAssetIds"][1] == new[0]
    assert receiver.ok("GET", f"/models/{model}/description")["description"]["value"] == f"Like {{asset:{new[0]}}}."
    copied = receiver.ok("GET", f"/assets/{new[0]}")["asset"]["metadata"]
    assert copied["originalAssetId"] == ids[0] and copied["sourceProjectId"] == giver.project_id
    for one, two in zip(kept["trainingImages"], taken["trainingImages"]):
        assert requests.get(one["downloadUrl"], timeout=10).content == requests.get(two["downloadUrl"], timeout=10).content
    third = giver.create_model()["id"]
    giver.ok("PUT", f"/models/{third}/examples", json={"assetIds": ids[:1]})
    giver.ok("DELETE", f"/models/{other}")
    assert len(model_of(receiver, model)["trainingImages"]) == 4


def test_a_model_comes_back_as_it_went(server, receiver):
    giver = client_of(server, "lending")
    model = make_model(giver)
    before = model_of(giver, model)
    transfer(giver, model, receiver)
    transfer(receiver, model, giver, destinationTeamId=giver.team_id)
    after = model_of(giver, model)
    assert {**after, "updatedAt": ""} == {**before, "updatedAt": ""}


def test_another_team_takes_only_what_it_accepts(server, client):
    outside = client_of(server, "outside", team="outsiders")
    model = make_model(client, 1)
    body = {"destinationProjectId": outside.project_id}
    teams = [BINARY, "teams", "--data", str(server.data), "--team", "outsiders", "--from", "default"]
    assert "takes no models of your team" in client.refused(403, "POST", f"/models/{model}/transfer", json=body)
    assert client.ok("GET", f"/models/{model}")["model"]["ownerId"] == client.project_id
    subprocess.run([*teams, "accept"], check=True, timeout=30)
    assert client.refused(400, "POST", f"/models/{model}/transfer",
                          json={**body, "destinationTeamId": client.team_id}).startswith("destinationTeamId is not the team")
    assert transfer(client, model, outside, destinationTeamId=outside.team_id)["ownerId"] == outside.project_id
    assert "takes no models of your team" in outside.refused(403, "POST", f"/models/{model}/transfer",
                                                             json={"destinationProjectId": client.project_id})
    subprocess.run([*teams, "revoke"], check=True, timeout=30)
    again = make_model(client, 1)
    client.refused(403, "POST", f"/models/{again}/transfer", json=body)


@pytest.mark.parametrize("body, status, reason", [
    ({}, 400, "destinationProjectId is required"),
    ({"destinationProjectId": 7}, 400, "destinationProjectId must be a string"),
    ({"destinationProjectId": "proj_111111111111111111111111"}, 404, "Project proj_111111111111111111111111 not found"),
    (None, 400, "A JSON body is required"),
])
def test_what_makes_no_sense_is_refused(client, body, status, reason):
    model = client.create_model()["id"]
    assert client.refused(status, "POST", f"/models/{model}/transfer", json=body) == reason
    assert client.refused(400, "POST", f"/models/{model}/transfer", json={"destinationProjectId": client.project_id}) == \
        "destinationProjectId is the project that has the model already"
    assert client.ok("GET", f"/models/{model}")


def test_others_models_cannot_be_given_away(server, client, receiver):
    model = client.create_model()["id"]
    body = {"destinationProjectId": receiver.project_id}
    assert receiver.refused(404, "POST", f"/models/{model}/transfer", json=body) == f"Model {model} not found"
    client.ok("PUT", f"/models/{model}", json={"privacy": "public"})
    receiver.refused(403, "POST", f"/models/{model}/transfer", json=body)


def test_a_public_model_stays_public(client, receiver):
    model = client.create_model()["id"]
    client.ok("PUT", f"/models/{model}", json={"privacy": "public"})
    transfer(client, model, receiver)
    assert client.ok("GET", f"/models/{model}")["model"]["ownerId"] == receiver.project_id
    client.refused(403, "PUT", f"/models/{model}", json={"name": "mine"})


def test_a_model_that_trains_stays(client, receiver):
    model = client.create_model()["id"]
    for seed in range(2):
        client.add_image(model, data_url(png(64, 64, seed)), "disc.png")
    client.ok("PUT", f"/models/{model}/train", json={"parameters": {"maxTrainSteps": 3000, "rank": 4}})
    body = {"destinationProjectId": receiver.project_id}
    assert client.refused(400, "POST", f"/models/{model}/transfer", json=body) == "Model is already training"
    client.ok("POST", f"/models/{model}/train/action", json={"action": "cancel"})


def test_one_of_many_wins_and_every_answer_has_an_order(server):
    """Owners who transfer, copy, change and delete the same model at once: it is always one project's, and whole."""
    clients = [client_of(server, f"rival {number}") for number in range(3)]
    model = make_model(clients[0])
    chance = random.Random(5)
    plans = [(chance.choice(clients), chance.choice(["give", "copy", "tag", "image"]), chance.choice(clients)) for _ in range(150)]

    def act(plan):
        client, what, other = plan
        path = f"/models/{model}"
        if what == "give":
            answer = client.call("POST", path + "/transfer", json={"destinationProjectId": other.project_id})
            assert answer.status_code in (200, 404) or client is other, answer.text
            return ("give", client.project_id, other.project_id) if answer.status_code == 200 else None
        if what == "copy":
            answer = client.call("POST", path + "/copy")
            if answer.status_code == 200:
                made = answer.json()["model"]
                assert made["ownerId"] == client.project_id and made["trainingImagesNumber"] == len(made["trainingImages"])
        elif what == "tag":
            answer = client.call("PUT", path + "/tags", json={"add": [str(chance.random())], "delete": ["ink"]})
        else:
            answer = client.call("POST", path + "/training-images",
                                 json={"data": data_url(png(16, 16, chance.randrange(99))), "name": "x.png"})
        assert answer.status_code in (200, 404), answer.text
        return None

    with ThreadPoolExecutor(8) as pool:
        gifts = [gift for gift in pool.map(act, plans) if gift]
    owners = [client for client in clients if client.call("GET", f"/models/{model}").status_code == 200]
    assert len(owners) == 1 and gifts
    # Each gift leaves one project for another: a walk from the first owner to the last one.
    balance = {client.project_id: 0 for client in clients}
    for _, giver, taker in gifts:
        balance[giver] -= 1
        balance[taker] += 1
    balance[clients[0].project_id] += 1
    assert balance == {client.project_id: int(client is owners[0]) for client in clients}
    fetched = model_of(owners[0], model)
    assert fetched["trainingImagesNumber"] == len(fetched["trainingImages"]) >= 4
    for image in fetched["trainingImages"]:
        assert owners[0].ok("GET", f"/assets/{image['id']}")["asset"]["ownerId"] == owners[0].project_id
    copies = sum(len(client.ok("GET", "/models", params={"pageSize": 500})["models"]) for client in clients) - 1
    assert sum(tag_counts(client).get("ink", 0) for client in clients) <= copies + 1


def test_a_deletion_among_transfers_and_copies_ends_it_once(server):
    """One deletion is answered with 200. Before it others may win, after it all are 404, and what was copied stays."""
    clients = [client_of(server, f"ending {number}") for number in range(2)]
    model = make_model(clients[0])
    begun, ended = {}, {}

    def act(number):
        client, other = clients[number % 2], clients[1 - number % 2]
        what = ["transfer", "copy", "images", "tags"][number // 2 % 4] if number != 60 else "delete"
        begun[number] = time.monotonic()
        path = f"/models/{model}"
        if what == "transfer":
            answer = client.call("POST", path + "/transfer", json={"destinationProjectId": other.project_id})
        elif what == "copy":
            answer = client.call("POST", path + "/copy")
        elif what == "images":
            answer = client.call("DELETE", path + "/images", params={"ids": "asset_x"})
        elif what == "tags":
            answer = client.call("PUT", path + "/tags", json={"add": [f"t{number % 50}"]})
        else:
            answer = next(answer for _ in range(1000) for one in clients
                          if (answer := one.call("DELETE", path)).status_code == 200)
        ended[number] = time.monotonic()
        return what, answer

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(act, range(120)))
    copies = set()
    for number, (what, answer) in enumerate(answers):
        assert answer.status_code in (200, 404), f"{what}: {answer.status_code} {answer.text}"
        if begun[number] > ended[60]:
            assert answer.status_code == 404, what
        if what == "copy" and answer.status_code == 200:
            copies.add(answer.json()["model"]["id"])
    left = {}
    for client in clients:
        client.refused(404, "DELETE", f"/models/{model}")
        for row in client.ok("GET", "/models", params={"pageSize": 500})["models"]:
            left[row["id"]] = model_of(client, row["id"])
    assert set(left) == copies
    assert all(len(one["trainingImages"]) == one["trainingImagesNumber"] == 4 for one in left.values())
    deleted = [row["id"] for client in clients for row in client.ok("GET", "/models", params={"status": "deleted"})["models"]]
    assert deleted == [model]
