"""Render the icons of three npm packages at 64 px on white, and write the captions.

    npm install --prefix WORK        (with this folder's package.json copied there)
    python data.py --work WORK

Writes WORK/data.npz: images uint8 [n,64,64,3], sets, names.
Needs the program rsvg-convert (librsvg).
"""
import argparse, json, os, re, subprocess
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from PIL import Image
import io

SETS = {  # style word: (package, licence)
    "noto": ("@iconify-json/noto", "Apache-2.0"),
    "fluent": ("@iconify-json/fluent-emoji-flat", "MIT"),
    "contrast": ("@iconify-json/fluent-emoji-high-contrast", "MIT"),
}
# Left out: skin-tone variants, flags, keycaps, clock faces, buttons, people in many variants.
SKIP = re.compile(r"skin-tone|flag|keycap|button|oclock|thirty|^(man|woman|men|women|person|people|family|kiss|"
                  r"couple|deaf|mx|mrs)|(-light|-medium|-dark|-medium-light|-medium-dark)$|^letter-")
HERE = os.path.dirname(os.path.abspath(__file__))


def concepts():
    """The list in concepts.txt: [(icon name, caption, part)], part is 'core' or 'more'."""
    out, part = [], None
    for line in open(os.path.join(HERE, "concepts.txt"), encoding="utf-8"):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            part = line[1:-1]
            continue
        icon, _, caption = (s.strip() for s in line.partition("="))
        out.append((icon, caption or icon.replace("-", " "), part))
    return out


def caption(style, words):
    return f"{style} style, {words}" if style else words


def load_set(work, style):
    folder = os.path.join(work, "node_modules", SETS[style][0])
    data = json.load(open(os.path.join(folder, "icons.json"), encoding="utf-8"))
    return data["icons"], data.get("width", 16), data.get("height", 16)


def render(job):
    icon, width, height = job
    box = f'{icon.get("left", 0)} {icon.get("top", 0)} {icon.get("width", width)} {icon.get("height", height)}'
    svg = (f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
           f'viewBox="{box}" width="64" height="64" color="black">{icon["body"]}</svg>')
    png = subprocess.run(["rsvg-convert", "-w", "64", "-h", "64", "-b", "white"], input=svg.encode(),
                         stdout=subprocess.PIPE, check=True).stdout
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--work", default="work")
    work = ap.parse_args().work
    wanted = {icon for icon, _, _ in concepts()}
    sets, names, jobs = [], [], []
    for style in SETS:
        icons, width, height = load_set(work, style)
        for name, icon in icons.items():
            if icon.get("hidden") or (SKIP.search(name) and name not in wanted):
                continue
            sets.append(style), names.append(name), jobs.append((icon, width, height))
    with ThreadPoolExecutor(2) as pool:
        images = np.stack(list(pool.map(render, jobs)))
    np.savez(os.path.join(work, "data.npz"), images=images, sets=np.array(sets), names=np.array(names))
    for style in SETS:
        have = {n for s, n in zip(sets, names) if s == style}
        lost = sorted(wanted - have)
        print(f"{style}: {len(have)} icons, {len(wanted & have)} of the {len(wanted)} concepts; not there: {' '.join(lost)}")


if __name__ == "__main__":
    main()
