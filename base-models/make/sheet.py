"""Draw contact sheets from the exported folder with diffusers' own pipeline, the true picture beside each.

    python sheet.py --work WORK --model ../tiny --out ../sheet.png [--style noto] [--open N]
"""
import argparse, os
import numpy as np
import torch
from PIL import Image
from diffusers import StableDiffusionPipeline
from data import caption, concepts

FIXED = "apple cat dog castle car tree crown heart sun moon umbrella fish pizza rocket key mushroom".split()


def draw(pipe, prompts, steps, guidance, seed=7):
    noise = torch.randn(len(prompts), 4, 16, 16, generator=torch.Generator().manual_seed(seed))
    return pipe(prompts, height=64, width=64, num_inference_steps=steps, guidance_scale=guidance, latents=noise,
                output_type="np").images


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--work", default="work")
    ap.add_argument("--model", default="../tiny")
    ap.add_argument("--out", default="../sheet.png")
    ap.add_argument("--styles", default="noto")
    ap.add_argument("--open", type=int, default=0, help="this many other concepts, picked at random, instead of the fixed list")
    ap.add_argument("--steps", type=int, default=25)
    ap.add_argument("--guidance", type=float, nargs="+", default=[2.0])
    args = ap.parse_args()
    pipe = StableDiffusionPipeline.from_pretrained(args.model, safety_checker=None, torch_dtype=torch.float32)
    torch.set_num_threads(1)
    pipe.set_progress_bar_config(disable=True)
    d = np.load(os.path.join(args.work, "data.npz"))
    at = {(s, n): i for i, (s, n) in enumerate(zip(d["sets"], d["names"]))}
    icon = {c: i for i, c, _ in concepts()}
    words = FIXED
    if args.open:
        rest = [c for _, c, p in concepts() if p == "core" and c not in FIXED]
        words = [rest[i] for i in np.random.default_rng(3).choice(len(rest), args.open, replace=False)]
        print(words)
    rows = []
    for style in args.styles.split(","):
        truth = [d["images"][at[style, icon[w]]] / 255 for w in words]
        drawn = [draw(pipe, [caption(style, w) for w in words], args.steps, g) for g in args.guidance]
        for k in range(0, len(words), 8):
            rows += [np.concatenate(list(r[k:k + 8]), 1) for r in drawn + [truth]]
    Image.fromarray((np.concatenate(rows) * 255).round().astype(np.uint8)).save(args.out, optimize=True)


if __name__ == "__main__":
    main()
