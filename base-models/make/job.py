"""Make a folder that `maquette pretrain` runs: icons as pictures, captions, job.json.

    npm install --prefix WORK        (with this folder's package.json copied there), tokenizer.py
    python3 job.py --work WORK --vae         -> WORK/vae-job: the VAE
    python3 job.py --work WORK               -> WORK/job: the UNet and the text encoder, with the VAE of that

Needs the program rsvg-convert (librsvg) and nothing beyond Python itself.
"""
import argparse
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
STYLES = {  # style word: (package, licence)
    "noto": ("@iconify-json/noto", "Apache-2.0"),
    "fluent": ("@iconify-json/fluent-emoji-flat", "MIT"),
}
CONTRAST = ("@iconify-json/fluent-emoji-high-contrast", "MIT")  # for the VAE: drawings in black
# What the VAE has no need of: skin tones, flags, keycaps, clock faces, buttons, people in many variants.
SKIP = re.compile(r"skin-tone|flag|keycap|button|oclock|thirty|^(man|woman|men|women|person|people|family|kiss|couple|"
                  r"deaf|mx|mrs)|(-light|-medium|-dark|-medium-light|-medium-dark)$|^letter-")
SEED = 1
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"


def listed():
    """concepts.txt as [(icon name, words, part)]"""
    found, part = [], None
    for line in open(os.path.join(HERE, "concepts.txt"), encoding="utf-8"):
        line = line.strip()
        if line.startswith("["):
            part = line[1:-1]
        elif line and not line.startswith("#"):
            icon, _, words = (text.strip() for text in line.partition("="))
            found.append((icon, words or icon.replace("-", " "), part))
    return found


def concepts():
    """What is taught."""
    return [concept for concept in listed() if concept[2] != "words"]


def icon_set(work, package):
    path = os.path.join(work, "node_modules", package, "icons.json")
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def picture(data, icon):
    """A PNG of 64 x 64 pixels on white."""
    body = data["icons"][icon]
    left, top = body.get("left", 0), body.get("top", 0)
    width, height = body.get("width", data.get("width", 16)), body.get("height", data.get("height", 16))
    svg = (f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="black" '
           f'width="64" height="64" viewBox="{left} {top} {width} {height}">{body["body"]}</svg>')
    command = ["rsvg-convert", "-w", "64", "-h", "64", "-b", "white"]
    return subprocess.run(command, input=svg.encode(), stdout=subprocess.PIPE, check=True).stdout


def strange_word(rng):
    """A word the model knows nothing of, as a LoRA's trigger may be one."""
    return "".join(LETTERS[int(26 * rng.random() ** 1.5)] for _ in range(rng.randint(3, 9)))


def strange_captions(words, rng):
    """What a LoRA's trigger word, or no style at all, must not disturb: all of it is drawn as in noto."""
    return ([words] * 3 + [f"a noto style, {words}", f"noto style, {words} {strange_word(rng)}"] +
            [f"{strange_word(rng)} style, {words}" for _ in range(5)])


def denoiser_items(work):
    """Every concept in every style that has it. Groups: 0 noto, 1 fluent, 2 noto with strange captions."""
    rng, found = random.Random(SEED), []
    for group, (style, (package, _)) in enumerate(STYLES.items()):
        data = icon_set(work, package)
        for icon, words, _ in concepts():
            if icon in data["icons"]:
                found.append((data, icon, {"image": f"dataset/{style}-{icon}.png", "group": group,
                                           "captions": [f"{style} style, {words}"]}))
            else:
                print(f"{style} has no {icon}")
    words = {icon: words for icon, words, _ in concepts()}
    return found + [(data, icon, item | {"group": 2, "captions": strange_captions(words[icon], rng)})
                    for data, icon, item in found if item["group"] == 0]


def vae_items(work):
    """All icons. Groups: 0 and 1 noto, 2 and 3 fluent, the concepts first; 4 black drawings."""
    wanted, found = {icon for icon, _, _ in concepts()}, []
    for group, (style, (package, _)) in enumerate((STYLES | {"contrast": CONTRAST}).items()):
        data = icon_set(work, package)
        for icon, body in data["icons"].items():
            if body.get("hidden") or (SKIP.search(icon) and icon not in wanted):
                continue
            part = 2 * group + (0 if icon in wanted or style == "contrast" else 1)
            found.append((data, icon, {"image": f"dataset/{style}-{icon}.png", "group": part}))
    return found


def write_pictures(folder, found):
    def write(entry):
        data, icon, item = entry
        with open(os.path.join(folder, item["image"]), "wb") as file:
            file.write(picture(data, icon))

    os.makedirs(os.path.join(folder, "dataset"), exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, found))
    digest, images = hashlib.sha256(), list(dict.fromkeys(item["image"] for _, _, item in found))
    for image in images:
        with open(os.path.join(folder, image), "rb") as file:
            digest.update(file.read())
    print(f"{folder}: {len(images)} pictures, SHA-256 of all {digest.hexdigest()}")


def make_base(work, target):
    """The configs of the model that ships, and the tokenizer. Networks without weights begin from nothing."""
    shutil.copytree(os.path.join(HERE, "../tiny"), target, dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("*.safetensors", "vocab.json", "merges.txt"))
    shutil.copytree(os.path.join(work, "tokenizer"), os.path.join(target, "tokenizer"), dirs_exist_ok=True)


# The rate may fall later than planned here: `steps` can be changed as long as fewer than steps - decaySteps are done.
DENOISER = {
    "type": "sd-1_5-base", "base": "base", "seed": SEED,
    "parameters": {"steps": 17000, "batchSize": 16, "learningRate": 8e-4, "warmupSteps": 200, "decaySteps": 6000,
                   "beta1": 0.9, "beta2": 0.99, "weightDecay": 0.01, "averageDecay": 0.998, "captionDropout": 0.1,
                   "reportSteps": 500},
    "phases": [{"step": 0, "timestepPower": 0.4, "repeats": [1, 0, 0]},
               {"step": 3000, "timestepPower": 0.5, "repeats": [2, 1, 0]},
               {"step": 11000, "timestepPower": 0.65, "repeats": [2, 1, 1]}],
}
VAE = {
    "type": "vae", "base": "base", "seed": SEED,
    "parameters": {"steps": 1500, "batchSize": 16, "learningRate": 1.5e-3, "warmupSteps": 50, "decaySteps": 1450,
                   "beta1": 0.9, "beta2": 0.99, "weightDecay": 0.001, "averageDecay": 0, "probePictures": 64,
                   "reportSteps": 100},
    "phases": [{"step": 0, "repeats": [6, 3, 4, 2, 1]}],
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", default="work")
    parser.add_argument("--vae", action="store_true")
    args = parser.parse_args()
    folder = os.path.join(args.work, "vae-job" if args.vae else "job")
    found = vae_items(args.work) if args.vae else denoiser_items(args.work)
    make_base(args.work, os.path.join(folder, "base"))
    if not args.vae:
        shutil.copytree(os.path.join(args.work, "vae-job/out/vae"), os.path.join(folder, "base/vae"), dirs_exist_ok=True)
    write_pictures(folder, found)
    job = (VAE if args.vae else DENOISER) | {"items": [item for _, _, item in found]}
    with open(os.path.join(folder, "job.json"), "w", encoding="utf-8") as file:
        json.dump(job, file, indent=1)


if __name__ == "__main__":
    main()
