#!/usr/bin/env python3
"""Turns api/openapi.yaml into C: error codes, structs, field tables, routes and the document itself.

Usage: generate.py CONTRACT OUTDIR

A schema with properties becomes a struct and a table that base/fields.c walks. Strings are NUL-terminated and NULL when
absent, objects are pointers, arrays are a pointer and a count, optional numbers and booleans and every nullable field have
a has_ flag, and what has no fixed shape (maps, free values, arrays of arrays) is JSON text.
"""
import json
import pathlib
import re
import sys

import yaml

HEADING = "/* Generated from api/openapi.yaml. */\n"
METHODS = ("get", "put", "post", "delete")
COMMON = {"projectId", "originalAssets"}  # read once for every operation, by the dispatcher
KEYWORDS = {"default", "class", "register", "delete"}


class Refused(SystemExit):
    """The contract breaks a rule of ours."""


def snake(name):
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).replace("-", "_").lower()
    words = words.replace("u_vs", "uvs").replace("p50_cu", "p50cu")
    return words + "_" if words in KEYWORDS else words


def quoted(text):
    return json.dumps(text, ensure_ascii=False)


class Contract:
    def __init__(self, document):
        self.document = document
        self.structs = {}  # C name -> lines of the struct, in order of need
        self.tables = []  # C text of each field table
        self.enums = {}  # tuple of values -> name of the C array

    def resolve(self, node):
        while "$ref" in node:
            target = self.document
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        return node

    def shape(self, schema):
        """The schema itself behind $ref and behind 'this or an empty object'."""
        if "anyOf" in schema:
            schema = schema["anyOf"][0]
        return self.resolve(schema)

    def struct_name(self, schema, fallback):
        schema = schema["anyOf"][0] if "anyOf" in schema else schema
        return "api_" + (snake(schema["$ref"].rsplit("/", 1)[1]) if "$ref" in schema else fallback)

    def check_limits(self, node, path):
        """Every string and array says how long it may be: a silent limit is a bug, no limit is another."""
        if isinstance(node, list):
            for index, item in enumerate(node):
                self.check_limits(item, f"{path}[{index}]")
        if not isinstance(node, dict):
            return
        types = node.get("type", [])
        types = [types] if isinstance(types, str) else types
        if "string" in types and "enum" not in node and "maxLength" not in node:
            raise Refused(f"{path}: a string without maxLength")
        if "array" in types and "maxItems" not in node:
            raise Refused(f"{path}: an array without maxItems")
        for key, value in node.items():
            if key not in ("example", "default", "enum", "description"):
                self.check_limits(value, f"{path}.{key}")

    def enum(self, values):
        return self.enums.setdefault(tuple(values), f"enum_values_{len(self.enums)}")

    def kind(self, schema):
        types = schema.get("type", "any")
        name = types if isinstance(types, str) else next(t for t in types if t != "null")
        if name == "object":
            return "OBJECT" if "properties" in schema else "RAW"
        if name == "array":
            item = self.kind(self.shape(schema["items"]))
            return item + "S" if item in ("STRING", "NUMBER", "OBJECT") else "RAW"
        return {"string": "STRING", "number": "NUMBER", "boolean": "BOOL", "any": "RAW"}[name]

    def members(self, kind, schema, name, field, required, nullable):
        """C declarations of a field, and which of them tells presence."""
        c_type = {"STRING": "const char *", "RAW": "const char *", "NUMBER": "double ", "BOOL": "bool ",
                  "STRINGS": "const char **", "NUMBERS": "double *"}
        if kind in ("OBJECT", "OBJECTS"):
            item = schema["items"] if kind == "OBJECTS" else schema
            declared = f"struct {self.struct_name(item, field)} *"
        else:
            declared = c_type[kind]
        lines = [f"    {declared}{name};"]
        if kind.endswith("S"):
            return lines + [f"    size_t {name}_count;"], f"{name}_count"
        if nullable or (kind in ("NUMBER", "BOOL") and not required):
            return lines + [f"    bool has_{name};"], f"has_{name}"
        return lines, None

    def row(self, struct, wire, schema, required):
        """One field: its declarations and its line in the table."""
        shape = self.shape(schema)
        kind, name = self.kind(shape), snake(wire)
        nullable = isinstance(shape.get("type"), list) and "null" in shape["type"]
        inner = schema if kind != "OBJECTS" else shape
        lines, mark = self.members(kind, inner, name, f"{struct.removeprefix('api_')}_{name}", required, nullable)
        item = self.shape(shape["items"]) if kind.endswith("S") else shape
        parts = [f".name = {quoted(wire)}", f".kind = FIELD_{kind}", f".offset = offsetof(struct {struct}, {name})"]
        if mark:
            parts.append(f".mark_offset = offsetof(struct {struct}, {mark})")
            parts += [] if kind.endswith("S") else [".has_mark = true"]
        flags = {"required": required, "nullable": nullable, "empty_when_absent": schema.get("x-empty-when-absent"),
                 "whole": item.get("multipleOf") == 1, "above_min": "exclusiveMinimum" in item,
                 "number_too": kind == "STRING" and "number" in shape["type"]}
        parts += [f".{flag} = true" for flag, on in flags.items() if on]
        low, high = item.get("exclusiveMinimum", item.get("minimum")), item.get("maximum")
        parts.append(f".min = {low if low is not None else '-HUGE_VAL'}, .max = {high if high is not None else 'HUGE_VAL'}")
        if "maxLength" in item:
            parts.append(f".length_max = {item['maxLength']}")
        if "maxItems" in shape:
            parts.append(f".count_max = {shape['maxItems']}")
        if item.get("type") == "string" and "enum" in item:
            parts.append(f".values = {self.enum(item['enum'])}")
        if kind in ("OBJECT", "OBJECTS"):
            nested = shape["items"] if kind == "OBJECTS" else schema
            parts.append(f".nested = &{self.add_struct(nested, struct.removeprefix('api_') + '_' + name)}_fields")
        return lines, "    {" + ", ".join(parts) + "},"

    def add_struct(self, schema, fallback):
        name = self.struct_name(schema, fallback)
        if name in self.structs:
            return name
        self.structs[name] = None  # keeps the order, and ends the walk where a schema names itself
        shape = self.shape(schema)
        required = set(shape.get("required", []))
        members, rows = [], []
        for wire, field in shape["properties"].items():
            lines, row = self.row(name, wire, field, wire in required)
            members += lines
            rows.append(row)
        self.structs[name] = members
        self.tables.append(f"static const struct field {name}_rows[] = {{\n" + "\n".join(rows) + "\n};\n"
                           f"const struct fields {name}_fields = {{{name}_rows, {len(rows)}, sizeof(struct {name})}};\n")
        return name

    def add_body(self, schema, operation, required):
        """A body is an object, or an array of objects: then its struct has the one member `items`."""
        if self.kind(self.shape(schema)) != "OBJECTS":
            return self.add_struct(schema, f"{operation}_body")
        if not required:
            raise Refused(f"{operation}: a body that is an array must be required")
        name, item = f"api_{operation}_body", self.add_struct(schema["items"], f"{operation}_item")
        self.structs[name] = [f"    struct {item} *items;", "    size_t items_count;"]
        self.tables.append(f"static const struct field {name}_rows[] = {{\n"
                           f"    {{.name = \"\", .kind = FIELD_OBJECTS, .offset = offsetof(struct {name}, items), "
                           f".mark_offset = offsetof(struct {name}, items_count), .required = true, "
                           f".count_max = {schema['maxItems']}, .nested = &{item}_fields}},\n}};\n"
                           f"const struct fields {name}_fields = "
                           f"{{.list = {name}_rows, .count = 1, .size = sizeof(struct {name}), .is_array = true}};\n")
        return name

    def check_body(self, schema, path, seen=()):
        """The reader keeps typed values only: free JSON in a body would be lost silently."""
        shape = self.shape(schema)
        if self.kind(shape) == "RAW":
            raise Refused(f"{path}: a body cannot hold values of no fixed shape")
        if isinstance(shape.get("type"), list) and self.kind(shape) != "STRING":
            raise Refused(f"{path}: only strings can be null or numbers too")
        if id(shape) in seen:
            return
        for name, field in shape.get("properties", {}).items():
            if name in shape.get("required", []) and self.kind(self.shape(field)) == "BOOL":
                raise Refused(f"{path}.{name}: a required boolean that was not sent would read as false")
            self.check_body(field, f"{path}.{name}", (*seen, id(shape)))
        if "items" in shape:
            self.check_body(shape["items"], f"{path}[]", (*seen, id(shape)))

    def operations(self):
        for path, item in self.document["paths"].items():
            for method in METHODS:
                if method in item:
                    yield Operation(self, path, method, item)


