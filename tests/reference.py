"""Checks answers against the reference's own schema, bounds of numbers included."""
import functools
import json
import pathlib

import jsonschema

REFERENCE = json.loads((pathlib.Path(__file__).parent / "api/reference.schema.json").read_text())


@functools.cache
def validator(name):
    return jsonschema.Draft202012Validator({"$defs": REFERENCE["$defs"], "$ref": f"#/$defs/{name}"})


def valid(name, value):
    """The value, which must be a `name` of the reference; an empty trainingProgress is a live fact that it lacks."""
    if name == "Model" and value.get("trainingProgress") == {}:
        return {**valid(name, {key: field for key, field in value.items() if key != "trainingProgress"}), "trainingProgress": {}}
    error = next(validator(name).iter_errors(value), None)
    assert not error, f"no {name}: {error.json_path}: {error.message[:300]}"
    return value
