"""schemathesis reads the contract that the server gives and asks it everything the contract allows, and much that it does
not: wrong types, odd strings, no field or every field. Ids are replaced by ones that exist, so that the calls get past the door."""
import zlib

import pytest
import schemathesis
from hypothesis import given, strategies
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

import contract
from conftest import data_url, png
from fuzzing import client, examples, server, wire  # noqa: F401 (fixtures)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def stranger(server):
    return server.client("elsewhere", "--team", "another team")


class Pool:
    """Things to name: a few of each kind, own and foreign, whole and empty, and ids of nothing."""

    def __init__(self, client, stranger):
        model = client.create_model(name="with images")
        images = [client.add_image(model["id"], data_url(png(24, 24, seed)))["id"] for seed in range(3)]
        public = stranger.create_model(name="public")
        foreign = stranger.add_image(public["id"], data_url(png(24, 24, 7)))["id"]
        stranger.ok("PUT", f"/models/{public['id']}", json={"privacy": "public"})
        empty = client.create_model(name="empty", type="sd-xl-lora")["id"]
        job = client.ok("PUT", f"/models/{model['id']}/train", json={})["job"]["jobId"]
        client.wait_for_job(job)
        assets = [*images, foreign, "asset_111111111111111111111111"]
        models = [model["id"], model["id"], empty, public["id"], "model_111111111111111111111111"]
        self.values = {
            "modelId": models, "modelIds": models, "assetId": assets, "assetIds": assets, "ids": assets, "thumbnail": assets,
            "trainingImageId": assets, "sourceId": assets, "targetId": assets, "parentId": assets, "jobId": [job, job, "job_x"],
            "projectId": [client.project_id] * 9 + [stranger.project_id], "destinationProjectId": [client.project_id, stranger.project_id],
            "destinationTeamId": [client.team_id, stranger.team_id],
        }

    def named(self, name, value):
        """A string under such a name becomes one of the pool most of the time; the same one for the same string."""
        if isinstance(value, list):
            return [self.named(name, item) for item in value]
        if not isinstance(value, str):
            return self.filled(value)
        chosen = zlib.crc32(value.encode("utf-8", "surrogatepass"))
        return value if chosen % 8 == 0 or name not in self.values else self.values[name][chosen // 8 % len(self.values[name])]

    def filled(self, value):
        if isinstance(value, dict):
            return {name: self.named(name, item) for name, item in value.items()}
        return [self.filled(item) for item in value] if isinstance(value, list) else value


@pytest.fixture
def pool(client, stranger):
    """Its own for each operation: some of them leave little behind."""
    return Pool(client, stranger)


def operations():
    schema = schemathesis.openapi.from_dict(contract.DOCUMENT)
    schema.config.update(base_url="http://localhost")  # each call says where
    schema.config.generation.update(with_security_parameters=False)
    return {result.ok().definition.raw["operationId"]: result.ok() for result in schema.get_all_operations()}


OPERATIONS = operations()


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_no_answer_is_off_the_contract(operation_id, server, client, pool):
    allowed, forbidden = (OPERATIONS[operation_id].as_strategy(generation_mode=mode) for mode in GenerationMode)

    @examples(20)
    @given(strategies.one_of(allowed, forbidden))
    def holds(case):
        case.path_parameters, case.query, case.body = (pool.filled(part) for part in (case.path_parameters, case.query, case.body))
        case.call_and_validate(base_url=server.url, checks=CHECKS, auth=(client.key, client.secret))

    holds()
