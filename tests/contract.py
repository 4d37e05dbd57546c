"""Checks answers against api/openapi.yaml: every JSON answer of a /v1 path must fit the schema of its status."""
import pathlib
import re

import jsonschema
import yaml

DOCUMENT = yaml.safe_load((pathlib.Path(__file__).resolve().parent.parent / "api/openapi.yaml").read_text())


def resolved(node):
    while "$ref" in node:
        target = DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def as_pattern(template):
    return re.compile(re.sub(r"\{\w+\}", "[^/]+", template) + "$")


OPERATIONS = [(as_pattern(path), method.upper(), operation)
              for path, item in DOCUMENT["paths"].items()
              for method, operation in item.items() if method in ("get", "put", "post", "delete")]
VALIDATORS = {}


def validator(operation, status):
    key = (operation["operationId"], status)
    if key not in VALIDATORS:
        responses = operation["responses"]
        assert status in responses or int(status) >= 400, f"{operation['operationId']} answers {status}, which is not in the contract"
        schema = resolved(responses.get(status, responses["default"]))["content"]["application/json"]["schema"]
        VALIDATORS[key] = jsonschema.Draft202012Validator({"components": DOCUMENT["components"], **schema})
    return VALIDATORS[key]


def check_json(operation, status, value):
    error = next(validator(operation, str(status)).iter_errors(value), None)
    assert not error, f"{operation['operationId']}: {error.json_path}: {error.message[:300]}"


def check(answer, path):
    """answer is of requests; a path or method that the contract does not know is left alone."""
    for pattern, method, operation in OPERATIONS:
        if method == answer.request.method and pattern.match(path) and "json" in answer.headers.get("Content-Type", ""):
            check_json(operation, answer.status_code, answer.json())
            return
