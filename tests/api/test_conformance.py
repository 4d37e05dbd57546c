"""Every operation, good and refused, by plain HTTP and by the official SDK: the answer fits our contract and the reference,
and the SDK's own types take it without losing a byte. The table is conformance.py."""
import base64
import datetime
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import jsonschema
import pytest
from scenario_sdk import APIStatusError, Scenario

import contract
from calls import CALLS, OPERATIONS, PICTURE, make_world
from conformance import ROWS
from conftest import BINARY, Client, Server, data_url, make_trained, png
from test_contract import ANSWERS, REFERENCE

SDK = {
    "list_models": "models.list", "create_model": "models.create", "get_bulk_models": "models.get_bulk", "retrieve_model": "models.retrieve",
    "update_model": "models.update", "delete_model": "models.delete", "restore_model": "models.restore", "copy_model": "models.copy", "download_model": "models.download",
    "delete_model_images": "models.delete_images", "update_model_tags": "models.update_tags", "transfer_model": "models.transfer",
    "retrieve_description": "models.description.retrieve", "update_description": "models.description.update",
    "list_examples": "models.examples.list", "update_examples": "models.examples.update",
    "trigger_training": "models.train.trigger", "training_action": "models.train.action",
    "add_training_image": "models.training_images.add", "replace_training_pairs": "models.training_images.replace_pairs",
    "replace_training_image": "models.training_images.replace", "delete_training_image": "models.training_images.delete",
    "list_jobs": "jobs.list", "retrieve_job": "jobs.retrieve", "job_action": "jobs.trigger_action",
    "list_assets": "assets.list", "create_asset": "assets.upload", "get_bulk_assets": "assets.get_bulk", "delete_assets": "assets.delete_multiple",
    "retrieve_asset": "assets.retrieve", "update_asset": "assets.update", "update_asset_tags": "assets.update_tags",
    "copy_asset": "assets.duplicate", "download_asset": "assets.download.request", "list_tags": "tags.list",
}
NOT_IN_THE_SDK = {"list_public_models", "retrieve_public_model", "generate_txt2img", "generate_img2img"}  # its older paths


