"""Check that the exported base takes a LoRA: rank 8 on attention, feed-forward, projections and
convolutions of the UNet, learnt from ten one-colour icons; draws a sheet.

    python lora.py --work WORK --model ../tiny --out WORK/lora.png

Rows: the ten pictures; LoRA x 0.7; LoRA x 1; the base with "noto style". The last six columns were
not among the ten.
"""
import argparse, math, os, re, time
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image
from diffusers import StableDiffusionPipeline
from data import caption, concepts
from sheet import draw

TEN = "apple dog castle crown umbrella fish rocket key mushroom car".split()
OTHERS = "cat bell tree guitar star snail".split()
TARGETS = re.compile(r"(to_q|to_k|to_v|to_out\.0|ff\.net\.0\.proj|ff\.net\.2|proj_in|proj_out|conv1|conv2|conv_shortcut|samplers\.0\.conv)$")


class Lora(nn.Module):
    scale = 1.0

    def __init__(self, base, rank):
        super().__init__()
        self.base, shape = base, base.weight.shape
        self.down = nn.Parameter(torch.randn(rank, *shape[1:]) / math.sqrt(base.weight[0].numel()))
        self.up = nn.Parameter(torch.zeros(shape[0], rank, *[1] * (len(shape) - 2)))

    def forward(self, x, *_, **__):
        if isinstance(self.base, nn.Linear):
            y = F.linear(F.linear(x, self.down), self.up)
        else:
            y = F.conv2d(F.conv2d(x, self.down, stride=self.base.stride, padding=self.base.padding), self.up)
        return self.base(x) + Lora.scale * y


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--work", default="work")
    ap.add_argument("--model", default="../tiny")
    ap.add_argument("--out", default="lora.png")
    ap.add_argument("--lr", type=float, default=1e-3)
    ap.add_argument("--steps", type=int, default=100)
    ap.add_argument("--batch", type=int, default=8)
    ap.add_argument("--rank", type=int, default=8)
    ap.add_argument("--trigger", default="inkwell")
    args = ap.parse_args()
    torch.manual_seed(0)
    pipe = StableDiffusionPipeline.from_pretrained(args.model, safety_checker=None, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe.vae.requires_grad_(False), pipe.text_encoder.requires_grad_(False), pipe.unet.requires_grad_(False)
    for name, m in list(pipe.unet.named_modules()):
        if TARGETS.search(name) and isinstance(m, (nn.Linear, nn.Conv2d)):
            parent, _, leaf = name.rpartition(".")
            setattr(pipe.unet.get_submodule(parent), leaf, Lora(m, args.rank))
    params = [p for p in pipe.unet.parameters() if p.requires_grad]
    print(f"{sum(p.numel() for p in params):,} LoRA parameters")

    d = np.load(os.path.join(args.work, "data.npz"))
    at = {(s, n): i for i, (s, n) in enumerate(zip(d["sets"], d["names"]))}
    icon = {c: i for i, c, _ in concepts()}
    ten = d["images"][[at["contrast", icon[c]] for c in TEN]]
    with torch.no_grad():
        z = pipe.vae.encode(torch.from_numpy(ten).permute(0, 3, 1, 2).float() / 127.5 - 1).latent_dist.mean
        ids = pipe.tokenizer([caption(args.trigger, c) for c in TEN], padding="max_length", return_tensors="pt").input_ids
        words = pipe.text_encoder(ids).last_hidden_state
    acp = pipe.scheduler.alphas_cumprod
    opt = torch.optim.AdamW(params, lr=args.lr, weight_decay=1e-2)
    start, losses = time.time(), []
    for step in range(args.steps):
        for g in opt.param_groups:
            g["lr"] = args.lr * min(1, (step + 1) / 10) * (.5 + .5 * math.cos(math.pi * step / args.steps))
        k = torch.randint(len(TEN), (args.batch,))
        t = torch.randint(1000, (args.batch,))
        a, s = acp[t].sqrt().view(-1, 1, 1, 1), (1 - acp[t]).sqrt().view(-1, 1, 1, 1)
        noise = torch.randn(args.batch, 4, 16, 16)
        loss = F.mse_loss(pipe.unet(a * z[k] + s * noise, t, words[k]).sample, a * noise - s * z[k])
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        losses.append(float(loss.detach()))
        if step % 20 == 19:
            print(f"step {step + 1} loss {np.mean(losses[-20:]):.3f} {(time.time() - start) / (step + 1):.3f} s/step", flush=True)
    all_words = TEN + OTHERS
    rows = [np.concatenate([ten / 255, np.ones((len(OTHERS), 64, 64, 3))])]
    for scale in (.7, 1, 0):
        Lora.scale = scale
        rows.append(draw(pipe, [caption(args.trigger if scale else "noto", c) for c in all_words], 12, 2.0))
    Image.fromarray((np.concatenate([np.concatenate(list(r), 1) for r in rows]) * 255).round().astype(np.uint8)).save(args.out)


if __name__ == "__main__":
    main()
