"""The contract: its shapes are the reference's, and the generator keeps its rules."""
import copy
import importlib.util
import json
import pathlib

import pytest
import requests
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONTRACT = yaml.safe_load((ROOT / "api/openapi.yaml").read_text())
REFERENCE = json.loads((pathlib.Path(__file__).parent / "reference.schema.json").read_text())["$defs"]

# Fields of ours in an answer that the reference lacks, with the place that explains them.
EXTENSIONS = {
    "TrainingImageAddResponse": {"trainingImages"},  # all images of a batch; docs/COMPATIBILITY.md
    "TrainingImageReplaceResponse": {"trainingImages"},
}


def load_generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "api/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generator = load_generator()


def resolved(node):
    while "$ref" in node or "anyOf" in node:
        node = node["anyOf"][0] if "anyOf" in node else CONTRACT["components"]["schemas"][node["$ref"].rsplit("/", 1)[1]]
    return node


def differences(reference, ours, path, extra=()):
    """Field names, order, types, required ones and enums; limits and texts are ours to choose."""
    if "$ref" in reference:
        reference = REFERENCE[reference["$ref"].rsplit("/", 1)[1]]
    ours = resolved(ours)
    if "enum" in reference:
        if sorted(map(str, ours.get("enum", []))) != sorted(map(str, reference["enum"])):
            yield f"{path}: other values"
        return
    if "const" in reference:
        if ours.get("const") != reference["const"]:
            yield f"{path}: other constant"
        return
    expected = reference.get("type", "object" if "properties" in reference else None)
    if ours.get("type") != expected:
        yield f"{path}: {ours.get('type')} is not {expected}"
    if "items" in reference:
        yield from differences(reference["items"], ours["items"], path + "[]")
    if "properties" not in reference:
        return
    if set(ours.get("required", [])) != set(reference.get("required", [])):
        yield f"{path}: other required fields"
    names = [name for name in ours["properties"] if name not in extra]
    if names != list(reference["properties"]):
        yield f"{path}: other fields or another order"
    for name in set(names) & set(reference["properties"]):
        yield from differences(reference["properties"][name], ours["properties"][name], f"{path}.{name}")


@pytest.mark.parametrize("name", ["Model", "Job", "Asset", "TrainingImage", "Example", "ModelDescription"])
def test_components_equal_the_reference(name):
    assert list(differences(REFERENCE[name], CONTRACT["components"]["schemas"][name], name)) == []


ANSWERS = {
    "create_model": "ModelCreateResponse",
    "get_bulk_models": "ModelGetBulkResponse",
    "retrieve_model": "ModelRetrieveResponse",
    "update_model": "ModelUpdateResponse",
    "copy_model": "ModelCopyResponse",
    "transfer_model": "ModelTransferResponse",
    "update_model_tags": "ModelUpdateTagsResponse",
    "download_model": "ModelDownloadResponse",
    "retrieve_description": "DescriptionRetrieveResponse",
    "update_description": "DescriptionUpdateResponse",
    "list_examples": "ExampleListResponse",
    "update_examples": "ExampleUpdateResponse",
    "trigger_training": "TrainTriggerResponse",
    "training_action": "TrainActionResponse",
    "add_training_image": "TrainingImageAddResponse",
    "replace_training_image": "TrainingImageReplaceResponse",
    "replace_training_pairs": "TrainingImageReplacePairsResponse",
}


def operations():
    for path, item in CONTRACT["paths"].items():
        for method in generator.METHODS:
            if method in item:
                yield item[method]["operationId"], path, method, item[method]


def answer_schema(operation):
    response = operation["responses"]["200"]
    if "$ref" in response:
        response = CONTRACT["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
    return response["content"]["application/json"]["schema"]


@pytest.mark.parametrize("operation_id", ANSWERS)
def test_answers_equal_the_reference(operation_id):
    operation = next(node for name, _, _, node in operations() if name == operation_id)
    reference = ANSWERS[operation_id]
    found = differences(REFERENCE[reference], answer_schema(operation), operation_id, EXTENSIONS.get(reference, ()))
    assert list(found) == []


def test_every_operation_has_its_own_id_and_a_summary():
    ids = [name for name, _, _, _ in operations()]
    assert len(ids) == len(set(ids))
    assert all(node["summary"] for _, _, _, node in operations())


@pytest.mark.parametrize("schema, text", [
    ({"type": "string"}, "a string without maxLength"),
    ({"type": ["string", "null"]}, "a string without maxLength"),
    ({"type": "array", "items": {"type": "number"}}, "an array without maxItems"),
])
def test_the_generator_refuses_what_has_no_limit(schema, text):
    contract = copy.deepcopy(CONTRACT)
    contract["components"]["schemas"]["ModelConcept"]["properties"]["extra"] = schema
    with pytest.raises(generator.Refused, match=text):
        generator.generate(contract)


@pytest.mark.parametrize("schema, text", [
    ({"type": "object", "maxProperties": 1, "additionalProperties": {}}, "no fixed shape"),
    ({"type": ["number", "null"]}, "only strings can be null"),
])
def test_the_generator_refuses_bodies_that_the_reader_would_lose(schema, text):
    contract = copy.deepcopy(CONTRACT)
    contract["components"]["schemas"]["TrainingParameters"]["properties"]["extra"] = schema
    with pytest.raises(generator.Refused, match=text):
        generator.generate(contract)


def test_the_contract_is_served(server):
    answer = requests.get(server.url + "/openapi.json", timeout=10)
    assert answer.status_code == 200 and answer.json() == CONTRACT


def test_unknown_paths_and_methods_are_refused(client):
    assert client.refused(404, "GET", "/nothing")
    assert client.refused(404, "GET", "/models/x/training-images/y/z")
    assert client.refused(405, "DELETE", "/models")
    assert client.refused(405, "GET", "/models/x/training-images")


def test_health_metrics_and_the_front_page_need_no_key(server):
    for path, text in (("/healthz", "ok"), ("/readyz", "ok"), ("/metrics", "maquette_requests_total"), ("/", "openapi.json")):
        answer = requests.get(server.url + path, timeout=10)
        assert answer.status_code == 200 and text in answer.text


def test_a_head_has_the_headers_of_a_get_and_no_body(client):
    model = client.create_model()
    head, get = (client.call(method, f"/models/{model['id']}") for method in ("HEAD", "GET"))
    assert head.status_code == 200 and head.content == b"" and head.headers["Content-Length"] == str(len(get.content))


def test_the_generator_refuses_an_array_that_may_be_absent():
    contract = copy.deepcopy(CONTRACT)
    del contract["paths"]["/v1/models/{modelId}/training-images/pairs"]["put"]["requestBody"]["required"]
    with pytest.raises(generator.Refused, match="must be required"):
        generator.generate(contract)
