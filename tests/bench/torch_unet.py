#!/usr/bin/env python3
"""PyTorch's side of bench_torch.py: the same networks over the same files, as functions. One task a process, because its
peak memory is measured; prints seconds of every step as JSON. Rows of LoRAs run beside the layers, as PEFT does it."""
import argparse
import json
import os
import pathlib
import resource
import sys
import time

import numpy
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))
import reference_pipeline  # noqa: E402  the text encoder, the first noise and the schedule

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2", "conv_shortcut")


class Network:
    def __init__(self, folder, name):
        file = "model" if name.startswith("text") else "diffusion_pytorch_model"
        self.config = json.loads((folder / name / "config.json").read_text())
        self.tensors = {k: self.laid_out(v.float()) for k, v in load_file(folder / name / f"{file}.safetensors").items()}
        self.loras = {}

    @staticmethod
    def laid_out(tensor):
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    def add_loras(self, rank, targets):
        for name, weight in self.tensors.items():
            module = name.removesuffix(".weight")
            if weight.ndim < 2 or not module.endswith(tuple("." + target for target in targets)):
                continue
            down = self.laid_out(torch.randn(rank, *weight.shape[1:]) / rank)
            self.loras[module] = down.requires_grad_(), torch.zeros(weight.shape[0], rank).requires_grad_()

    def linear(self, module, x):
        weight = self.tensors[f"{module}.weight"].flatten(1)
        y = F.linear(x, weight, self.tensors.get(f"{module}.bias"))
        if module in self.loras:
            down, up = self.loras[module]
            y = y + F.linear(F.linear(x, down.flatten(1)), up)
        return y

    def conv(self, module, x, stride=1):
        weight = self.tensors[f"{module}.weight"]
        padding = weight.shape[2] // 2
        y = F.conv2d(x, weight, self.tensors[f"{module}.bias"], stride, padding)
        if module in self.loras:
            down, up = self.loras[module]
            y = y + F.conv2d(F.conv2d(x, down, None, stride, padding), up[:, :, None, None])
        return y

    def group_norm(self, module, x, groups, epsilon):
        return F.group_norm(x, groups, self.tensors[f"{module}.weight"], self.tensors[f"{module}.bias"], epsilon)

    def layer_norm(self, module, x):
        return F.layer_norm(x, x.shape[-1:], self.tensors[f"{module}.weight"], self.tensors[f"{module}.bias"])

    def attention(self, x, context, names, heads, causal=False):
        q, k, v = (self.linear(name, y) for name, y in zip(names, (x, context, context)))
        q, k, v = (y.unflatten(-1, (heads, -1)).transpose(1, 2) for y in (q, k, v))
        if hasattr(F, "scaled_dot_product_attention"):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        else:
            scores = q @ k.transpose(-1, -2) / q.shape[-1]**0.5
            if causal:
                scores = scores + torch.full(scores.shape[-2:], -1e30).triu(1)
            y = scores.softmax(-1) @ v
        return self.linear(names[3], y.transpose(1, 2).flatten(2))

    def resnet(self, path, x, temb, groups, epsilon):
        h = self.conv(f"{path}.conv1", F.silu(self.group_norm(f"{path}.norm1", x, groups, epsilon)))
        if temb is not None:
            h = h + self.linear(f"{path}.time_emb_proj", temb)[:, :, None, None]
        h = self.conv(f"{path}.conv2", F.silu(self.group_norm(f"{path}.norm2", h, groups, epsilon)))
        return h + (self.conv(f"{path}.conv_shortcut", x) if f"{path}.conv_shortcut.weight" in self.tensors else x)


def rows(x):
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def picture(x, like):
    return x.unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)


def encode_text(net, ids):
    config, prefix = net.config, "text_model."
    x = F.embedding(ids, net.tensors[prefix + "embeddings.token_embedding.weight"])
    x = x + net.tensors[prefix + "embeddings.position_embedding.weight"][:ids.shape[1]]
    for i in range(config["num_hidden_layers"]):
        layer = f"{prefix}encoder.layers.{i}"
        names = [f"{layer}.self_attn.{name}_proj" for name in ("q", "k", "v", "out")]
        h = net.layer_norm(f"{layer}.layer_norm1", x)
        x = x + net.attention(h, h, names, config["num_attention_heads"], causal=True)
        h = net.linear(f"{layer}.mlp.fc1", net.layer_norm(f"{layer}.layer_norm2", x))
        x = x + net.linear(f"{layer}.mlp.fc2", h * torch.sigmoid(1.702 * h))
    return net.layer_norm(prefix + "final_layer_norm", x)


def transformer(net, path, x, context, heads, groups):
    h = net.linear(f"{path}.proj_in", rows(net.group_norm(f"{path}.norm", x, groups, 1e-6)))
    block = f"{path}.transformer_blocks.0"
    for index in (1, 2):
        names = [f"{block}.attn{index}.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")]
        y = net.layer_norm(f"{block}.norm{index}", h)
        h = h + net.attention(y, y if index == 1 else context, names, heads)
    value, gate = net.linear(f"{block}.ff.net.0.proj", net.layer_norm(f"{block}.norm3", h)).chunk(2, -1)
    h = h + net.linear(f"{block}.ff.net.2", value * F.gelu(gate))
    return x + picture(net.linear(f"{path}.proj_out", h), x)


