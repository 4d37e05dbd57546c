#!/usr/bin/env python3
"""By hand, not in CI: a base model of Stable Diffusion 1.5's full size, with seeded random weights, trains for some steps.

    .venv/bin/python tests/large/sd15.py DIR [--pixels 256] [--steps 3] [--weights fp32|bf16] [--batch 1] [--recompute]

DIR/base (2.1 GB, made once) and DIR/job are left there. Prints seconds a step and the peak of resident memory, and fails
above 12 GB. docs/PERFORMANCE.md has the figures."""
import argparse
import json
import pathlib
import resource
import shutil
import struct
import subprocess
import sys

import numpy
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEAK_GB_MAX = 12

UNET = {"_class_name": "UNet2DConditionModel", "sample_size": 64, "in_channels": 4, "out_channels": 4,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2, "cross_attention_dim": 768,
        "attention_head_dim": 8, "norm_num_groups": 32, "act_fn": "silu"}
VAE = {"_class_name": "AutoencoderKL", "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2,
       "latent_channels": 4, "norm_num_groups": 32, "scaling_factor": 0.18215}
CLIP = {"architectures": ["CLIPTextModel"], "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072,
        "num_hidden_layers": 12, "num_attention_heads": 12, "max_position_embeddings": 77, "hidden_act": "quick_gelu",
        "bos_token_id": 49406, "eos_token_id": 49407}
SCHEDULER = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085,
             "beta_end": 0.012, "steps_offset": 1, "clip_sample": False, "set_alpha_to_one": False}


class Tensors(dict):
    """Names and shapes in the order of a builder."""

    def linear(self, name, out, inputs, bias=True, kernel=0):
        self[f"{name}.weight"] = [out, inputs] + [kernel, kernel] * (kernel > 0)
        if bias:
            self[f"{name}.bias"] = [out]

    def norm(self, name, channels):
        self[f"{name}.weight"] = [channels]
        self[f"{name}.bias"] = [channels]

    def resnet(self, name, inputs, out, time=0):
        self.norm(f"{name}.norm1", inputs)
        self.linear(f"{name}.conv1", out, inputs, kernel=3)
        if time:
            self.linear(f"{name}.time_emb_proj", out, time)
        self.norm(f"{name}.norm2", out)
        self.linear(f"{name}.conv2", out, out, kernel=3)
        if inputs != out:
            self.linear(f"{name}.conv_shortcut", out, inputs, kernel=1)

    def transformer(self, name, channels, context):
        self.norm(f"{name}.norm", channels)
        self.linear(f"{name}.proj_in", channels, channels, kernel=1)
        block = f"{name}.transformer_blocks.0"
        for index, width in ((1, channels), (2, context)):
            self.linear(f"{block}.attn{index}.to_q", channels, channels, bias=False)
            self.linear(f"{block}.attn{index}.to_k", channels, width, bias=False)
            self.linear(f"{block}.attn{index}.to_v", channels, width, bias=False)
            self.linear(f"{block}.attn{index}.to_out.0", channels, channels)
        for index in (1, 2, 3):
            self.norm(f"{block}.norm{index}", channels)
        self.linear(f"{block}.ff.net.0.proj", 8 * channels, channels)
        self.linear(f"{block}.ff.net.2", channels, 4 * channels)
        self.linear(f"{name}.proj_out", channels, channels, kernel=1)


def unet_tensors():
    t, channels, time, context = Tensors(), UNET["block_out_channels"], 1280, 768
    t.linear("time_embedding.linear_1", time, 320)
    t.linear("time_embedding.linear_2", time, time)
    t.linear("conv_in", 320, 4, kernel=3)
    skips, width = [320], 320
    for k, out in enumerate(channels):
        for j in range(2):
            t.resnet(f"down_blocks.{k}.resnets.{j}", width, out, time)
            width = out
            if k < 3:
                t.transformer(f"down_blocks.{k}.attentions.{j}", out, context)
            skips.append(out)
        if k < 3:
            t.linear(f"down_blocks.{k}.downsamplers.0.conv", out, out, kernel=3)
            skips.append(out)
    t.resnet("mid_block.resnets.0", width, width, time)
    t.transformer("mid_block.attentions.0", width, context)
    t.resnet("mid_block.resnets.1", width, width, time)
    for k, out in enumerate(reversed(channels)):
        for j in range(3):
            t.resnet(f"up_blocks.{k}.resnets.{j}", width + skips.pop(), out, time)
            width = out
            if k > 0:
                t.transformer(f"up_blocks.{k}.attentions.{j}", out, context)
        if k < 3:
            t.linear(f"up_blocks.{k}.upsamplers.0.conv", out, out, kernel=3)
    t.norm("conv_norm_out", 320)
    t.linear("conv_out", 4, 320, kernel=3)
    return t