class World:
    """Models of every kind, assets, jobs and callers, by the names of conformance.py."""

    def __init__(self, server):
        self.server = server
        self.callers = {"owner": server.client(), "stranger": server.client("elsewhere", "--team", "another team"),
                        "limited": server.client("limited", "--team", "limited"), "nobody": Client(server.url, None, None),
                        "public token": Client.with_public_token(server.url)}
        self.owner, stranger, limited = (self.callers[name] for name in ("owner", "stranger", "limited"))
        self.sibling = server.client("sibling")
        self.ids = {"sibling": self.sibling.project_id, "elsewhere": stranger.project_id, "otherTeam": stranger.team_id}
        self.ids["limited"] = self.made("limited", 1, client=limited)
        limit = [BINARY, "teams", "limit", "--data", str(server.data), "--team", "limited", "--parallel-training", "0", "--training-images", "1"]
        subprocess.run(limit, check=True, capture_output=True)
        for name, client in (("public", self.owner), ("foreign", stranger)):
            self.ids[name] = self.made(name, 1, client=client)
            client.ok("PUT", f"/models/{self.ids[name]}", json={"privacy": "public"})
        self.make_models()
        self.make_trained_models()
        self.make_assets()

    def made(self, name, images=0, client=None, **fields):
        """A model with some images, which are then NAME.0, NAME.1, ..."""
        client = client or self.owner
        model = client.create_model(name=name, **fields)["id"]
        for number in range(images):
            self.ids[f"{name}.{number}"] = client.add_image(model, data_url(png(32, 32, number)))["id"]
        return model

    def make_models(self):
        owner = self.owner
        self.ids["minimal"] = owner.ok("POST", "/models")["model"]["id"]
        self.ids["empty"] = self.made("empty")
        self.ids["edit"] = self.made("edit", 1, type="qwen-image-edit-lora")
        self.ids["flux_ready"] = self.made("flux_ready", 1, type="flux.1-lora")
        self.ids["musubi"] = self.made("musubi", 1, type="flux.2-dev-lora")
        self.ids["flux"] = make_trained(self.server, owner, "flux.1-lora")["id"]
        self.ids["composition"] = self.made("composition", type="flux.1-composition", concepts=[{"modelId": self.ids["flux"], "scale": 0.5}])
        full = self.ids["full"] = self.made("full", 4, shortDescription="ink potions", classSlug="items")
        images = [self.ids[f"full.{number}"] for number in range(4)]
        owner.ok("PUT", f"/models/{full}", json={"promptEmbedding": "ink", "negativePromptEmbedding": "blur", "thumbnail": images[0],
                                                "parameters": {"rank": 8, "samplePrompts": ["a disc"], "wandbKey": "w" * 40}})
        owner.ok("PUT", f"/models/{full}/tags", json={"add": ["ink", "potion"]})
        owner.ok("PUT", f"/models/{full}/training-images/pairs", json=[{"sourceId": images[0], "targetId": images[1], "instruction": "redden"}])
        owner.ok("PUT", f"/models/{full}/examples", json={"assetIds": images[::-1]})
        owner.ok("PUT", f"/models/{full}/description", json={"description": f"# Ink {{asset:{images[0]}}} {{model:{self.ids['foreign']}}} {{model:model_x}}"})
        self.ids["copied"] = owner.ok("POST", f"/models/{full}/copy", json={})["model"]["id"]

    def train(self, name, **parameters):
        job = self.owner.ok("PUT", f"/models/{self.ids[name]}/train", json={"parameters": parameters})["job"]["jobId"]
        self.ids[f"{name}_job"] = job
        return job

    def make_trained_models(self):
        owner = self.owner
        self.ids["queued"] = self.made("queued", 1)
        self.train("queued", maxTrainSteps=40000)
        self.frozen = freeze_trainer(self.server, self.ids["queued_job"])
        self.ids["trained"] = self.made("trained", 2)
        job = self.train("trained", maxTrainSteps=1, rank=2, seed=7, validationPrompt="a red disc", validationFrequency=1)
        assert owner.wait_for_job(job)["status"] == "success"
        row = owner.ok("GET", f"/models/{self.ids['trained']}")["model"]
        self.ids["sample"] = row["epochs"][0]["assets"][0]["assetId"]
        self.ids["copied_trained"] = owner.ok("POST", f"/models/{self.ids['trained']}/copy", json={"copyAsTrained": True})["model"]["id"]
        self.ids["download_job"] = owner.ok("POST", f"/models/{self.ids['trained']}/download", json={})["jobId"]
        owner.wait_for_job(self.ids["download_job"])
        self.ids["failed"] = self.made("failed", 1, type="sd-xl-lora")
        assert owner.wait_for_job(self.train("failed"))["status"] == "failure"
        self.ids["canceled"] = self.made("canceled", 1)
        self.train("canceled", maxTrainSteps=40000)
        owner.ok("POST", f"/models/{self.ids['canceled']}/train/action", json={"action": "cancel"})
        assert owner.wait_for_job(self.ids["canceled_job"])["status"] == "canceled"

    def make_assets(self):
        def upload(content, **fields):
            return self.owner.ok("POST", "/assets", json={"name": "made", "image": base64.b64encode(content).decode(), **fields})["asset"]["id"]
        self.ids["upload"] = upload(png(32, 32, 5))
        self.ids["svg"] = upload(b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><rect width="8" height="8"/></svg>')
        self.ids["captioned"] = upload(PICTURE, hide=True, parentId=self.ids["upload"])
        self.owner.ok("PUT", f"/assets/{self.ids['captioned']}", json={"description": "a disc"})
        self.owner.ok("PUT", f"/assets/{self.ids['captioned']}/tags", json={"add": ["ink"]})
        self.ids["copied_asset"] = self.owner.ok("POST", f"/assets/{self.ids['upload']}/copy", json={})["asset"]["id"]

    def fresh(self, name):
        """Made anew for each row that names it."""
        if name == "composed":
            self.ids[name] = self.made(name, type="flux.1-composition", concepts=[{"modelId": self.ids["flux"], "scale": 0.5}])
        elif name == "running":
            self.ids[name] = self.made(name, 1)
            self.train(name, maxTrainSteps=40000)
        else:
            self.ids[name] = self.made(name, 2 if name == "ready" else 0, type="sd-xl-lora")
        if name == "gone":
            self.owner.ok("DELETE", f"/models/{self.ids[name]}")

    def filled(self, value):
        if isinstance(value, dict):
            return {key: self.filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.filled(item) for item in value]
        return re.sub(r"\$(\w+(\.\d)?)", lambda found: self.ids[found[1]], value) if isinstance(value, str) else value

    def close(self):
        os.kill(self.frozen, signal.SIGCONT)
        for model in {"queued", "running"} & self.ids.keys():
            self.owner.call("POST", f"/models/{self.ids[model]}/train/action", json={"action": "cancel"})
            self.owner.wait_for_job(self.ids[f"{model}_job"])


def freeze_trainer(server, job):
    """Stops the process of a training that is to last, so that it takes no time from the others."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().split(b"\0")
            except OSError:
                continue
            if b"train" in words and any(job.encode() in word for word in words):
                os.kill(int(entry.parent.name), signal.SIGSTOP)
                return int(entry.parent.name)
        time.sleep(0.02)
    raise AssertionError(f"no process trains {job}:\n" + server.log()[-2000:])


@pytest.fixture(scope="module")
def world(tmp_path_factory, broken_base):
    """Trainings of sd-xl-lora fail, those of sd-1_5-lora run; one of two slots is taken all the time."""
    arguments = ("--base-sdxl", str(broken_base), "--executor-slots", "2", "--trainer-threads", "1")
    server = Server(tmp_path_factory.mktemp("conformance") / "data", *arguments).start()
    world = World(server)
    yield world
    world.close()
    assert server.stop() == 0, server.log()[-3000:]


def checked_against_the_reference(operation_id, answer):
    """By the names of the wrappers, which are the same everywhere."""
    nouns = {"model": "Model", "job": "Job", "asset": "Asset", "trainingImage": "TrainingImage"}
    pairs = [(name, answer[noun]) for noun, name in nouns.items() if noun in answer]
    pairs += [(name, item) for noun, name in nouns.items() for item in answer.get(noun + "s", [])]
    if operation_id in ANSWERS:
        pairs = [(ANSWERS[operation_id], answer)]
    for name, value in pairs:
        # An empty progress is `{}` in real answers, although the reference requires fields of it.
        text = json.dumps(value).replace('"trainingProgress": {}, ', "").replace(', "trainingProgress": {}', "")
        errors = jsonschema.Draft202012Validator({"$defs": REFERENCE, **REFERENCE[name]}).iter_errors(json.loads(text))
        assert not (error := next(errors, None)), f"{name}: {error.json_path}: {error.message[:300]}"


def by_wire(world, operation_id, caller, path, params, body):
    method, template, _ = OPERATIONS[operation_id]
    query = {key: ",".join(value) if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else value for key, value in params.items()}
    answer = world.callers[caller].call(method.upper(), template.removeprefix("/v1").format(**path), params=query, json=body)
    return answer.status_code, answer.json()


def snake(name):
    return re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name)


def same(parsed, raw, path=""):
    """What the SDK gives back is what was sent; its dates may be written in another way."""
    if isinstance(raw, dict):
        assert isinstance(parsed, dict) and parsed.keys() == raw.keys(), f"{path}: {parsed} is not {raw}"
        for key in raw:
            same(parsed[key], raw[key], f"{path}.{key}")
    elif isinstance(raw, list):
        assert len(parsed) == len(raw), path
        for number, (one, two) in enumerate(zip(parsed, raw)):
            same(one, two, f"{path}[{number}]")
    elif parsed != raw:
        assert datetime.datetime.fromisoformat(parsed) == datetime.datetime.fromisoformat(raw), f"{path}: {parsed} is not {raw}"


def in_its_words(raw):
    """Without what this SDK's types do not know, and real answers have: models of the sd families, an empty progress."""
    text = re.sub(r'"(sd-[^"]+)"', '"flux.1-lora"', json.dumps(raw))
    return json.loads(text.replace('"trainingProgress": {}, ', ""))


def by_sdk(world, operation_id, caller, path, params, body):
    client = world.callers[caller]
    headers = {"Authorization": "public-auth-token"} if caller == "public token" else {}
    sdk = Scenario(api_key=client.key or "x", api_secret=client.secret or "x", base_url=world.server.url + "/v1", max_retries=0, default_headers=headers)
    *resources, method = SDK[operation_id].split(".")
    for name in resources:
        sdk = getattr(sdk, name)
    known = set(getattr(sdk, method).__func__.__code__.co_varnames)
    arguments = {snake(name): value for name, value in path.items()}
    fields = {"body": body} if isinstance(body, list) else body or {}
    for values, extra in ((params, "extra_query"), (fields, "extra_body")):
        arguments |= {snake(name): value for name, value in values.items() if snake(name) in known}
        if unknown := {name: value for name, value in values.items() if snake(name) not in known}:
            arguments[extra] = unknown
    try:
        answer = getattr(sdk.with_raw_response, method)(**arguments)
    except APIStatusError as error:
        contract.check_json(OPERATIONS[operation_id][2], error.status_code, error.response.json())
        assert type(error).__name__ == {400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError", 404: "NotFoundError",
                                        429: "RateLimitError"}[error.status_code]
        return error.status_code, error.response.json()
    raw = answer.http_response.json()
    contract.check_json(OPERATIONS[operation_id][2], answer.http_response.status_code, raw)
    parsed = answer.parse()
    if raw and answer.http_response.status_code == 200:  # not 269, the dry run, of which the types know nothing
        type(parsed).model_validate(in_its_words(raw))
    same(parsed.to_dict(mode="json") if hasattr(parsed, "to_dict") else parsed, raw)
    return answer.http_response.status_code, raw


TRANSPORTS = {"wire": by_wire, "sdk": by_sdk}


def missing_argument(operation_id, body):
    """The SDK cannot leave out what it requires."""
    required = {"update_description": "description", "update_examples": "assetIds", "training_action": "action", "transfer_model": "destinationProjectId",
                "delete_assets": "assetIds", "get_bulk_assets": "assetIds", "create_asset": "name"}.get(operation_id)
    return required and required not in (body or {})


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("row", ROWS, ids=[f"{operation_id}: {title}" for operation_id, title, *_ in ROWS])
def test_the_table(world, row, transport):
    operation_id, _, status, reason, params, body, caller, path = row
    if transport == "sdk" and (operation_id in NOT_IN_THE_SDK or caller == "nobody" or missing_argument(operation_id, body)):
        return
    for name in ("fresh", "ready", "running", "composed", "gone"):
        if f"${name}" in json.dumps([params, body, path]):
            world.fresh(name)
    answered, answer = TRANSPORTS[transport](world, operation_id, caller, *(world.filled(part) for part in (path, params, body)))
    assert answered == status, answer
    if reason is not None:
        assert re.search(world.filled(reason), answer["reason"]), answer
        assert status != 429 or answer["name"] == "PlanLimitReachedError" and answer["details"]["limitScope"] == "team"
    elif status == 200:
        checked_against_the_reference(operation_id, answer)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("operation_id", sorted(set(OPERATIONS) - {"training_action", "job_action", "download_model", "restore_model", *NOT_IN_THE_SDK}))
def test_the_good_call_of_every_operation(world, operation_id, transport):
    """Those left out need a model in a state of its own, and are rows of the table."""
    made = make_world(world.owner, world.sibling)
    arguments = CALLS[operation_id](made)
    path = {name: made[name] for name in re.findall(r"\{(\w+)\}", OPERATIONS[operation_id][1])}
    answered, answer = TRANSPORTS[transport](world, operation_id, "owner", path, arguments.get("params", {}), arguments.get("json"))
    assert answered == 200, answer
    checked_against_the_reference(operation_id, answer)


def test_the_table_is_complete():
    rows = {(operation_id, status) for operation_id, _, status, *_ in ROWS}
    for operation_id in OPERATIONS:
        assert operation_id in SDK or operation_id in NOT_IN_THE_SDK, f"{operation_id}: how does the SDK call it?"
        assert (operation_id, 200) in rows or operation_id in CALLS, f"{operation_id}: no good row"
        assert any(name == operation_id and status >= 400 for name, status in rows), f"{operation_id}: no refusal"
