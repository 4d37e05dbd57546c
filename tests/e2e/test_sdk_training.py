"""The official SDK, unpatched: pairs, compositions, dry runs and the plan's refusals."""
import subprocess

import pytest
import scenario_sdk
from scenario_sdk import Scenario

from conftest import BINARY, Server, data_url, make_trained, png


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("sdk") / "data").start()
    client = server.client()
    sdk = Scenario(api_key=client.key, api_secret=client.secret, base_url=server.url + "/v1", max_retries=0)
    yield server, client, sdk
    assert server.stop() == 0


def test_pairs(world):
    _, _, sdk = world
    model = sdk.models.create(name="edits", type="qwen-image-edit-lora").model
    images = [sdk.models.training_images.add(model.id, data=data_url(png(seed=seed)), name=f"{seed}.png").training_image.id
              for seed in range(4)]
    pairs = [{"source_id": images[0], "target_id": images[1], "instruction": "make it red"},
             {"source_id": images[2], "target_id": images[3]}]
    answer = sdk.models.training_images.replace_pairs(model.id, body=pairs)
    assert answer.count == 2 and [(pair.source_id, pair.target_id) for pair in answer.pairs] == [tuple(images[:2]), tuple(images[2:])]
    assert sdk.models.retrieve(model.id).model.training_image_pairs[0].instruction == "make it red"
    assert sdk.models.training_images.replace_pairs(model.id, body=[]).count == 0


def test_a_composition_and_its_dry_run(world):
    server, client, sdk = world
    lora = make_trained(server, client, "flux.1-lora")
    model = sdk.models.create(type="flux.1-composition", concepts=[{"model_id": lora["id"], "scale": 0.7}]).model
    quote = sdk.models.train.trigger(model.id, dry_run="true", parameters={})
    assert quote.creative_units_cost == 0 and sdk.models.retrieve(model.id).model.status == "new"
    answer = sdk.models.train.trigger(model.id, parameters={})
    assert (answer.job.status, answer.model.status, answer.model.concepts[0].scale) == ("success", "trained", 0.7)


def test_refusals_are_the_sdks_classes(world):
    server, client, sdk = world
    model = sdk.models.create(type="sd-1_5-lora").model
    sdk.models.training_images.add(model.id, data=data_url(png()), name="disc.png")
    with pytest.raises(scenario_sdk.BadRequestError, match="parameters.rank must be at least 2"):
        sdk.models.train.trigger(model.id, parameters={"rank": 1})
    command = [BINARY, "teams", "limit", "--data", str(server.data), "--parallel-training", "0"]
    assert subprocess.run(command, capture_output=True, timeout=30).returncode == 0
    with pytest.raises(scenario_sdk.RateLimitError) as refused:
        sdk.models.train.trigger(model.id, parameters={"maxTrainSteps": 2})
    assert refused.value.body["name"] == "PlanLimitReachedError"
    assert refused.value.body["details"] == {"actionLimit": 0, "actionName": "parallel-training", "actionValue": 0, "limitScope": "team"}
    with pytest.raises(scenario_sdk.BadRequestError, match="Model is not training"):
        sdk.models.train.action(model.id, action="cancel")