class Operation:
    """One method of one path: the struct of what it is asked and, for JSON answers, of what it says."""

    def __init__(self, contract, path, method, item):
        node = item[method]
        self.path, self.method, self.id = path, method.upper(), node["operationId"]
        self.public = node.get("security") == []
        self.field_prefix = node.get("x-field-prefix")
        self.public_token = {"publicToken": []} in node.get("security", [])
        parameters = [contract.resolve(p) for p in item.get("parameters", []) + node.get("parameters", [])]
        self.tables = {}
        for place in ("path", "query"):
            chosen = [p for p in parameters if p["in"] == place and p["name"] not in COMMON]
            if chosen:
                self.tables[place] = contract.add_struct(
                    {"properties": {p["name"]: p["schema"] for p in chosen},
                     "required": [p["name"] for p in chosen if p.get("required")]}, f"{self.id}_{place}")
        self.body_required = False
        body = node.get("requestBody")
        if body:
            schema = body["content"]["application/json"]["schema"]
            contract.check_body(schema, self.id)
            self.body_required = body.get("required", False)
            self.tables["body"] = contract.add_body(schema, self.id, self.body_required)
        self.answer = self.answer_struct(contract, contract.resolve(node["responses"]["200"]))

    def answer_struct(self, contract, response):
        schema = response["content"].get("application/json", {}).get("schema")
        if not schema or "properties" not in contract.shape(schema) or response.get("x-written-by-handler"):
            return None
        return contract.add_struct(schema, f"{self.id}_answer")

    @property
    def arguments(self):
        """The C parameters of the handler after the call itself."""
        request = [f"const struct api_{self.id}_request *request"] if self.tables else []
        return ["struct call *call"] + request + ([f"struct {self.answer} *answer"] if self.answer else [])

    @property
    def request_struct(self):
        lines = [f"    struct {name} {place};" for place, name in self.tables.items()]
        lines += ["    bool has_body;"] if "body" in self.tables else []
        return f"struct api_{self.id}_request {{\n" + "\n".join(lines) + "\n};\n" if lines else ""

    @property
    def wrapper(self):
        names = ["call"] + (["request"] if self.tables else []) + (["answer"] if self.answer else [])
        unused = [f"    (void){name};\n" for name in ("request", "answer") if name not in names]
        return (f"static struct error run_{self.id}(struct call *call, const void *request, void *answer)\n{{\n"
                + "".join(unused) + f"    return handle_{self.id}({', '.join(names)});\n}}\n")

    @property
    def row(self):
        parts = [f".method = \"{self.method}\"", f".template = {quoted(self.path)}", f".operation = \"{self.id}\"", f".run = run_{self.id}"]
        parts += [f".{flag} = true" for flag in ("public", "public_token", "body_required") if getattr(self, flag)]
        parts += [f".field_prefix = {quoted(self.field_prefix)}"] if self.field_prefix else []
        for place, name in self.tables.items():
            parts.append(f".{place} = &{name}_fields, .{place}_offset = offsetof(struct api_{self.id}_request, {place})")
        if "body" in self.tables:
            parts.append(f".has_body_offset = offsetof(struct api_{self.id}_request, has_body)")
        if self.tables:
            parts.append(f".request_size = sizeof(struct api_{self.id}_request)")
        if self.answer:
            parts.append(f".answer = &{self.answer}_fields")
        return "    {" + ", ".join(parts) + "},"


