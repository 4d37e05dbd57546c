#!/usr/bin/env python3
"""The style guide as a test: arrows between rooms, sizes, banned calls, leftovers. Prints every breach; exits 1 on any."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Which rooms a room may include, besides itself. The files directly in src/ build the object graph and may use all.
ARROWS = {
    "base": set(),
    "http": {"base"},
    "store": {"base"},
    "blob": {"base"},
    "media": {"base"},
    "exec": {"base"},
    "engine": {"base"},
    "domain": {"base", "store", "blob", "media", "exec"},
    "handlers": {"base", "http", "domain"},
}

# A library's headers belong to one room.
LIBRARY_ROOMS = {
    "microhttpd.h": "http",
    "sqlite3.h": "store",
    "vips/": "media",
    "curl/": "media",
    "libdeflate.h": "media",
    "archive.h": "blob",
    "archive_entry.h": "blob",
    "yajl/": "base",
    "openssl/": "base",
    "zlib.h": "http",
}

BANNED = {
    r"\b(strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|atof|alloca|tmpnam|mktemp|system|popen|asctime|ctime)\s*\(":
        "banned call",
    r"\b(TODO|FIXME|XXX|HACK)\b": "leftover",
    r"\bOFFSET\s+\?": "OFFSET pagination",
    r"^\s*typedef\s+struct": "typedef of a struct",
}

LINES_MAX = {"src": 700, "tests": 900}
FUNCTION_LINES_MAX = 80
WIDTH_MAX = 120


def sources_below(*folders):
    """C files below the folders, as paths from the root."""
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.[ch]")]
    return sorted(path.relative_to(ROOT) for path in found)


def room_of(path):
    return path.parts[1] if path.parts[0] == "src" and len(path.parts) > 2 else None


def check_includes(path, text):
    room = room_of(path)
    if room is None:
        return
    for kind, name in re.findall(r'^#include ([<"])([^>"]+)[>"]', text, re.M):
        target = name.split("/")[0]
        if kind == '"' and target in ARROWS and target != room and target not in ARROWS[room]:
            yield f"the room {room} may not include {name}"
        for header, owner in LIBRARY_ROOMS.items():
            if kind == "<" and name.startswith(header) and owner != room:
                yield f"{name} belongs to the room {owner}"


def check_lines(path, text):
    limit = LINES_MAX[path.parts[0]]
    lines = text.splitlines()
    if len(lines) > limit:
        yield f"{len(lines)} lines, at most {limit}"
    for number, line in enumerate(lines, 1):
        if len(line) > WIDTH_MAX:
            yield f"{number}: wider than {WIDTH_MAX} columns"
        for pattern, why in BANNED.items():
            if re.search(pattern, line):
                yield f"{number}: {why}: {line.strip()[:60]}"


def check_functions(path, text):
    start = None
    for number, line in enumerate(text.splitlines(), 1):
        if line == "{":
            start = number
        elif line == "}" and start:
            if number - start - 1 > FUNCTION_LINES_MAX and path.parts[0] == "src":
                yield f"{start}: a function of {number - start - 1} lines, at most {FUNCTION_LINES_MAX}"
            start = None


def main():
    breaches = []
    sources = sources_below("src", "tests")
    for path in sources:
        text = (ROOT / path).read_text()
        for check in (check_includes, check_lines, check_functions):
            breaches += [f"{path}: {breach}" for breach in check(path, text)]
    print("\n".join(breaches) if breaches else f"tidy: {len(sources)} files")
    sys.exit(bool(breaches) or not sources)


if __name__ == "__main__":
    main()