def predict(net, x, timesteps, context):
    config = net.config
    channels, groups, epsilon = config["block_out_channels"], config["norm_num_groups"], config.get("norm_eps", 1e-5)
    heads, layers, last = config["attention_head_dim"], config["layers_per_block"], len(channels) - 1
    half = channels[0] // 2
    angles = timesteps[:, None] * torch.exp(-numpy.log(10000) * torch.arange(half) / half)
    temb = torch.cat([torch.cos(angles), torch.sin(angles)], 1)
    temb = F.silu(net.linear("time_embedding.linear_2", F.silu(net.linear("time_embedding.linear_1", temb))))

    def block(path, h, k, attention):
        h = net.resnet(path.format("resnets"), h, temb, groups, epsilon)
        count = heads[k] if isinstance(heads, list) else heads
        return transformer(net, path.format("attentions"), h, context, count, groups) if attention else h

    h = net.conv("conv_in", x)
    skips = [h]
    for k in range(len(channels)):
        for j in range(layers):
            h = block(f"down_blocks.{k}.{{}}.{j}", h, k, config["down_block_types"][k].startswith("Cross"))
            skips.append(h)
        if k < last:
            h = net.conv(f"down_blocks.{k}.downsamplers.0.conv", h, stride=2)
            skips.append(h)
    h = block("mid_block.{}.0", h, last, True)
    h = net.resnet("mid_block.resnets.1", h, temb, groups, epsilon)
    for k in range(len(channels)):
        for j in range(layers + 1):
            h = torch.cat([h, skips.pop()], 1)
            h = block(f"up_blocks.{k}.{{}}.{j}", h, last - k, config["up_block_types"][k].startswith("Cross"))
        if k < last:
            h = net.conv(f"up_blocks.{k}.upsamplers.0.conv", F.interpolate(h, scale_factor=2.0))
    return net.conv("conv_out", F.silu(net.group_norm("conv_norm_out", h, groups, epsilon)))


def repeated(steps, step):
    """Wall and CPU seconds of each step."""
    spent = []
    for number in range(steps):
        wall, cpu = time.perf_counter(), time.process_time()
        step(number)
        spent.append((time.perf_counter() - wall, time.process_time() - cpu))
    return spent


def draw_batch(net, batch):
    side, channels = net.config["sample_size"], net.config["in_channels"]
    x, target = (torch.randn(batch, channels, side, side).contiguous(memory_format=torch.channels_last) for _ in range(2))
    return x, target, torch.randint(0, 1000, (batch,)).float()


def adamw(weights):
    try:
        return torch.optim.AdamW(weights, lr=1e-4, fused=True)
    except (TypeError, RuntimeError):  # before 2.4
        return torch.optim.AdamW(weights, lr=1e-4)


def lora(base, options):
    """fp32, batch 8, rank 8; texts encoded and latents at hand, as a trainer keeps them."""
    net = Network(base, "unet")
    net.add_loras(options.rank, TARGETS if options.targets == "wide" else TARGETS[:4])
    x, target, timesteps = draw_batch(net, options.batch)
    context = torch.randn(options.batch, options.tokens, net.config["cross_attention_dim"])
    optimizer = adamw([factor for pair in net.loras.values() for factor in pair])

    def step(_):
        F.mse_loss(predict(net, x, timesteps, context), target).backward()
        optimizer.step()
        optimizer.zero_grad()

    return repeated(options.steps, step)


def full(base, options):
    """UNet and text encoder, clipped gradients and averaged weights, as `maquette pretrain` has them."""
    net, text = Network(base, "unet"), Network(base, "text_encoder")
    weights = [tensor.requires_grad_() for part in (net, text) for name, tensor in part.tensors.items() if tensor.is_floating_point()]
    average = [weight.detach().clone() for weight in weights]
    x, target, timesteps = draw_batch(net, options.batch)
    ids = torch.randint(0, text.config["vocab_size"], (options.batch, text.config["max_position_embeddings"]))
    optimizer = adamw(weights)

    def step(_):
        F.mse_loss(predict(net, x, timesteps, encode_text(text, ids)), target).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(average, weights, 0.002)

    return repeated(options.steps, step)


def sample(base, options):
    """DDIM with guidance, prompt and empty prompt in one batch; writes the last latent for the check."""
    net, pipeline = Network(base, "unet"), reference_pipeline.Pipeline(base)
    side, channels = net.config["sample_size"], net.config["in_channels"]
    context = torch.tensor(numpy.stack([pipeline.context(""), pipeline.context(options.prompt)])).float()
    timesteps = reference_pipeline.timesteps_of(pipeline.scheduler, options.steps)
    stride = pipeline.scheduler["num_train_timesteps"] // options.steps
    x = torch.tensor(reference_pipeline.first_noise(0, channels, side, side)).float()

    def step(number):
        nonlocal x
        both = x.expand(2, -1, -1, -1).contiguous(memory_format=torch.channels_last)
        plain, said = predict(net, both, torch.full((2,), float(timesteps[number])), context)
        x = pipeline.step(x, plain + options.guidance * (said - plain), timesteps[number], timesteps[number] - stride).float()

    with torch.inference_mode():
        spent = repeated(options.steps, step)
    rgb = reference_pipeline.decode(pipeline.vae, x.double().numpy() / pipeline.vae.config["scaling_factor"])
    pixels = numpy.rint(numpy.clip(rgb / 2 + 0.5, 0, 1) * 255).astype(numpy.uint8).transpose(1, 2, 0)
    pathlib.Path(options.out).write_bytes(pixels.tobytes())
    return spent


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["nothing", "lora", "full", "sample"])
    parser.add_argument("--base", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--targets", choices=["wide", "attention"], default="wide")
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--prompt", default="")
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--out", default=os.devnull)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    spent = [] if options.task == "nothing" else globals()[options.task](options.base, options)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"version": torch.__version__, "steps": spent, "peak_kb": peak}))


if __name__ == "__main__":
    main()
