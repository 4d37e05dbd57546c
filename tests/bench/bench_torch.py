#!/usr/bin/env python3
"""The engine beside PyTorch on the CPU, the same work on the shipped base in one run, ours and theirs in turn:

    scripts/bench --only torch         installs PyTorch for it (the newest from PyPI, several GB, into build/torch)
    TORCH_PYTHON=/usr/bin/python3 tests/bench/bench_torch.py [--rounds 3]

Milliseconds of a step, the mean of a run and the best of all rounds: CPU time with one thread, which other processes
disturb little, and elapsed time with two. Ours is the difference of two runs of the program, so that reading the base is
not counted; theirs begins after three steps. First, both draw the same picture."""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from pictures import png

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ.get("MAQUETTE_BINARY", str(ROOT / "build/maquette"))
BASE = ROOT / "base-models/tiny"
PROMPT, GUIDANCE, SAMPLE_STEPS = "noto style, cat", 2.0, 25
FEW, MANY = 3, 15  # steps of our two runs


def spent_by(command):
    """Wall and CPU seconds, and the peak of resident MB, of a process."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    message = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command}: {message.decode()}")
    return time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


class Ours:
    """A folder for each run: a training that has ended is not run again."""

    def __init__(self, folder):
        self.folder, self.number = folder, 0
        images = folder / "images"
        images.mkdir()
        for i in range(16):
            (images / f"{i:02}.png").write_bytes(png(64, i))
            (images / f"{i:02}.txt").write_text("a picture")

    def new_folder(self):
        self.number += 1
        return self.folder / str(self.number)

    def lora(self, steps, targets, batch):
        job, base = self.new_folder(), self.folder / f"base-{targets}"
        if not base.exists():
            shutil.copytree(BASE, base)
            hints = json.loads((base / "maquette.json").read_text()) | {"loraTargets": targets}
            (base / "maquette.json").write_text(json.dumps(hints))
        parameters = {"rank": 8, "maxTrainSteps": steps, "seed": 1}
        subprocess.run([BINARY, "train", "--init", job, "--images", self.folder / "images", "--base", base, "--parameters",
                        json.dumps(parameters)], check=True, capture_output=True)
        description = json.loads((job / "job.json").read_text())
        description["parameters"]["batchSize"] = batch  # more than the API allows
        (job / "job.json").write_text(json.dumps(description))
        return [BINARY, "train", job]

    def full(self, steps, batch):
        job = self.new_folder()
        shutil.copytree(BASE, job / "base")
        shutil.copytree(self.folder / "images", job / "images")
        items = [{"image": f"images/{i:02}.png", "group": 0, "captions": [f"noto style, cat {i}"]} for i in range(16)]
        (job / "job.json").write_text(json.dumps({
            "type": "sd-1_5-base", "base": "base", "seed": 1, "items": items, "phases": [{"step": 0, "repeats": [1]}],
            "parameters": {"steps": steps, "batchSize": batch, "learningRate": 1e-4, "averageDecay": 0.998,
                           "reportSteps": 10000, "probePictures": 1}}))
        return [BINARY, "pretrain", job]

    def sample(self, steps):
        return [BINARY, "generate", "--base", BASE, "--prompt", PROMPT, "--seed", "0", "--steps", str(steps), "--guidance",
                str(GUIDANCE), "--out", self.folder / "ours.png"]

    def measure(self, command, few, many, threads):
        """Milliseconds of a step: wall, CPU; and MB."""
        first = spent_by([*command(few), "--threads", str(threads)])
        second = spent_by([*command(many), "--threads", str(threads)])
        return [*((b - a) / (many - few) * 1000 for a, b in zip(first[:2], second[:2])), second[2]]


class Theirs:
    def __init__(self, python):
        self.python, self.version = python, None

    def run(self, task, threads, *options):
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
        command = [self.python, ROOT / "tests/bench/torch_unet.py", task, "--base", BASE, "--threads", str(threads), *options]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout)
        self.version = found["version"]
        return found

    def measure(self, task, threads, *options):
        found = self.run(task, threads, *options)
        steps = found["steps"][3:]
        return [sum(step[i] for step in steps) / len(steps) * 1000 for i in range(2)] + [found["peak_kb"] / 1024]


def check_pictures(ours, theirs):
    """Off by little, single precision in both: the work is the same."""
    spent_by(ours.sample(SAMPLE_STEPS))
    raw = ours.folder / "theirs.rgb"
    theirs.run("sample", 1, "--steps", str(SAMPLE_STEPS), "--prompt", PROMPT, "--guidance", str(GUIDANCE), "--out", str(raw))
    decode = ("import sys, numpy; from PIL import Image; a = numpy.asarray(Image.open(sys.argv[1]).convert('RGB')).astype(int);"
              "b = numpy.fromfile(sys.argv[2], numpy.uint8).reshape(a.shape); print(abs(a - b).max())")
    python = ROOT / ".venv/bin/python"
    difference = int(subprocess.check_output([python, "-c", decode, ours.folder / "ours.png", raw]))
    if difference > 3:
        sys.exit(f"the two pictures differ by {difference} of 255: this is not the same work")


def compare(ours, theirs, rounds, command, task, options, steps):
    """Best of rounds: [wall of two threads, CPU of one], MB of two threads; each for ours and theirs."""
    best = {"ours": [1e9] * 3, "theirs": [1e9] * 3}
    for _ in range(rounds):
        for threads, index in ((2, 0), (1, 1)):
            for who, found in (("ours", ours.measure(command, *steps, threads)), ("theirs", theirs.measure(task, threads, *options))):
                best[who][index] = min(best[who][index], found[index])
                if threads == 2:
                    best[who][2] = min(best[who][2], found[2])
    return best["ours"], best["theirs"]


def bench(python, rounds):
    """Prints a row of each kind of work; returns PyTorch's version, and its MB without any."""
    with tempfile.TemporaryDirectory(prefix="maquette-torch-") as folder:
        ours, theirs = Ours(pathlib.Path(folder)), Theirs(python)
        check_pictures(ours, theirs)
        work = [(f"LoRA step, {targets} targets, rank 8, batch 8", lambda steps, targets=targets: ours.lora(steps, targets, 8), "lora",
                 ["--targets", targets, "--steps", "15"], (FEW, MANY)) for targets in ("wide", "attention")]
        work.append(("full training step with the text encoder, batch 16", lambda steps: ours.full(steps, 16), "full",
                     ["--batch", "16", "--steps", "15"], (FEW, MANY)))
        work.append(("sampling step with guidance", ours.sample, "sample",
                     ["--steps", "25", "--prompt", PROMPT], (5, 55)))
        for name, command, task, options, steps in work:
            mine, other = compare(ours, theirs, rounds, command, task, options, steps)
            times = [f"{mine[i]:.1f} / {other[i]:.1f}, {other[i] / mine[i]:.1f} times" for i in range(2)]
            print(f"| {name} | {' | '.join(times)} | {mine[2]:.0f} / {other[2]:.0f} |", flush=True)
        nothing = theirs.run("nothing", 1)["peak_kb"] / 1024
    return theirs.version, nothing


def run(rounds):
    load = os.getloadavg()[0]
    print("| what | ours / PyTorch, 2 threads, ms | CPU of 1 thread, ms | peak, MB |\n|---|---|---|---|")
    version, nothing = bench(os.environ.get("TORCH_PYTHON", "python3"), rounds)
    print(f"PyTorch {version}, {nothing:.0f} MB once it is imported; load average {load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    run(parser.parse_args().rounds)
