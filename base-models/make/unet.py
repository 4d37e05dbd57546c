"""Train the UNet and the text encoder together on cached latents.

    python unet.py --work WORK [--steps N]      (start again to resume)

Plain v-prediction MSE, more of the noisy time steps, one cosine decay to 0.
Writes WORK/unet.pt (weights, averaged weights, optimizer) and WORK/curve.csv.
"""
import argparse, math, os, time
import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel
from common import Flat, join, launch, save, say
from data import caption, concepts
from tokenizer import LENGTH, Tokenizer
import vae as vae_module

# From this step on: how often each group of pictures is drawn (per picture).
SCHEDULE = [(0, {("noto", "core"): 1}),
            (2200, {("noto", "core"): 1, ("fluent", "core"): .5})]


def build(tok):
    unet = UNet2DConditionModel(sample_size=16, in_channels=4, out_channels=4, block_out_channels=(64, 96, 128),
                                layers_per_block=1, down_block_types=("CrossAttnDownBlock2D",) * 3,
                                up_block_types=("CrossAttnUpBlock2D",) * 3, cross_attention_dim=128,
                                norm_num_groups=16, attention_head_dim=(2, 3, 4))
    text = CLIPTextModel(CLIPTextConfig(vocab_size=len(tok.vocab), hidden_size=128, intermediate_size=512,
                                        num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=LENGTH,
                                        hidden_act="quick_gelu", projection_dim=128,
                                        bos_token_id=tok.bos, eos_token_id=tok.eos, pad_token_id=tok.eos))
    return unet, text


def scheduler():
    return DDIMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction",
                         clip_sample=False, set_alpha_to_one=True, steps_offset=1, timestep_spacing="trailing")


def latents(work):
    """{(style, part): (captions, latents)}"""
    path = os.path.join(work, "latents.pt")
    if not os.path.exists(path):
        vae = vae_module.finished(work)
        d = np.load(os.path.join(work, "data.npz"))
        at, out = {(s, n): i for i, (s, n) in enumerate(zip(d["sets"], d["names"]))}, {}
        for style in ("noto", "fluent"):
            for part in ("core", "more"):
                rows = [(c, at[style, i]) for i, c, p in concepts() if p == part and (style, i) in at]
                x = torch.from_numpy(d["images"][[i for _, i in rows]]).permute(0, 3, 1, 2).float() / 127.5 - 1
                with torch.no_grad():
                    z = torch.cat([vae_module.encode_mean(vae, b) for b in x.split(32)])
                out[style, part] = ([c for c, _ in rows], z)
        save(path, out)
    return torch.load(path, weights_only=True)


def mixed(alphas, z, t, noise):
    a, s = alphas[t].sqrt().view(-1, 1, 1, 1), (1 - alphas[t]).sqrt().view(-1, 1, 1, 1)
    return a * z + s * noise, a * noise - s * z


