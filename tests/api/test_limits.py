"""What a plan would refuse: limits of a team, set while the server runs, and the answers that clients know."""
import json
import subprocess

import pytest

from conftest import BINARY, Server, data_url, make_trained, png

REACHED = "You have reached your plan's limit. Please upgrade your plan to continue using this feature."
SHORT = {"parameters": {"maxTrainSteps": 2, "rank": 2, "seed": 1}}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Of its own: trainings of 40,000 steps hold its one slot until they are canceled."""
    server = Server(tmp_path_factory.mktemp("limits") / "data", "--executor-slots", "1").start()
    yield server
    assert server.stop() == 0, server.log()[-3000:]


def limit(server, *arguments, team="default", code=0):
    command = [BINARY, "teams", "limit", "--data", str(server.data), "--team", team, *arguments, "--json"]
    out = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert out.returncode == code, out.stderr
    return json.loads(out.stdout)["limits"] if code == 0 else out.stderr


@pytest.fixture
def team(server, request):
    """A team of its own for each test, without limits."""
    name = request.node.name[:60]
    made = server.client(name, "--team", name)
    made.limit = lambda *arguments: limit(server, *arguments, team=name)
    return made


def make_ready(client, images=1):
    model = client.create_model()
    for seed in range(images):
        client.add_image(model["id"], data_url(png(seed=seed)))
    return client.ok("GET", f"/models/{model['id']}")["model"]


def train(client, model, body=None):
    return client.call("PUT", f"/models/{model['id']}/train", json=body or {"parameters": {"maxTrainSteps": 40000}})


def cancel(client, model):
    """Waits until the job has ended, so that the next test begins with a free slot."""
    client.ok("POST", f"/models/{model['id']}/train/action", json={"action": "cancel"})
    job = client.ok("GET", "/jobs", params={"types": "model-training", "pageSize": 1})["jobs"][0]
    assert client.wait_for_job(job["jobId"])["status"] == "canceled"


def unchanged(client, model):
    assert client.ok("GET", f"/models/{model['id']}")["model"] == model


def test_a_plan_without_trainings_refuses_all(team):
    model = make_ready(team)
    team.limit("--parallel-training", "0")
    answer = train(team, model)
    assert answer.status_code == 429 and answer.json() == {
        "reason": REACHED, "name": "PlanLimitReachedError",
        "details": {"actionLimit": 0, "actionName": "parallel-training", "actionValue": 0, "limitScope": "team"}}
    assert "Retry-After" not in answer.headers
    unchanged(team, model)
    assert team.ok("GET", "/jobs")["jobs"] == []
    assert team.call("PUT", f"/models/{model['id']}/train", params={"dryRun": "true"}).status_code == 269


def test_one_training_at_a_time_holds_for_all_projects_of_the_team(server, team, request):
    first, second = make_ready(team), make_ready(other := server.client("second", "--team", request.node.name[:60]))
    team.limit("--parallel-training", "1")
    assert train(team, first).status_code == 200
    answer = train(other, second)
    assert answer.status_code == 429 and answer.headers["Retry-After"] == "60"
    assert answer.json()["details"] == {"actionLimit": 1, "actionName": "parallel-training", "actionValue": 1, "limitScope": "team"}
    unchanged(other, second)
    assert team.refused(400, "PUT", f"/models/{first['id']}/train") == "Model is already training"
    stranger = server.client("elsewhere", "--team", "elsewhere")
    third = make_ready(stranger)
    assert train(stranger, third).status_code == 200
    cancel(stranger, third)
    cancel(team, first)
    assert train(other, second).status_code == 200
    cancel(other, second)


def test_a_limit_can_be_raised_and_taken_away_while_the_server_runs(team):
    model = make_ready(team)
    assert team.limit() == {"parallelTraining": None, "trainingImages": None, "cooldownSeconds": None}
    assert team.limit("--parallel-training", "0", "--cooldown", "5")["cooldownSeconds"] == 5
    assert train(team, model).status_code == 429
    assert team.limit("--parallel-training", "none") == {"parallelTraining": None, "trainingImages": None, "cooldownSeconds": 5}
    assert train(team, model).status_code == 200
    cancel(team, model)


def test_a_cooldown_says_how_long(team):
    model = make_ready(team)
    team.limit("--cooldown", "3600")
    assert train(team, model).status_code == 200
    cancel(team, model)
    before = team.ok("GET", f"/models/{model['id']}")["model"]
    answer = train(team, model)
    details = answer.json()["details"]
    assert answer.status_code == 429 and answer.json()["name"] == "PlanLimitReachedError"
    assert 3000 < details["remainingSeconds"] <= 3600 and answer.headers["Retry-After"] == str(details["remainingSeconds"])
    assert (details["actionLimit"], details["actionName"], details["limitScope"]) == (3600, "training-cooldown", "team")
    assert details["actionValue"] == 3600 - details["remainingSeconds"]
    unchanged(team, before)
    team.limit("--cooldown", "0")
    assert train(team, model).status_code == 200
    cancel(team, model)


@pytest.mark.parametrize("way", ["data", "assetId", "assetIds"])
def test_a_full_data_set_takes_no_more(team, way):
    body = {"name": "disc", "image": data_url(png(seed=9)).split(",")[1]}
    assets = [team.ok("POST", "/assets", json=body)["asset"]["id"] for _ in range(2)]
    model = make_ready(team, images=2)
    team.limit("--training-images", "3" if way == "assetIds" else "2")
    bodies = {"data": {"data": data_url(png(seed=3)), "name": "x.png"}, "assetId": {"assetId": assets[0]}, "assetIds": {"assetIds": assets}}
    answer = team.call("POST", f"/models/{model['id']}/training-images", json=bodies[way])
    assert answer.status_code == 429 and "Retry-After" not in answer.headers
    assert answer.json() == {"reason": REACHED, "name": "PlanLimitReachedError", "details": {
        "actionLimit": 3 if way == "assetIds" else 2, "actionName": "add-training-image", "actionValue": 2, "limitScope": "team"}}
    unchanged(team, model)
    path = f"/models/{model['id']}/training-images/{model['trainingImages'][0]['id']}"
    assert team.ok("PUT", path, json={"assetId": assets[0]})  # a full set may still change
    assert team.ok("DELETE", f"/models/{model['id']}/training-images/{assets[0]}") == {}
    assert team.ok("POST", f"/models/{model['id']}/training-images", json={"assetId": assets[1]})


def test_what_is_wrong_comes_before_the_limit(team):
    model = team.create_model()
    team.limit("--parallel-training", "0")
    assert team.refused(400, "PUT", f"/models/{model['id']}/train").startswith("The model needs at least 1 training image")


def test_a_composition_is_a_training_too(server, team):
    lora = make_trained(server, team, "flux.1-lora")
    model = team.create_model(type="flux.1-composition", concepts=[{"modelId": lora["id"], "scale": 1}])
    team.limit("--parallel-training", "0")
    assert train(team, model).status_code == 429
    unchanged(team, model)
    team.limit("--parallel-training", "1", "--cooldown", "3600")
    assert train(team, model).json()["model"]["status"] == "trained"
    assert train(team, model).json()["details"]["actionName"] == "training-cooldown"


@pytest.mark.parametrize("arguments, text", [
    (["--parallel-training", "-1"], "parallel-training"), (["--training-images", "many"], "training-images"),
    (["--cooldown", "1.5"], "cooldown"),
])
def test_a_limit_is_a_number_or_none(server, arguments, text):
    server.client("somebody")
    assert text in limit(server, *arguments, code=2)


def test_an_unknown_team_has_no_limits(server):
    assert "Team nobody not found" in limit(server, "--cooldown", "1", team="nobody", code=1)


# The data set while a training holds it, and canceling.

def test_a_training_holds_the_data_set(team):
    model = make_ready(team, images=2)
    image = model["trainingImages"][0]["id"]
    path = f"/models/{model['id']}"
    assert train(team, model).status_code == 200
    picture = {"data": data_url(png(seed=7)), "name": "x.png"}
    for method, where, body in (("POST", "", picture), ("POST", "", {"assetId": image}), ("PUT", f"/{image}", picture),
                                ("PUT", f"/{image}", {"assetId": image}), ("DELETE", f"/{image}", None), ("PUT", "/pairs", [])):
        assert team.refused(400, method, f"{path}/training-images{where}", json=body) == "Model is already training"
    assert team.refused(400, "PUT", f"{path}/train") == "Model is already training"
    assert team.refused(400, "PUT", f"{path}/train", params={"dryRun": "true"}) == "Model is already training"
    assert team.refused(400, "PUT", path, json={"parameters": {"rank": 4}}) == "Model is already training"
    cancel(team, model)
    after = team.ok("GET", path)["model"]
    assert after["status"] == "training-canceled" and after["trainingImages"] == model["trainingImages"]
    assert team.refused(400, "POST", f"{path}/train/action", json={"action": "cancel"}) == "Model is not training"
    assert team.ok("DELETE", f"{path}/training-images/{image}") == {}


def test_a_training_is_canceled_while_it_waits_and_while_it_runs(team):
    running, waiting = make_ready(team), make_ready(team)
    job = train(team, running).json()["job"]
    queued = train(team, waiting).json()
    assert queued["model"]["trainingProgress"]["stage"] == "queued-for-train" and queued["model"]["trainingProgress"]["position"] >= 1
    answer = team.ok("POST", f"/models/{waiting['id']}/train/action", json={"action": "cancel"})["model"]
    assert (answer["status"], answer["trainingProgress"]) == ("training-canceled", {})
    assert team.job(queued["job"]["jobId"])["status"] == "canceled"
    team.wait_for_job(job["jobId"], statuses=("in-progress",))
    answer = team.ok("POST", f"/models/{running['id']}/train/action", json={"action": "cancel"})["model"]
    assert answer["status"] in ("training", "training-canceled")
    ended = team.wait_for_job(job["jobId"])
    assert ended["status"] == "canceled" and ended["statusHistory"][-1]["status"] == "canceled"
    assert team.ok("GET", f"/models/{running['id']}")["model"]["status"] == "training-canceled"


def test_a_trained_or_canceled_model_is_trained_again(team):
    model = make_ready(team)
    train(team, model)
    cancel(team, model)
    for seed in (1, 2):
        body = {"parameters": {**SHORT["parameters"], "seed": seed}}
        answer = train(team, model, body)
        assert answer.status_code == 200, answer.text
        assert team.wait_for_job(answer.json()["job"]["jobId"])["status"] == "success"
        trained = team.ok("GET", f"/models/{model['id']}")["model"]
        assert trained["status"] == "trained" and trained["parameters"]["seed"] == seed
        assert trained["concepts"] == [{"modelId": model["id"], "scale": 0.8}] and "compliantModelIds" not in trained
        assert [epoch["epoch"] for epoch in trained["epochs"]] == ["000001"]
    path = f"/models/{model['id']}"
    assert team.refused(400, "PUT", path, json={"type": "sd-xl-lora"}) == "type can only be changed while the model's status is new"
    assert team.ok("PUT", path, json={"parameters": {"maxTrainSteps": 2, "rank": 3}})["model"]["parameters"] == {"maxTrainSteps": 2, "rank": 3}
    again = train(team, model, {"parameters": {"seed": 3}}).json()
    assert [again["model"]["parameters"][name] for name in ("maxTrainSteps", "rank", "seed")] == [2, 3, 3]
    assert team.wait_for_job(again["job"]["jobId"])["status"] == "success"
    fresh = team.call("PUT", f"{path}/train").json()["model"]["parameters"]  # what was stored served once
    assert fresh["rank"] == 16 and fresh["maxTrainSteps"] == 75
    cancel(team, model)