def vae_side(t, side, first, channels, resnets, sampler):
    width = channels[0]
    t.linear(f"{side}.conv_in", width, first, kernel=3)
    for k, out in enumerate(channels):
        for j in range(resnets):
            t.resnet(f"{side}.{sampler[0]}_blocks.{k}.resnets.{j}", width, out)
            width = out
        if k < 3:
            t.linear(f"{side}.{sampler[0]}_blocks.{k}.{sampler[1]}.0.conv", out, out, kernel=3)
    for j in range(2):
        t.resnet(f"{side}.mid_block.resnets.{j}", 512, 512)
    t.norm(f"{side}.mid_block.attentions.0.group_norm", 512)
    for name in ("to_q", "to_k", "to_v", "to_out.0"):
        t.linear(f"{side}.mid_block.attentions.0.{name}", 512, 512)
    t.norm(f"{side}.conv_norm_out", channels[-1])
    t.linear(f"{side}.conv_out", 8 if side == "encoder" else 3, channels[-1], kernel=3)


def vae_tensors():
    t = Tensors()
    vae_side(t, "encoder", 3, VAE["block_out_channels"], 2, ("down", "downsamplers"))
    vae_side(t, "decoder", 4, VAE["block_out_channels"][::-1], 3, ("up", "upsamplers"))
    t.linear("quant_conv", 8, 8, kernel=1)
    t.linear("post_quant_conv", 4, 4, kernel=1)
    return t


def clip_tensors():
    t = Tensors()
    t["text_model.embeddings.token_embedding.weight"] = [49408, 768]
    t["text_model.embeddings.position_embedding.weight"] = [77, 768]
    for i in range(12):
        layer = f"text_model.encoder.layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            t.linear(f"{layer}.self_attn.{name}", 768, 768)
        t.norm(f"{layer}.layer_norm1", 768)
        t.norm(f"{layer}.layer_norm2", 768)
        t.linear(f"{layer}.mlp.fc1", 3072, 768)
        t.linear(f"{layer}.mlp.fc2", 768, 3072)
    t.norm("text_model.final_layer_norm", 768)
    return t


def values_of(name, shape, rng):
    if len(shape) == 1:
        return numpy.full(shape, 0 if name.endswith(".bias") else 1, numpy.float16)
    deviation = 1 / numpy.sqrt(numpy.prod(shape[1:]))
    return (rng.standard_normal(shape, numpy.float32) * deviation).astype(numpy.float16)


def write_part(folder, stem, config, tensors, seed):
    """Tensor by tensor: the whole never is in memory."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    header, offset = {}, 0
    for name, shape in tensors.items():
        size = 2 * int(numpy.prod(shape))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    rng = numpy.random.default_rng(seed)
    with open(folder / f"{stem}.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors.items():
            values_of(name, shape, rng).tofile(file)
    print(f"{folder.name}: {offset // 2:,} numbers")


def write_tokenizer(folder):
    """The symbols of single bytes; words are spelt."""
    folder.mkdir()
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(b) for b in kept] + [chr(256 + i) for i in range(256 - len(kept))]
    vocabulary = {s: i for i, s in enumerate(symbols + [s + "</w>" for s in symbols])}
    vocabulary |= {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 77, "pad_token": "<|endoftext|>"}))


def make_base(folder):
    write_part(folder / "unet", "diffusion_pytorch_model", UNET, unet_tensors(), 1)
    write_part(folder / "vae", "diffusion_pytorch_model", VAE, vae_tensors(), 2)
    write_part(folder / "text_encoder", "model", CLIP, clip_tensors(), 3)
    write_tokenizer(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))


def make_job(args, base):
    """Pictures of stripes; the UNet's sample_size decides at which size they are trained."""
    images, job = args.folder / "images", args.folder / "job"
    shutil.rmtree(job, ignore_errors=True)
    images.mkdir(exist_ok=True)
    for i in range(4):
        pixels = numpy.indices((args.pixels, args.pixels, 3)).sum(0) * (i + 1) % 256
        Image.fromarray(pixels.astype(numpy.uint8)).save(images / f"stripes {i}.png")
    (base / "unet" / "config.json").write_text(json.dumps({**UNET, "sample_size": args.pixels // 8}))
    (base / "maquette.json").write_text(json.dumps({"weights": args.weights}))
    parameters = {"maxTrainSteps": args.steps, "rank": 4, "batchSize": args.batch, "learningRate": 1e-4, "seed": 1,
                  "gradientCheckpointing": args.recompute}
    subprocess.run([ROOT / "build/maquette", "train", "--init", job, "--images", images, "--base", base,
                    "--parameters", json.dumps(parameters)], check=True)
    return job


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--pixels", type=int, default=256)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--weights", default="fp32")
    parser.add_argument("--recompute", action="store_true", help="gradient checkpointing")
    args = parser.parse_args()
    base = args.folder / "base"
    if not (base / "model_index.json").exists():
        make_base(base)
    job = make_job(args, base)
    subprocess.run([ROOT / "build/maquette", "train", job], check=True)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = usage.ru_maxrss / 1e6
    result = json.loads((job / "out/result.json").read_text())
    print(f"{args.weights}, {args.pixels} px, batch {args.batch}: {result['seconds'] / args.steps:.1f} s a step, "
          f"loss {result['finalLoss']:.4f}, weights {result['weightBytes'] / 1e9:.2f} GB, "
          f"a step {result['stepBytes'] / 1e9:.2f} GB, peak {peak:.2f} GB, {usage.ru_utime:.0f} s of CPU in all")
    sys.exit(not peak <= PEAK_GB_MAX or not result["finalLoss"] < 100)


if __name__ == "__main__":
    main()
