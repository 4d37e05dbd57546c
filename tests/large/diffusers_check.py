#!/usr/bin/env python3
"""By hand, not in CI (PyTorch is too large for it): the shipped base and LoRAs in diffusers, transformers and PEFT themselves.

    python -m pip install torch diffusers transformers peft accelerate pillow safetensors
    python tests/large/diffusers_check.py DIR

Pictures of the program against those of StableDiffusionPipeline with the same first noise: the base alone; a LoRA
trained here, as kohya and as PEFT name it; and a LoRA that PEFT made. Fails when one differs by more than rounding."""
import json
import pathlib
import subprocess
import sys

import numpy
import torch
from diffusers import (DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler,
                       StableDiffusionImg2ImgPipeline, StableDiffusionPipeline)
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_img2img
from diffusers.schedulers import scheduling_euler_ancestral_discrete
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))
from reference_pipeline import first_noise  # noqa: E402

BASE, BINARY = ROOT / "base-models/tiny", ROOT / "build/maquette"
PROMPT, SEED, STEPS, GUIDANCE = "daiton, cat", 11, 12, 3.0
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
SCHEDULERS = {"euler": (EulerDiscreteScheduler, {}), "euler_ancestral": (EulerAncestralDiscreteScheduler, {}),
              "dpmpp_2m": (DPMSolverMultistepScheduler, {})}  # with Karras' sigmas diffusers fails on this schedule: see the golden numbers
WIDE = ATTENTION + ["proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2"]


def ours(folder, lora=None, more=()):
    out = folder / "out.png"
    subprocess.run([BINARY, "generate", "--base", BASE, "--prompt", PROMPT, "--seed", str(SEED), "--steps", str(STEPS),
                    "--guidance", str(GUIDANCE), "--out", out, *more] + (["--lora", f"{lora}:1"] if lora else []), check=True)
    return numpy.asarray(Image.open(out).convert("RGB")).astype(int)


def pipeline():
    pipe = StableDiffusionPipeline.from_pretrained(BASE, torch_dtype=torch.float32, safety_checker=None)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def noise():
    return torch.from_numpy(first_noise(SEED, 4, 16, 16)[None].copy()).float()


def from_an_image(folder):
    """Both begin on the base's own picture; diffusers is given the latent's mean, where it would draw from it."""
    pipe = StableDiffusionImg2ImgPipeline(**pipeline().components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    start = folder / "start.png"
    (folder / "out.png").rename(start)
    pixels = torch.from_numpy(numpy.asarray(Image.open(start).convert("RGB"))).float().permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        mean = pipe.vae.encode(pixels).latent_dist.mode() * pipe.vae.config.scaling_factor
    pipeline_stable_diffusion_img2img.randn_tensor = lambda *unused, **too: noise()
    picture = pipe(PROMPT.replace("cat", "dog"), image=mean, strength=0.5, num_inference_steps=STEPS, guidance_scale=GUIDANCE,
                   output_type="np").images[0]
    drawn = ours(folder, more=("--image", start, "--strength", "0.5", "--prompt", PROMPT.replace("cat", "dog")))
    return drawn, numpy.rint(picture * 255).astype(int)


def theirs(pipe):
    """The pipeline scales the noise as its scheduler asks for."""
    picture = pipe(PROMPT, latents=noise(), num_inference_steps=STEPS, guidance_scale=GUIDANCE, height=64, width=64,
                   output_type="np").images[0]
    return numpy.rint(picture * 255).astype(int)


def with_scheduler(folder, name):
    """Noise that is added on the way is ours, too."""
    kind, more = SCHEDULERS[name]
    pipe, step = pipeline(), 0

    def fresh(shape, **unused):
        nonlocal step
        step += 1
        return torch.from_numpy(first_noise(SEED, 4, 16, 16, purpose=12, step=step - 1)[None].copy()).float()

    scheduling_euler_ancestral_discrete.randn_tensor = fresh
    pipe.scheduler = kind.from_config(pipe.scheduler.config, **more)
    return ours(folder, more=("--scheduler", name)), theirs(pipe)


def train(folder):
    images = folder / "images"
    images.mkdir(exist_ok=True)
    for i in range(3):
        pixels = numpy.indices((64, 64, 3)).sum(0) * (i + 2) % 256
        Image.fromarray(pixels.astype(numpy.uint8)).save(images / f"stripes {i}.png")
    parameters = {"rank": 4, "seed": 5, "learningRate": 1e-5, "numTextTrainSteps": 4, "numUNetTrainSteps": 12}
    subprocess.run([BINARY, "train", "--init", folder / "job", "--images", images, "--base", BASE, "--parameters",
                    json.dumps(parameters)], check=True)
    subprocess.run([BINARY, "train", folder / "job"], check=True)
    return folder / "job/out/model.safetensors"


def made_by_peft(folder, targets, rename):
    """With values that change the picture, saved by diffusers itself."""
    pipe = pipeline()
    pipe.unet.add_adapter(LoraConfig(r=3, lora_alpha=3, target_modules=targets))
    torch.manual_seed(3)
    for name, parameter in pipe.unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    layers = rename(get_peft_model_state_dict(pipe.unet))
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers, weight_name="peft.safetensors")
    return folder / "peft.safetensors"


def compare(what, a, b, plain):
    worst, share = abs(a - b).max(), (a != b).mean()
    changed = abs(a - plain).mean()
    print(f"{what}: differs by at most {worst} of 255, in {100 * share:.2f} % of the values; "
          f"from the base alone by {changed:.1f} on average")
    return worst <= 3 and share < 0.03 and (changed > 1 or a is plain)


def with_lora(path):
    pipe = pipeline()
    pipe.load_lora_weights(path.parent, weight_name=path.name)
    return theirs(pipe)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    plain = ours(folder)
    good = [compare("base alone", plain, theirs(pipeline()), plain)]
    for name in SCHEDULERS:
        drawn, other = with_scheduler(folder, name)
        good.append(compare(name, drawn, other, drawn))
    ours(folder)
    good.append(compare("from an image", *from_an_image(folder), plain))
    kohya, renamed = train(folder), folder / "renamed.safetensors"
    subprocess.run([BINARY, "convert", kohya, renamed, "--base", BASE, "--format", "diffusers"], check=True)
    drawn = ours(folder, kohya)
    good.append(compare("trained here, kohya's names", drawn, with_lora(kohya), plain))
    good.append(compare("trained here, PEFT's names", drawn, with_lora(renamed), plain))
    other = made_by_peft(folder, WIDE, dict)
    good.append(compare("made by PEFT, its own names", ours(folder, other), with_lora(other), plain))
    other = made_by_peft(folder, ATTENTION, convert_state_dict_to_diffusers)  # as the training scripts of diffusers do
    good.append(compare("made by PEFT, diffusers' names", ours(folder, other), with_lora(other), plain))
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
