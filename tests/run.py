#!/usr/bin/env python3
"""Runs every suite and adds up what passed and failed. A suite in which nothing ran counts as a failure."""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml

ROOT = pathlib.Path(__file__).resolve().parent.parent

# LeakSanitizer of gcc 12 dies walking the thread-local blocks of libraries that were loaded late, as libvips is.
os.environ.setdefault("ASAN_OPTIONS", "intercept_tls_get_addr=0")


def run_units(build):
    """cmocka programs by meson: their TAP lines are in the test log, one JSON object a program."""
    log = ROOT / build / "meson-logs/testlog.json"
    log.unlink(missing_ok=True)
    status = subprocess.run(["meson", "test", "-C", build, "--no-rebuild", "--print-errorlogs", "--timeout-multiplier", "5"], cwd=ROOT).returncode
    passed = failed = 0
    for line in log.read_text().splitlines() if log.exists() else []:
        program = json.loads(line)
        output = program.get("stdout") or ""
        ok = len(re.findall(r"^ok \d+", output, re.M))
        bad = len(re.findall(r"^not ok \d+", output, re.M))
        if program["result"] not in ("OK", "SKIP") and not bad:
            bad = 1  # died before it could say which test
        passed, failed = passed + ok, failed + bad
    return passed, failed or int(status != 0)


def run_pytest(directory, binary, *options):
    """The Python suites under tests/, against the binary given."""
    with tempfile.TemporaryDirectory() as scratch:
        report = pathlib.Path(scratch) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", f"--junitxml={report}", *options, directory]
        status = subprocess.run(command, cwd=ROOT, env={**os.environ, "MAQUETTE_BINARY": str(ROOT / binary)}).returncode
        if not report.exists():
            return 0, 1
        suite = xml.parse(report).getroot().find("testsuite")
        count = {key: int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    return count["tests"] - failed - count["skipped"], failed or int(status != 0)


def run_fuzz():
    """Fixed examples, so that a failure is there again on the next run; MAQUETTE_FUZZ_SEED and _FACTOR make others and more."""
    print("fuzz: MAQUETTE_FUZZ_SEED=" + os.environ.setdefault("MAQUETTE_FUZZ_SEED", "1"), flush=True)
    return run_pytest("tests/fuzz", "build-asan/maquette")


def run_tidy():
    status = subprocess.run([sys.executable, "tests/tidy.py"], cwd=ROOT).returncode
    return (1, 0) if status == 0 else (0, 1)


def run_clang_tidy():
    """clang's checks and its analyzer over every file of the program once, though kernels are compiled for several
    instruction sets; .clang-tidy says which checks and why not others."""
    commands = json.loads((ROOT / "build/compile_commands.json").read_text())
    with tempfile.TemporaryDirectory() as scratch:
        once = {command["file"]: command for command in commands}
        (pathlib.Path(scratch) / "compile_commands.json").write_text(json.dumps(list(once.values())))
        found = subprocess.run(["run-clang-tidy", "-p", scratch, "-quiet", f"{ROOT}/src/.*\\.c$"], cwd=ROOT,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if found.returncode:
        print("\n".join(line for line in found.stdout.splitlines() if re.search(r"error:|warning:", line)) or found.stdout)
    return (1, 0) if found.returncode == 0 else (0, 1)


SUITES = {
    "tidy": run_tidy,
    "clang-tidy": run_clang_tidy,
    "unit": lambda: run_units("build"),
    "unit with sanitizers": lambda: run_units("build-asan"),
    "api with sanitizers": lambda: run_pytest("tests/api", "build-asan/maquette"),
    "fuzz with sanitizers": run_fuzz,
    "whole job": lambda: run_pytest("tests/e2e", "build/maquette"),
}


def main():
    wanted = sys.argv[1:]
    passed = failed = 0
    for name, suite in SUITES.items():
        if wanted and not any(word in name for word in wanted):
            continue
        print(f"== {name}", flush=True)
        ok, bad = suite()
        if ok + bad == 0:
            print(f"{name}: nothing ran")
            bad = 1
        print(f"== {name}: {ok} passed, {bad} failed", flush=True)
        passed, failed = passed + ok, failed + bad
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