def error_codes(document):
    codes = document["x-error-codes"]
    lines = [HEADING + "#pragma once", "#include <stddef.h>", "enum error_code {"]
    lines += [f"    ERR_{code}," for code in codes]
    lines += ["};", "#define ERROR_CODE_LIST(X) \\"]
    rows = []
    for code, (status, name) in codes.items():
        rows.append(f"    X(ERR_{code}, {status}, {quoted(name) if name else 'NULL'})")
    return "\n".join(lines + [" \\\n".join(rows)]) + "\n"


def types_header(contract, operations):
    forward = "".join(f"struct {name};\n" for name in contract.structs)
    structs = "".join(f"struct {name} {{\n" + "\n".join(lines) + "\n};\n" for name, lines in contract.structs.items())
    return (HEADING + "#pragma once\n#include <stdbool.h>\n#include <stddef.h>\n" + forward + structs
            + "".join(operation.request_struct for operation in operations))


def fields_header(contract):
    return (HEADING + "#pragma once\n#include \"base/fields.h\"\n"
            + "".join(f"extern const struct fields {name}_fields;\n" for name in contract.structs))


def fields_source(contract):
    enums = "".join(f"static const char *const {name}[] = {{{', '.join(map(quoted, values))}, NULL}};\n"
                    for values, name in contract.enums.items())
    return (HEADING + "#include \"api_fields.h\"\n#include <math.h>\n#include \"api_types.h\"\n" + enums + "\n".join(contract.tables))


