"""A LoRA trained here does the same elsewhere, and the other way round: pictures of the program against those of an
independent pipeline (reference_pipeline.py), which applies LoRAs beside the layers, not merged into them."""
import json
import pathlib
import subprocess

import numpy
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from conftest import BINARY, ROOT
from reference_pipeline import Pipeline

BASE = pathlib.Path(ROOT) / "base-models/tiny"
PROMPT, SEED, STEPS, GUIDANCE = "daiton, cat", 11, 4, 3.0


def generate(folder, lora=None, more=()):
    command = [BINARY, "generate", "--base", BASE, "--prompt", PROMPT, "--seed", str(SEED), "--steps", str(STEPS),
               "--guidance", str(GUIDANCE), "--out", folder / "out.png", *more]
    subprocess.run(command + (["--lora", f"{lora}:1"] if lora else []), check=True, capture_output=True)
    return numpy.asarray(Image.open(folder / "out.png").convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("plain"))


def assert_same(ours, theirs):
    """Eight bits, single against double precision: off by one where a value lies between two."""
    assert ours.shape == theirs.shape
    assert abs(ours - theirs).max() <= 2 and (ours != theirs).mean() < 0.02


def train(folder, parameters):
    images = folder / "images"
    images.mkdir()
    for i in range(3):
        pixels = numpy.indices((64, 64, 3)).sum(0) * (i + 2) % 256
        Image.fromarray(pixels.astype(numpy.uint8)).save(images / f"stripes {i}.png")
    subprocess.run([BINARY, "train", "--init", folder / "job", "--images", images, "--base", BASE, "--parameters",
                    json.dumps({"rank": 4, "seed": 5, "learningRate": 1e-5, **parameters})], check=True)
    subprocess.run([BINARY, "train", folder / "job"], check=True)
    return folder / "job/out/model.safetensors"


def test_the_base_alone_makes_the_same_picture(plain):
    assert_same(plain, Pipeline(BASE).render(PROMPT, SEED, STEPS, GUIDANCE))


def test_a_picture_to_begin_on_is_changed_alike(tmp_path, plain):
    """Wider than the base: the middle square is taken."""
    pixels = (numpy.indices((64, 96, 3)).sum(0) * 3 % 256).astype(numpy.uint8)
    Image.fromarray(pixels).save(tmp_path / "start.png")
    ours = generate(tmp_path, more=("--image", tmp_path / "start.png", "--strength", "0.5"))
    assert abs(ours - plain).mean() > 2
    assert_same(ours, Pipeline(BASE).render(PROMPT, SEED, STEPS, GUIDANCE, pixels[:, 16:80].astype(float), 0.5))


def test_a_trained_lora_makes_the_same_picture_elsewhere_in_either_format(tmp_path, plain):
    kohya, peft = train(tmp_path, {"numTextTrainSteps": 4, "numUNetTrainSteps": 12}), tmp_path / "peft.safetensors"
    ours = generate(tmp_path, kohya)
    assert abs(ours - plain).mean() > 2
    assert_same(ours, Pipeline(BASE, kohya).render(PROMPT, SEED, STEPS, GUIDANCE))
    subprocess.run([BINARY, "convert", kohya, peft, "--base", BASE, "--format", "diffusers"], check=True)
    names = load_file(peft)
    assert all(name.startswith(("unet.", "text_encoder.")) and ".lora_" in name for name in names)
    assert_same(ours, Pipeline(BASE, peft).render(PROMPT, SEED, STEPS, GUIDANCE))


def test_the_trainers_own_parameters_reach_it(tmp_path):
    file = train(tmp_path, {"maxTrainSteps": 1, "loraFormat": "diffusers", "gradientAccumulationSteps": 2})
    assert all(name.startswith("unet.") for name in load_file(file))
    job = json.loads((tmp_path / "job/job.json").read_text())
    assert job["parameters"]["gradientAccumulationSteps"] == 2 and job["parameters"]["rank"] == 4


def test_a_lora_made_elsewhere_makes_the_same_picture_here(tmp_path, plain):
    """PEFT's names, attention of UNet and text encoder, rank 3, no alpha."""
    pipeline, tensors = Pipeline(BASE), {}
    rng = numpy.random.default_rng(3)
    for part in (pipeline.unet, pipeline.text):
        for module in part.modules:
            if module.endswith((".to_q", ".to_k", ".to_v", ".to_out.0", "q_proj", "k_proj", "v_proj", "out_proj")):
                out, inputs = part.tensors[f"{module}.weight"].shape
                down, up = rng.standard_normal((3, inputs)) / inputs**0.5, rng.standard_normal((out, 3)) * 0.1
                tensors[f"{part.name}.{module}.lora_A.weight"] = down.astype(numpy.float32)
                tensors[f"{part.name}.{module}.lora_B.weight"] = up.astype(numpy.float32)
    path = tmp_path / "theirs.safetensors"
    save_file(tensors, path)
    ours = generate(tmp_path, path)
    assert abs(ours - plain).mean() > 2
    assert_same(ours, Pipeline(BASE, path).render(PROMPT, SEED, STEPS, GUIDANCE))
