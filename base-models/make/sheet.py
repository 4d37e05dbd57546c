"""Draw contact sheets with `maquette generate`, the true pictures below what is drawn.

    python3 sheet.py --maquette ../../build/maquette --job WORK/job --base ../tiny --out ../../docs/base.png
                     [--styles noto,fluent] [--open N] [--guidance 2]

The fixed list is the first 16 concepts of concepts.txt; --open N takes N of the others at random instead.
Needs Pillow.
"""
import argparse
import os
import random
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from job import concepts

COLUMNS, SIDE, FIXED = 8, 64, 16


def draw(args, folder, style, words):
    path = os.path.join(folder, f"{style}-{words}.png".replace(" ", "-"))
    command = [args.maquette, "generate", "--base", args.base, "--prompt", f"{style} style, {words}", "--seed", "7",
               "--threads", "1", "--guidance", str(args.guidance), "--steps", str(args.steps), "--out", path]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return Image.open(path).convert("RGB")


def chosen(args):
    every = concepts()
    if not args.open:
        return every[:FIXED]
    picked = random.Random(args.seed).sample(every[FIXED:], args.open)
    print(", ".join(words for _, words, _ in picked))
    return picked


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--maquette", default="../../build/maquette")
    parser.add_argument("--job", required=True)
    parser.add_argument("--base", default="../tiny")
    parser.add_argument("--out", required=True)
    parser.add_argument("--styles", default="noto")
    parser.add_argument("--open", type=int, default=0)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--guidance", type=float, default=2)
    parser.add_argument("--steps", type=int, default=25)
    args = parser.parse_args()
    rows, picked = [], chosen(args)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        for style in args.styles.split(","):
            truth = [Image.open(os.path.join(args.job, f"dataset/{style}-{icon}.png")).convert("RGB")
                     for icon, _, _ in picked]
            drawn = list(pool.map(lambda item: draw(args, folder, style, item[1]), picked))
            for first in range(0, len(picked), COLUMNS):
                rows += [drawn[first:first + COLUMNS], truth[first:first + COLUMNS]]
        sheet = Image.new("RGB", (COLUMNS * SIDE, len(rows) * SIDE), "white")
        for y, row in enumerate(rows):
            for x, picture in enumerate(row):
                sheet.paste(picture, (x * SIDE, y * SIDE))
    sheet.save(args.out, optimize=True)


if __name__ == "__main__":
    main()