def routes_header(operations):
    handlers = "".join(f"struct error handle_{o.id}({', '.join(o.arguments)}) __attribute__((warn_unused_result));\n" for o in operations)
    return (HEADING + "#pragma once\n#include \"api_types.h\"\n#include \"base/error.h\"\n#include \"base/fields.h\"\nstruct call;\n"
            + "struct route {\n    const char *method, *template, *operation;\n    bool public, public_token, body_required; /* no credentials; public-auth-token will do */\n"
            + "    const char *field_prefix; /* before the text of an error about a field; NULL: nothing */\n"
            + "    const struct fields *path, *query, *body, *answer; /* NULL: none */\n"
            + "    size_t path_offset, query_offset, body_offset, has_body_offset, request_size;\n"
            + "    struct error (*run)(struct call *call, const void *request, void *answer);\n};\n"
            + f"enum {{ api_route_count = {len(operations)} }};\nextern const struct route api_routes[api_route_count];\n" + handlers)


def routes_source(operations):
    return (HEADING + "#include \"api_routes.h\"\n#include \"api_fields.h\"\n" + "".join(o.wrapper for o in operations)
            + "const struct route api_routes[api_route_count] = {\n" + "\n".join(o.row for o in operations) + "\n};\n")


def document_source(document):
    """The contract as JSON bytes: numbers, since a C string of this length is not portable."""
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    lines = [",".join(map(str, data[i:i + 40])) for i in range(0, len(data), 40)]
    return (HEADING + "#include \"api_document.h\"\nconst unsigned char api_document[] = {\n" + ",\n".join(lines)
            + "};\nconst size_t api_document_size = sizeof api_document;\n")


DOCUMENT_HEADER = HEADING + ("#pragma once\n#include <stddef.h>\nextern const unsigned char api_document[]; /* JSON, no NUL */\n"
                             "extern const size_t api_document_size;\n")


def generate(document):
    """File name -> text."""
    contract = Contract(document)
    contract.check_limits({key: document[key] for key in ("paths", "components")}, "contract")
    operations = list(contract.operations())
    return {
        "error_codes.h": error_codes(document),
        "api_types.h": types_header(contract, operations),
        "api_fields.h": fields_header(contract),
        "api_fields.c": fields_source(contract),
        "api_routes.h": routes_header(operations),
        "api_routes.c": routes_source(operations),
        "api_document.h": DOCUMENT_HEADER,
        "api_document.c": document_source(document),
    }


def main():
    document = yaml.safe_load(pathlib.Path(sys.argv[1]).read_text())
    for name, text in generate(document).items():
        (pathlib.Path(sys.argv[2]) / name).write_text(text)


if __name__ == "__main__":
    main()
