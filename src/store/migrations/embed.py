#!/usr/bin/env python3
"""Writes the migrations as a C table. Usage: embed.py OUT NNNN_name.sql ..."""
import pathlib
import re
import sys


def main():
    out, paths = pathlib.Path(sys.argv[1]), sorted(map(pathlib.Path, sys.argv[2:]), key=lambda path: path.name)
    texts, rows = [], []
    for number, path in enumerate(paths, start=1):
        if not re.fullmatch(rf"{number:04}_[a-z_]+\.sql", path.name):
            sys.exit(f"{path.name}: expected {number:04}_name.sql, since numbers have no gaps")
        # A list of bytes: ISO C promises string literals of 4095 characters only.
        texts.append(f"static const char migration_{number}[] = {{{','.join(map(str, path.read_bytes()))},0}};")
        rows.append(f'    {{{number}, "{path.name}", migration_{number}}},')
    out.write_text("\n".join(["/* Generated from src/store/migrations. */", *texts,
                              "static const struct db_migration built_in_migrations[] = {", *rows, "};", ""]))


if __name__ == "__main__":
    main()
