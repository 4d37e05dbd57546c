#!/usr/bin/env python3
"""Turns api/openapi.yaml into C data. Usage: generate.py CONTRACT OUTDIR"""
import pathlib
import sys

import yaml


def error_codes(contract):
    codes = contract["x-error-codes"]
    lines = ["/* Generated from api/openapi.yaml. */", "#pragma once", "#include <stddef.h>", "enum error_code {"]
    lines += [f"    ERR_{code}," for code in codes]
    lines += ["};", "#define ERROR_CODE_LIST(X) \\"]
    rows = []
    for code, (status, name) in codes.items():
        quoted = f'"{name}"' if name else "NULL"
        rows.append(f"    X(ERR_{code}, {status}, {quoted})")
    lines.append(" \\\n".join(rows))
    return "\n".join(lines) + "\n"


def main():
    contract = yaml.safe_load(pathlib.Path(sys.argv[1]).read_text())
    out = pathlib.Path(sys.argv[2])
    (out / "error_codes.h").write_text(error_codes(contract))


if __name__ == "__main__":
    main()
