"""Train the autoencoder: 64 px picture <-> 4 x 16 x 16 latent.

    python vae.py --work WORK [--steps N]      (start again to resume)

No KL term: noise of fixed size on the latent, and a loss that keeps the latent's mean at 0
and its covariance at the identity, so all four channels are used. Writes WORK/vae.pt.
"""
import argparse, math, os, time
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from common import Flat, join, launch, save, say
from data import concepts

SIGMA = 0.1  # of the noise on the latent


def build():
    return AutoencoderKL(in_channels=3, out_channels=3, block_out_channels=(32, 64, 64), layers_per_block=1,
                         down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
                         latent_channels=4, norm_num_groups=8, sample_size=64, scaling_factor=1.0)


def encode_mean(vae, x):
    return vae.quant_conv(vae.encoder(x))[:, :4]


def decode(vae, z):
    return vae.decoder(vae.post_quant_conv(z))


def pictures(work):
    """All pictures (uint8, channels first) and how often each is drawn."""
    d = np.load(os.path.join(work, "data.npz"))
    wanted = {icon for icon, _, _ in concepts()}
    weight = np.array([{"noto": 3, "fluent": 2, "contrast": 0.7}[s] * (2 if n in wanted else 1)
                       for s, n in zip(d["sets"], d["names"])])
    return torch.from_numpy(d["images"]).permute(0, 3, 1, 2).contiguous(), weight / weight.sum()


def batch(images, weight, rng, n):
    out = torch.empty(n, 3, 64, 64)
    for i, k in enumerate(rng.choice(len(images), n, p=weight)):
        x = images[k].float() / 127.5 - 1
        if rng.random() < .5:
            x = x.flip(2)
        dx, dy = rng.integers(-3, 4, 2)
        x = torch.roll(x, (int(dy), int(dx)), (1, 2))
        if rng.random() < .2:
            x = x[torch.from_numpy(rng.permutation(3))]
        out[i] = x
    return out.contiguous(memory_format=torch.channels_last)


def moments(z):
    z = z.permute(1, 0, 2, 3).flatten(1)
    mean = z.mean(1)
    cov = (z - mean[:, None]) @ (z - mean[:, None]).T / z.shape[1]
    return mean, cov


def psnr(vae, images):
    with torch.no_grad():
        x = images.float() / 127.5 - 1
        y = torch.cat([decode(vae, encode_mean(vae, b)).clamp(-1, 1) for b in x.split(16)])
        return float((-10 * torch.log10(((x - y) / 2).pow(2).flatten(1).mean(1))).mean())


def finished(work):
    """The trained autoencoder with its latent whitened exactly (mean 0, covariance 1 over the
    concepts' pictures): folded into quant_conv and post_quant_conv; the log-variance is constant."""
    vae = build().eval()
    vae.load_state_dict(torch.load(os.path.join(work, "vae.pt"), weights_only=True)["vae"])
    d = np.load(os.path.join(work, "data.npz"))
    wanted = {icon for icon, _, _ in concepts()}
    take = [i for i, (s, n) in enumerate(zip(d["sets"], d["names"])) if s != "contrast" and n in wanted]
    x = torch.from_numpy(d["images"][take]).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        mean, cov = moments(torch.cat([encode_mean(vae, b) for b in x.split(32)]).double())
        value, vector = torch.linalg.eigh(cov)
        white = vector @ torch.diag(value.rsqrt()) @ vector.T
        back = torch.linalg.inv(white)
        q, p = vae.quant_conv, vae.post_quant_conv
        w, b = q.weight[:4, :, 0, 0].double(), q.bias[:4].double()
        q.weight.zero_(), q.bias.fill_(2 * math.log(SIGMA))
        q.weight[:4, :, 0, 0], q.bias[:4] = (white @ w).float(), (white @ (b - mean)).float()
        w, b = p.weight[:, :, 0, 0].double(), p.bias.double()
        p.weight[:, :, 0, 0], p.bias[:] = (w @ back).float(), (b + w @ mean).float()
    return vae


def worker(rank, args):
    join(rank, args)
    torch.manual_seed(args.seed)
    vae = build().to(memory_format=torch.channels_last)
    flat = Flat([vae])
    opt = torch.optim.AdamW([flat.vector], lr=args.lr, betas=(.9, .99), weight_decay=1e-3, fused=True)
    images, weight = pictures(args.work)
    test = images[np.sort(np.random.default_rng(1).choice(len(images), 64, p=weight, replace=False))]
    path, first = os.path.join(args.work, "vae.pt"), 0
    if os.path.exists(path):
        ck = torch.load(path, weights_only=True)
        vae.load_state_dict(ck["vae"]), opt.load_state_dict(ck["opt"])
        first = ck["step"]
    if rank == 0:
        say("vae", f"{flat.data.numel():,} parameters, {len(images)} pictures, from step {first}")

    def compute(x, noise):
        z = encode_mean(vae, x)
        y = decode(vae, z + noise)
        mean, cov = moments(z)
        dx, dy = (lambda a: a[..., 1:] - a[..., :-1]), (lambda a: a[..., 1:, :] - a[..., :-1, :])
        loss = (F.l1_loss(y, x) + 2 * F.mse_loss(y, x) + .5 * (F.l1_loss(dx(y), dx(x)) + F.l1_loss(dy(y), dy(x)))
                + .05 * ((cov - torch.eye(4)).pow(2).sum() + mean.pow(2).sum()))
        return loss, cov.detach()

    compute = torch.compile(compute)  # a quarter faster; the first step takes two minutes
    started = saved = time.time()
    for step in range(first, args.steps):
        rng = np.random.default_rng([args.seed, step, rank])
        torch.manual_seed(args.seed * 1000003 + step * 2 + rank)
        lr = args.lr * min(1, (step + 1) / 50) * (.5 + .5 * math.cos(math.pi * step / args.steps))
        opt.param_groups[0]["lr"] = lr
        x = batch(images, weight, rng, args.batch // args.procs)
        flat.grad.zero_()
        loss, cov = compute(x, SIGMA * torch.randn(len(x), 4, 16, 16))
        loss.backward()
        flat.reduce(args.procs, 1.0)
        opt.step()
        if rank == 0 and (step % 20 == 19):
            extra = f"psnr {psnr(vae, test):.2f} eig {[round(v, 2) for v in torch.linalg.eigvalsh(cov).tolist()]}" if step % 100 == 99 else ""
            say(f"step {step + 1} loss {float(loss.detach()):.4f} lr {lr:.1e} {(time.time() - started) / (step + 1 - first):.3f} s/step {extra}")
        if rank == 0 and (time.time() - saved > 120 or step + 1 == args.steps):
            saved = time.time()
            save(path, {"vae": vae.state_dict(), "opt": opt.state_dict(), "step": step + 1})
    if rank == 0:
        say("done, psnr", round(psnr(vae, test), 2))


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--work", default="work")
    ap.add_argument("--steps", type=int, default=1300)
    ap.add_argument("--batch", type=int, default=16)
    ap.add_argument("--lr", type=float, default=1.5e-3)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--procs", type=int, default=2)
    ap.add_argument("--port", type=int, default=29511)
    a = ap.parse_args()
    launch(worker, a)
