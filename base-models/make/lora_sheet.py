"""Train a LoRA on the ten drawings of docs/example and draw a sheet: the drawings, the base, the base with the LoRA.

    python3 lora_sheet.py --work WORK --base ../tiny --out ../../docs/lora.png

The things drawn are not among the ten. Needs Pillow and rsvg-convert.
"""
import argparse
import glob
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))
THINGS = "cat dog crown castle rocket bell guitar snail".split()
PARAMETERS = '{"maxTrainSteps":400,"batchSize":4,"rank":8,"conceptPrompt":"ink style,"}'
STRENGTHS = (0.7, 1)
SIDE = 96


def train(args):
    """The path of the LoRA."""
    pictures, job = os.path.join(args.work, "ink"), os.path.join(args.work, "ink-job")
    os.makedirs(pictures, exist_ok=True)
    for path in sorted(glob.glob(os.path.join(HERE, "../../docs/example/*.svg"))):
        name = os.path.splitext(os.path.basename(path))[0]
        subprocess.run(["rsvg-convert", "-w", "64", "-h", "64", path, "-o", f"{pictures}/{name}.png"], check=True)
        with open(f"{pictures}/{name}.txt", "w", encoding="utf-8") as file:
            file.write(name)
    if not os.path.exists(job):
        subprocess.run([args.maquette, "train", "--init", job, "--images", pictures, "--type", "sd-1_5-lora",
                        "--base", args.base, "--parameters", PARAMETERS], check=True)
    started = time.time()
    subprocess.run([args.maquette, "train", job], check=True)
    print(f"trained in {time.time() - started:.0f} s")
    return pictures, os.path.join(job, "out/model.safetensors")


def draw(args, prompt, lora, name):
    path = os.path.join(args.work, name + ".png")
    subprocess.run([args.maquette, "generate", "--base", args.base, "--prompt", prompt, "--seed", "7", "--threads", "1",
                    "--out", path] + lora, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--maquette", default=os.path.join(HERE, "../../build/maquette"))
    parser.add_argument("--work", default="work")
    parser.add_argument("--base", default=os.path.join(HERE, "../tiny"))
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    pictures, lora = train(args)
    rows = [[draw(args, f"noto style, {thing}", [], f"{thing}-base") for thing in THINGS]]
    with ThreadPoolExecutor(2) as pool:
        for strength in STRENGTHS:
            rows.append(list(pool.map(lambda thing: draw(args, f"ink style, {thing}", ["--lora", f"{lora}:{strength}"],
                                                         f"{thing}-{strength}"), THINGS)))
    taught = sorted(glob.glob(f"{pictures}/*.png"))
    small = len(THINGS) * SIDE // len(taught)
    sheet = Image.new("RGB", (len(THINGS) * SIDE, small + len(rows) * SIDE), "white")
    for x, path in enumerate(taught):
        picture = Image.open(path).convert("RGB").resize((small, small), Image.Resampling.BICUBIC)
        sheet.paste(picture, (x * small, 0))
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            sheet.paste(picture, (x * SIDE, small + y * SIDE))
    sheet.save(args.out, optimize=True)


if __name__ == "__main__":
    main()
