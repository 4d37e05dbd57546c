"""Teach the trained text encoder to pass over words it does not know ("inkwell style, apple"), such as a LoRA's
trigger word. The UNet is not touched: the new encoder must give, for a caption with strange words
put in, what the old one gives for the caption without them. Takes a few minutes. Writes WORK/text.pt.

    python words.py --work WORK
"""
import argparse, copy, math, os
import numpy as np
import torch
import unet as unet_module
from common import Flat, save, say
from data import caption, concepts
from tokenizer import LENGTH, Tokenizer, words

LETTERS = "etaoinshrdlucmfwypvbgkjqxz"
SMALL = "a an the of in by with my and photo picture drawing icon image".split()


def strange(rng):
    if rng.random() < .25:
        return SMALL[rng.integers(len(SMALL))]
    return "".join(LETTERS[int(26 * rng.random() ** 1.5)] for _ in range(rng.integers(3, 10)))


def example(rng, tok, style, cap):
    """(ids of the caption with strange words, ids it should be like, where each position finds its target, weights)"""
    enc = lambda text: [i for w in words(text) for i in tok.word(w)]
    body, n = enc(cap), enc(strange(rng))
    tail, lead, kind = enc("style,"), enc(style) if style else [], rng.integers(6)
    plain = (lead + tail if style else []) + body
    at = len(plain) - len(body)  # where the concept starts in the target, after the start token
    if kind <= 2:    # "inkwell style, apple", like "noto style, apple"
        lead = enc("noto")
        plain, at = lead + tail + body, len(lead + tail)
        ids = n + tail + body
        src = [0] * len(n) + list(range(len(lead), len(plain)))
        weak = set(range(len(n)))
    elif kind == 3:  # "a noto style, apple", "a apple"
        ids, src, weak = n + plain, [0] * len(n) + list(range(len(plain))), set(range(len(n)))
    elif kind == 4:  # "noto style, apple inkwell"
        ids, src, weak = plain + n, list(range(len(plain))) + [len(plain)] * len(n), set()
    else:            # unchanged
        ids, src, weak = plain, list(range(len(plain))), set()
    ids, src = ids[:LENGTH - 2], src[:LENGTH - 2]
    pos = [0] + [s + 1 for s in src]
    pos += [min(len(plain) + 1 + k, LENGTH - 1) for k in range(LENGTH - len(pos))]
    full = lambda v: [tok.bos] + v + [tok.eos] * (LENGTH - 1 - len(v))
    return full(ids), full(plain[:LENGTH - 2]), pos, [.2 if k - 1 in weak else 1. for k in range(LENGTH)]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--work", default="work")
    ap.add_argument("--steps", type=int, default=1200)
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    torch.set_num_threads(1)
    tok = Tokenizer(os.path.join(args.work, "tokenizer"))
    unet, teacher = unet_module.build(tok)
    unet.to(memory_format=torch.channels_last)
    Flat([unet, teacher]).data.copy_(torch.load(os.path.join(args.work, "unet.pt"), weights_only=True)["ema"])
    teacher.requires_grad_(False)
    text = copy.deepcopy(teacher).requires_grad_(True)
    opt = torch.optim.AdamW(text.parameters(), lr=1e-3, weight_decay=0)
    caps = [c for _, c, p in concepts() if p == "core"]
    losses = []
    for step in range(args.steps):
        rng = np.random.default_rng([args.seed, step])
        opt.param_groups[0]["lr"] = 1e-3 * min(1, (step + 1) / 50) * (.5 + .5 * math.cos(math.pi * step / args.steps))
        style = lambda: ("noto", "fluent", "")[rng.integers(3)]
        rows = [example(rng, tok, style(), caps[rng.integers(len(caps))]) for _ in range(32)]
        rows.append(([tok.bos] + [tok.eos] * (LENGTH - 1),) * 2 + (list(range(LENGTH)), [4.] * LENGTH))
        ids, plain, pos, weight = (torch.tensor(v) for v in zip(*rows))
        with torch.no_grad():
            want = torch.gather(teacher(plain).last_hidden_state, 1, pos[:, :, None].expand(-1, -1, 128))
        loss = ((text(ids).last_hidden_state - want).pow(2).mean(2) * weight).mean()
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(text.parameters(), 1.0)
        opt.step()
        losses.append(float(loss.detach()))
        if step % 250 == 249:
            say(f"step {step + 1} loss {np.mean(losses[-250:]):.4f} (variance of the target {float(want.var()):.3f})")
    save(os.path.join(args.work, "text.pt"), text.state_dict())


if __name__ == "__main__":
    main()
