"""Every operation of the contract x every caller x every privacy, against one rule, the one of src/domain/access.h.
What is refused changes nothing. A new operation without a row in calls.py fails here."""
import pytest

from calls import CALLS, OPERATIONS, make_world, request_of
from conftest import Client, Server

PRIVACIES = ("private", "unlisted", "public")
NAMELESS = ("nobody", "revoked key", "wrong secret")  # who they are cannot be said: 401
READS = {"copy_model", "copy_asset", "download_asset", "generate_img2img"}  # not GET, and yet they only read what they name
SKIPS = {"get_bulk_models", "get_bulk_assets"}  # pass over what the caller may not see


def noun_of(operation_id):
    """What a call names that has an owner, in its path or in its body; None: it is about the caller's own project."""
    path = OPERATIONS[operation_id][1]
    if operation_id in ("delete_assets", "generate_img2img"):
        return "asset"
    return next((noun for noun in ("model", "asset", "job") if f"{{{noun}Id}}" in path), None)


def expected(caller, operation_id, privacy):
    method, path, operation = OPERATIONS[operation_id]
    if caller in NAMELESS:
        return 401
    if caller == "public token" and {"publicToken": []} not in operation.get("security", []):
        return 403
    noun, own = noun_of(operation_id), caller == "owner"
    if not noun:
        return 200
    seen = own or privacy == "public" or (privacy == "unlisted" and caller != "public token")
    if noun == "job":
        seen = own  # jobs have no privacy: they are of their project
    if path.startswith("/v1/models/public"):
        seen = privacy == "public"
    if not seen:
        return 404
    return 200 if own or method == "get" or operation_id in READS else 403


@pytest.fixture(scope="module")
def server(tmp_path_factory, broken_base):
    server = Server(tmp_path_factory.mktemp("matrix") / "data", "--base", str(broken_base)).start()
    yield server
    assert server.stop() == 0, server.log()[-3000:]


@pytest.fixture(scope="module")
def callers(server):
    revoked = server.client()
    server.keys("revoke", revoked.key)
    owner = server.client()
    while revoked.call("GET", "/tags").status_code != 401:
        pass  # a key may be remembered for two seconds
    return {"teammate": server.client("sibling"), "stranger": server.client("elsewhere", "--team", "another team"),
            "public token": Client.with_public_token(server.url), "nobody": Client(server.url, None, None),
            "revoked key": revoked, "wrong secret": Client(server.url, owner.key, "x" * 43), "owner": owner}


@pytest.fixture(scope="module")
def worlds(callers):
    """One for all refusals of a privacy, and one more for each operation of the owner, which may use it up."""
    made = {}

    def world(privacy, use="refusals"):
        if (privacy, use) not in made:
            made[privacy, use] = make_world(callers["owner"], callers["teammate"], privacy)
        return made[privacy, use]
    return world


def everything(owner, world):
    """All that the owner can see of a world, and how much the project holds."""
    model = f"/models/{world['modelId']}"
    paths = [model, f"{model}/description", f"{model}/examples", f"/assets/{world['assetId']}", f"/assets/{world['spare']}",
             f"/jobs/{world['jobId']}", "/tags", "/jobs?pageSize=200", "/models?pageSize=500", "/assets?pageSize=100"]
    return [owner.ok("GET", path) for path in paths]


def test_every_operation_has_a_call():
    assert set(OPERATIONS) <= set(CALLS), "add a row to tests/api/calls.py"


@pytest.mark.parametrize("privacy", PRIVACIES)
@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_each_caller_gets_what_the_rule_says(callers, worlds, operation_id, privacy):
    world = worlds(privacy)
    before = everything(callers["owner"], world)
    for caller, client in callers.items():
        if caller == "owner":
            continue
        method, path, arguments = request_of(operation_id, world)
        answer = client.call(method, path, **arguments)
        assert answer.status_code == expected(caller, operation_id, privacy), f"{caller}: {answer.status_code} {answer.text[:300]}"
        if operation_id in SKIPS and answer.status_code == 200:
            found = [row["id"] for row in next(iter(answer.json().values()))]
            assert found == ([world["modelId" if "models" in operation_id else "assetId"]] if privacy != "private" else [])
    assert everything(callers["owner"], world) == before


@pytest.mark.parametrize("privacy", PRIVACIES)
@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_the_owner_may_do_everything(callers, worlds, operation_id, privacy):
    method, path, arguments = request_of(operation_id, worlds(privacy, operation_id if OPERATIONS[operation_id][0] != "get" else "reading"))
    status = callers["owner"].call(method, path, **arguments).status_code
    if expected("owner", operation_id, privacy) == 404:
        assert status == 404
    else:
        assert status in (200, 400)  # 400: what the model's state refuses, as the cancel of a training that has ended