def probe(forward, tok, data, alphas, n=96):
    """v-MSE at t = 990 with the right, no and a wrong caption: tells early how well words are obeyed."""
    caps, z = data["noto", "core"]
    pick = np.random.default_rng(5).permutation(len(caps))[:n]
    noise = torch.randn(n, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    t = torch.full((n,), 990)
    x, v = mixed(alphas, z[pick], t, noise)
    right = [caption("noto", caps[i]) for i in pick]
    out = []
    with torch.no_grad():
        for words in (right, [""] * n, right[1:] + right[:1]):
            ids = torch.tensor([tok(w) for w in words])
            out.append(float(torch.stack([F.mse_loss(forward(x[i:i + 8], t[i:i + 8], ids[i:i + 8]), v[i:i + 8])
                                          for i in range(0, n, 8)]).mean()))
    return out


def worker(rank, args):
    join(rank, args)
    torch.manual_seed(args.seed)
    tok = Tokenizer(os.path.join(args.work, "tokenizer"))
    unet, text = build(tok)
    unet.to(memory_format=torch.channels_last)
    flat = Flat([unet, text])
    opt = torch.optim.AdamW([flat.vector], lr=args.lr, betas=(.9, .99), weight_decay=1e-2, fused=True)
    data, alphas = latents(args.work), scheduler().alphas_cumprod
    ids = {g: [torch.tensor([tok(caption(style, c)) for c in caps]) for style in (g[0], "")] for g, (caps, _) in data.items()}
    none = torch.tensor(tok(""))
    ema, first = flat.data.clone(), 0
    path, curve = os.path.join(args.work, "unet.pt"), os.path.join(args.work, "curve.csv")
    if os.path.exists(path):
        ck = torch.load(path, weights_only=True)
        flat.data.copy_(ck["raw"]), ema.copy_(ck["ema"]), opt.load_state_dict(ck["opt"])
        first = ck["step"]
    if rank == 0:
        say(f"unet {sum(p.numel() for p in unet.parameters()):,} text {sum(p.numel() for p in text.parameters()):,} "
            f"parameters; { {g: len(c) for g, (c, _) in data.items()} }; from step {first}")

    def forward(x, t, words):
        return unet(x, t, text(words).last_hidden_state).sample

    def compute(x, t, words, v):
        return F.mse_loss(forward(x, t, words), v)

    compute = torch.compile(compute)
    started, saved, losses = time.time(), time.time(), []
    half = args.batch // args.procs
    for step in range(first, args.steps):
        rng = np.random.default_rng([args.seed, step])  # the same in each process
        gen = torch.Generator().manual_seed(args.seed * 1000003 + step)
        lr = args.lr * min(1, (step + 1) / 200) * (.5 + .5 * math.cos(math.pi * step / args.steps))
        opt.param_groups[0]["lr"] = lr
        weights = [w for at, w in SCHEDULE if step >= at][-1]
        mass = np.array([w * len(data[g][0]) for g, w in weights.items()], dtype=float)
        z, words = [], []
        for g in rng.choice(len(mass), args.batch, p=mass / mass.sum()):
            g = list(weights)[g]
            i, u = rng.integers(len(data[g][0])), rng.random()
            z.append(data[g][1][i])
            words.append(none if u < .1 else ids[g][1][i] if u < .2 and g[0] == "noto" else ids[g][0][i])
        u = (rng.permutation(args.batch) + rng.random(args.batch)) / args.batch
        t = torch.from_numpy((1000 * u ** .8).astype(np.int64)).clamp(0, 999)
        noise = torch.randn(args.batch, 4, 16, 16, generator=gen)
        x, v = mixed(alphas, torch.stack(z), t, noise)
        mine = slice(rank * half, (rank + 1) * half)
        flat.grad.zero_()
        loss = compute(x[mine].contiguous(memory_format=torch.channels_last), t[mine], torch.stack(words)[mine], v[mine])
        loss.backward()
        flat.reduce(args.procs, 1.0)
        opt.step()
        ema.lerp_(flat.data, 1 - min(.998, (step + 1) / (step + 10)))
        losses.append(float(loss.detach()))
        done = step + 1
        if rank == 0 and done % 100 == 0:
            say(f"step {done} samples {done * args.batch} v-mse {np.mean(losses[-100:]):.4f} lr {lr:.1e} "
                f"{(time.time() - started) / (done - first):.3f} s/step")
        if done % 1000 == 0 or done == args.steps:
            if rank == 0:
                keep = flat.data.clone()
                flat.data.copy_(ema)
                p = probe(forward, tok, data, alphas)
                flat.data.copy_(keep)
                say("t990 right/null/wrong", *(f"{v:.3f}" for v in p))
                new = not os.path.exists(curve)
                with open(curve, "a") as f:
                    if new:
                        f.write("step,samples,v_mse,t990_right,t990_null,t990_wrong,lr\n")
                    f.write(f"{done},{done * args.batch},{np.mean(losses[-1000:]):.4f},{p[0]:.4f},{p[1]:.4f},{p[2]:.4f},{lr:.2e}\n")
        if rank == 0 and (time.time() - saved > 120 or done == args.steps):
            saved = time.time()
            save(path, {"raw": flat.data, "ema": ema, "opt": opt.state_dict(), "step": done})


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--work", default="work")
    ap.add_argument("--steps", type=int, default=7800)
    ap.add_argument("--batch", type=int, default=16)
    ap.add_argument("--lr", type=float, default=8e-4)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--procs", type=int, default=2)
    ap.add_argument("--port", type=int, default=29512)
    launch(worker, ap.parse_args())
