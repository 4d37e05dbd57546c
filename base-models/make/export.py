"""Write the trained model as a diffusers folder, weights in fp16.

    python export.py --work WORK --out ../tiny
"""
import argparse, json, os, shutil
import torch
from safetensors.torch import save_file
import unet as unet_module
import vae as vae_module
from common import Flat
from tokenizer import Tokenizer


def trained(work):
    """(vae, unet, text encoder, tokenizer) with the averaged weights."""
    tok = Tokenizer(os.path.join(work, "tokenizer"))
    unet, text = unet_module.build(tok)
    unet.to(memory_format=torch.channels_last)  # the vector in the checkpoint has this layout
    Flat([unet, text]).data.copy_(torch.load(os.path.join(work, "unet.pt"), weights_only=True)["ema"])
    words = os.path.join(work, "text.pt")  # made by words.py
    if os.path.exists(words):
        text.load_state_dict(torch.load(words, weights_only=True))
    return vae_module.finished(work), unet.eval(), text.eval(), tok


def dump(path, obj):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(obj, f, indent=2)
        f.write("\n")


def write(module, path, prefix=""):
    save_file({prefix + k: v.detach().half().contiguous(memory_format=torch.contiguous_format).clone()
               for k, v in module.state_dict().items()}, path, {"format": "pt"})


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--work", default="work")
    ap.add_argument("--out", default="../tiny")
    args = ap.parse_args()
    vae, unet, text, tok = trained(args.work)
    out, new = args.out.rstrip("/"), args.out.rstrip("/") + ".new"
    shutil.rmtree(new, ignore_errors=True)
    for folder in ("vae", "unet", "text_encoder", "scheduler"):
        os.makedirs(os.path.join(new, folder))
    at = lambda *p: os.path.join(new, *p)
    shutil.copytree(os.path.join(args.work, "tokenizer"), at("tokenizer"))
    for name, module in (("vae", vae), ("unet", unet)):
        module.save_config(at(name))
        write(module, at(name, "diffusion_pytorch_model.safetensors"))
    write(text, at("text_encoder", "model.safetensors"), "" if next(iter(text.state_dict())).startswith("text_model.") else "text_model.")
    c = text.config
    dump(at("text_encoder", "config.json"), {
        "architectures": ["CLIPTextModel"], "attention_dropout": 0.0, "bos_token_id": tok.bos, "dropout": 0.0,
        "eos_token_id": tok.eos, "hidden_act": c.hidden_act, "hidden_size": c.hidden_size, "initializer_factor": 1.0,
        "initializer_range": 0.02, "intermediate_size": c.intermediate_size, "layer_norm_eps": c.layer_norm_eps,
        "max_position_embeddings": c.max_position_embeddings, "model_type": "clip_text_model",
        "num_attention_heads": c.num_attention_heads, "num_hidden_layers": c.num_hidden_layers,
        "pad_token_id": tok.eos, "projection_dim": c.projection_dim, "vocab_size": c.vocab_size})
    unet_module.scheduler().save_config(at("scheduler"))
    dump(at("model_index.json"), {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1", "feature_extractor": [None, None],
        "image_encoder": [None, None], "requires_safety_checker": False, "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"]})
    for d, _, fs in os.walk(new):
        for f in fs:
            os.chmod(os.path.join(d, f), 0o644)
    hints = os.path.join(out, "maquette.json")  # written by hand: kept
    if os.path.exists(hints):
        shutil.copy(hints, at("maquette.json"))
    if os.path.exists(out):
        os.rename(out, out + ".old")
    os.rename(new, out)
    shutil.rmtree(out + ".old", ignore_errors=True)
    files = [os.path.join(d, f) for d, _, fs in os.walk(out) for f in fs]
    print(f"{out}: {sum(map(os.path.getsize, files)):,} bytes in {len(files)} files")


if __name__ == "__main__":
    main()
