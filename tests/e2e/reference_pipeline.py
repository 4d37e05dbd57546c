"""Stable Diffusion in numpy and double precision, for small models: text encoder, UNet, DDIM and VAE decoder by diffusers'
config.json and names, with LoRAs applied beside the layers as PEFT does. Shares no code with the engine; the first noise
follows src/engine/rng.h."""
import json
import re

import numpy
from safetensors.numpy import load_file


# ---- LoRA files ----

def read_lora(path, modules):
    """{(part, module): (down, up, scale)} from kohya's or PEFT's names. modules: {part: names of its layers}."""
    tensors = {name: value.astype(numpy.float64) for name, value in load_file(path).items()}
    flat = {"lora_" + {"unet": "unet", "text_encoder": "te"}[part] + "_" + name.replace(".", "_"): (part, name)
            for part, names in modules.items() for name in names}
    found = {}
    for name, down in tensors.items():
        if name.endswith(".lora_down.weight"):
            key = name[:-len(".lora_down.weight")]
            found[flat[key]] = down, tensors[key + ".lora_up.weight"], tensors[key + ".alpha"].item() / down.shape[0]
        elif name.endswith(".lora_A.weight"):
            key = name[:-len(".lora_A.weight")]
            found[tuple(key.split(".", 1))] = down, tensors[key + ".lora_B.weight"], 1.0
    return found


# ---- layers ----

def sigmoid(x):
    return 1 / (1 + numpy.exp(-x))


def silu(x):
    return x * sigmoid(x)


def erf(x):
    """Abramowitz and Stegun 7.1.26 is too coarse: the series, and its complement's continued fraction far out."""
    x = numpy.clip(x, -6, 6)
    total, term = x.copy(), x.copy()
    for n in range(1, 120):
        term = term * -x * x / n
        total = total + term / (2 * n + 1)
    return numpy.clip(total * 2 / numpy.sqrt(numpy.pi), -1, 1)


def gelu(x):
    return x * 0.5 * (1 + erf(x / numpy.sqrt(2)))


def softmax(x):
    e = numpy.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def convolve(x, weight, stride=1, padding=(1, 1)):
    """x [channels, height, width]; weight [out, in, k, k]; padding before and after."""
    k = weight.shape[2]
    if k == 1:
        return numpy.einsum("oi,ihw->ohw", weight[:, :, 0, 0], x)
    x = numpy.pad(x, ((0, 0), padding, padding))
    windows = numpy.lib.stride_tricks.sliding_window_view(x, (k, k), (1, 2))[:, ::stride, ::stride]
    return numpy.tensordot(weight, windows, axes=([1, 2, 3], [0, 3, 4]))


class Part:
    """One network: its config, its weights, and what LoRAs add to its layers."""

    def __init__(self, folder, name, loras):
        self.name, self.loras = name, loras
        self.config = json.loads((folder / name / "config.json").read_text())
        file = "model" if name.startswith("text") else "diffusion_pytorch_model"
        self.tensors = {k: v.astype(numpy.float64) for k, v in load_file(folder / name / f"{file}.safetensors").items()}
        self.modules = [k[:-len(".weight")] for k, v in self.tensors.items() if k.endswith(".weight") and v.ndim > 1]

    def additions(self, module):
        return [lora[self.name, module] for lora in self.loras if (self.name, module) in lora]

    def linear(self, module, x):
        """x [rows, in]; a 1x1 convolution is a linear layer."""
        weight = self.tensors[f"{module}.weight"]
        y = x @ weight.reshape(weight.shape[:2]).T + self.tensors.get(f"{module}.bias", 0)
        for down, up, scale in self.additions(module):
            y = y + scale * (x @ down.reshape(down.shape[:2]).T @ up.reshape(up.shape[:2]).T)
        return y

    def conv(self, module, x, **how):
        y = convolve(x, self.tensors[f"{module}.weight"], **how) + self.tensors[f"{module}.bias"][:, None, None]
        for down, up, scale in self.additions(module):
            y = y + scale * convolve(convolve(x, down.reshape(*down.shape[:2], *self.kernel(module)), **how),
                                     up.reshape(*up.shape[:2], 1, 1))
        return y

    def kernel(self, module):
        return self.tensors[f"{module}.weight"].shape[2:]

    def group_norm(self, module, x, groups, epsilon):
        grouped = x.reshape(groups, -1)
        grouped = (grouped - grouped.mean(1, keepdims=True)) / numpy.sqrt(grouped.var(1, keepdims=True) + epsilon)
        shape = (-1, 1, 1)
        return grouped.reshape(x.shape) * self.tensors[f"{module}.weight"].reshape(shape) + \
            self.tensors[f"{module}.bias"].reshape(shape)

    def layer_norm(self, module, x, epsilon=1e-5):
        x = (x - x.mean(-1, keepdims=True)) / numpy.sqrt(x.var(-1, keepdims=True) + epsilon)
        return x * self.tensors[f"{module}.weight"] + self.tensors[f"{module}.bias"]

    def attention(self, x, context, names, heads, mask=None):
        q, k, v = (self.linear(name, y) for name, y in zip(names, (x, context, context)))
        q, k, v = (y.reshape(len(y), heads, -1).swapaxes(0, 1) for y in (q, k, v))
        scores = q @ k.swapaxes(1, 2) / numpy.sqrt(q.shape[2])
        y = softmax(scores if mask is None else scores + mask) @ v
        return self.linear(names[3], y.swapaxes(0, 1).reshape(len(x), -1))

    def resnet(self, path, x, temb, groups, epsilon):
        h = self.conv(f"{path}.conv1", silu(self.group_norm(f"{path}.norm1", x, groups, epsilon)))
        if temb is not None:
            h = h + self.linear(f"{path}.time_emb_proj", temb[None])[0][:, None, None]
        h = self.conv(f"{path}.conv2", silu(self.group_norm(f"{path}.norm2", h, groups, epsilon)))
        return h + (self.conv(f"{path}.conv_shortcut", x) if f"{path}.conv_shortcut.weight" in self.tensors else x)


def rows(x):
    return x.reshape(len(x), -1).T


# ---- text ----

def tokenize(folder, text, count):
    vocabulary = json.loads((folder / "tokenizer/vocab.json").read_text())
    lines = (folder / "tokenizer/merges.txt").read_text().splitlines()
    ranks = {tuple(line.split()): i for i, line in enumerate(lines) if line and not line.startswith("#version")}
    ids = [vocabulary["<|startoftext|>"]]
    for word in re.findall(r"[a-z]+|[0-9]|[^\sa-z0-9]+", text.lower()):  # ASCII is enough here
        symbols = [*word[:-1], word[-1] + "</w>"]
        while len(symbols) > 1:
            best = min(range(len(symbols) - 1), key=lambda i: ranks.get((symbols[i], symbols[i + 1]), 1 << 30))
            if (symbols[best], symbols[best + 1]) not in ranks:
                break
            symbols[best:best + 2] = [symbols[best] + symbols[best + 1]]
        ids += [vocabulary.get(symbol, vocabulary["<|endoftext|>"]) for symbol in symbols]
    ids = ids[:count - 1]
    return ids + [vocabulary["<|endoftext|>"]] * (count - len(ids))


def encode_text(part, ids):
    config, prefix = part.config, "text_model."
    heads, count = config["num_attention_heads"], len(ids)
    act = gelu if config["hidden_act"] == "gelu" else lambda x: x * sigmoid(1.702 * x)
    x = part.tensors[prefix + "embeddings.token_embedding.weight"][ids]
    x = x + part.tensors[prefix + "embeddings.position_embedding.weight"][:count]
    mask = numpy.triu(numpy.full((count, count), -1e30), 1)
    for i in range(config["num_hidden_layers"]):
        layer = f"{prefix}encoder.layers.{i}"
        names = [f"{layer}.self_attn.{name}_proj" for name in ("q", "k", "v", "out")]
        h = part.layer_norm(f"{layer}.layer_norm1", x)
        x = x + part.attention(h, h, names, heads, mask)
        h = act(part.linear(f"{layer}.mlp.fc1", part.layer_norm(f"{layer}.layer_norm2", x)))
        x = x + part.linear(f"{layer}.mlp.fc2", h)
    return part.layer_norm(prefix + "final_layer_norm", x)


# ---- UNet ----

def listed(value, index):
    return value[index] if isinstance(value, list) else value


def transformer(part, path, x, context, heads, groups, depth):
    h = rows(part.group_norm(f"{path}.norm", x, groups, 1e-6))
    h = part.linear(f"{path}.proj_in", h)
    for i in range(depth):
        block = f"{path}.transformer_blocks.{i}"
        for index in (1, 2):
            names = [f"{block}.attn{index}.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")]
            y = part.layer_norm(f"{block}.norm{index}", h)
            h = h + part.attention(y, y if index == 1 else context, names, heads)
        value, gate = numpy.split(part.linear(f"{block}.ff.net.0.proj", part.layer_norm(f"{block}.norm3", h)), 2, -1)
        h = h + part.linear(f"{block}.ff.net.2", value * gelu(gate))
    return x + part.linear(f"{path}.proj_out", h).T.reshape(x.shape)


def predict(part, x, timestep, context):
    config = part.config
    channels, groups, epsilon = config["block_out_channels"], config["norm_num_groups"], config["norm_eps"]
    half, layers = channels[0] // 2, config["layers_per_block"]
    angles = timestep * numpy.exp(-numpy.log(10000) * numpy.arange(half) / half)
    temb = numpy.concatenate([numpy.cos(angles), numpy.sin(angles)])[None]
    temb = part.linear("time_embedding.linear_2", silu(part.linear("time_embedding.linear_1", temb)))
    temb = silu(temb)[0]
    heads = config.get("num_attention_heads") or config["attention_head_dim"]

    def block(path, h, k, attention):
        h = part.resnet(path.format("resnets"), h, temb, groups, epsilon)
        if not attention:
            return h
        depth = listed(config.get("transformer_layers_per_block", 1), k)
        return transformer(part, path.format("attentions"), h, context, listed(heads, k), groups, depth)

    h = part.conv("conv_in", x)
    skips, last = [h], len(channels) - 1
    for k in range(len(channels)):
        for j in range(listed(layers, k)):
            h = block(f"down_blocks.{k}.{{}}.{j}", h, k, config["down_block_types"][k].startswith("Cross"))
            skips.append(h)
        if k < last:
            h = part.conv(f"down_blocks.{k}.downsamplers.0.conv", h, stride=2)
            skips.append(h)
    h = block("mid_block.{}.0", h, last, True)
    h = part.resnet("mid_block.resnets.1", h, temb, groups, epsilon)
    for k in range(len(channels)):
        for j in range(listed(layers, last - k) + 1):
            h = numpy.concatenate([h, skips.pop()])
            h = block(f"up_blocks.{k}.{{}}.{j}", h, last - k, config["up_block_types"][k].startswith("Cross"))
        if k < last:
            h = h.repeat(2, 1).repeat(2, 2)[:, :skips[-1].shape[1], :skips[-1].shape[2]]
            h = part.conv(f"up_blocks.{k}.upsamplers.0.conv", h)
    return part.conv("conv_out", silu(part.group_norm("conv_norm_out", h, groups, epsilon)))


# ---- VAE ----

def middle(part, side, h, groups, epsilon):
    h = part.resnet(f"{side}.mid_block.resnets.0", h, None, groups, epsilon)
    if part.config.get("mid_block_add_attention", True):
        path = f"{side}.mid_block.attentions.0"
        y = rows(part.group_norm(f"{path}.group_norm", h, groups, epsilon))
        names = [f"{path}.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")]
        h = h + part.attention(y, y, names, 1).T.reshape(h.shape)
    return part.resnet(f"{side}.mid_block.resnets.1", h, None, groups, epsilon)


def encode(part, rgb):
    """rgb [3, height, width] in [-1, 1]; the latent's mean, unscaled."""
    config = part.config
    groups, epsilon, levels = config["norm_num_groups"], 1e-6, len(config["block_out_channels"])
    h = part.conv("encoder.conv_in", rgb)
    for k in range(levels):
        for j in range(config["layers_per_block"]):
            h = part.resnet(f"encoder.down_blocks.{k}.resnets.{j}", h, None, groups, epsilon)
        if k < levels - 1:
            h = part.conv(f"encoder.down_blocks.{k}.downsamplers.0.conv", h, stride=2, padding=(0, 1))
    h = middle(part, "encoder", h, groups, epsilon)
    h = part.conv("encoder.conv_out", silu(part.group_norm("encoder.conv_norm_out", h, groups, epsilon)))
    h = part.conv("quant_conv", h) if config.get("use_quant_conv", True) else h
    return h[:config["latent_channels"]]


def decode(part, z):
    config = part.config
    groups, epsilon, levels = config["norm_num_groups"], 1e-6, len(config["block_out_channels"])
    h = part.conv("post_quant_conv", z) if config.get("use_post_quant_conv", True) else z
    h = middle(part, "decoder", part.conv("decoder.conv_in", h), groups, epsilon)
    for k in range(levels):
        for j in range(config["layers_per_block"] + 1):
            h = part.resnet(f"decoder.up_blocks.{k}.resnets.{j}", h, None, groups, epsilon)
        if k < levels - 1:
            h = part.conv(f"decoder.up_blocks.{k}.upsamplers.0.conv", h.repeat(2, 1).repeat(2, 2))
    return part.conv("decoder.conv_out", silu(part.group_norm("decoder.conv_norm_out", h, groups, epsilon)))


# ---- noise and sampling ----

def philox(seed, count, purpose=7, step=0):
    """count words by four, block by block: Philox4x32-10 with counter (block, index 0, step, purpose)."""
    blocks = numpy.arange((count + 3) // 4, dtype=numpy.uint64)
    low = numpy.uint64(0xFFFFFFFF)
    words = [blocks, blocks * 0, blocks * 0 + numpy.uint64(step), blocks * 0 + numpy.uint64(purpose)]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        first, second = words[0] * numpy.uint64(0xD2511F53), words[2] * numpy.uint64(0xCD9E8D57)
        high = numpy.uint64(32)
        words = [second >> high ^ words[1] ^ numpy.uint64(key[0]), second & low,
                 first >> high ^ words[3] ^ numpy.uint64(key[1]), first & low]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return numpy.stack(words, 1).reshape(-1)[:count]


def first_noise(seed, channels, height, width, purpose=7, step=0):
    count = channels * height * width
    words = philox(seed, (count + 3) // 4 * 4, purpose, step).reshape(-1, 2)
    radius = numpy.sqrt(-2 * numpy.log((words[:, 0] + 0.5) / 2**32))
    turn = 2 * numpy.pi * words[:, 1] / 2**32
    normal = numpy.stack([radius * numpy.cos(turn), radius * numpy.sin(turn)], 1).reshape(-1)[:count]
    return normal.reshape(height, width, channels).transpose(2, 0, 1)


def cumulative_alphas(config):
    steps = config["num_train_timesteps"]
    if config["beta_schedule"] == "squaredcos_cap_v2":
        def bar(t):
            return numpy.cos((t + 0.008) / 1.008 * numpy.pi / 2) ** 2
        t = numpy.arange(steps)
        betas = numpy.minimum(1 - bar((t + 1) / steps) / bar(t / steps), 0.999)
    elif config["beta_schedule"] == "scaled_linear":
        betas = numpy.linspace(config["beta_start"] ** 0.5, config["beta_end"] ** 0.5, steps) ** 2
    else:
        betas = numpy.linspace(config["beta_start"], config["beta_end"], steps)
    return numpy.cumprod(1 - betas)


def timesteps_of(config, count):
    steps, spacing = config["num_train_timesteps"], config.get("timestep_spacing", "leading")
    if spacing == "trailing":
        return [round(steps - i * steps / count) - 1 for i in range(count)]
    if spacing == "leading":
        return [i * (steps // count) + config.get("steps_offset", 0) for i in reversed(range(count))]
    return [round(t) for t in numpy.linspace(0, steps - 1, count)[::-1]]


class Pipeline:
    def __init__(self, folder, lora=None):
        self.folder, loras = folder, []
        self.unet, self.text, self.vae = (Part(folder, name, loras) for name in ("unet", "text_encoder", "vae"))
        self.scheduler = json.loads((folder / "scheduler/scheduler_config.json").read_text())
        if lora:
            loras.append(read_lora(lora, {"unet": self.unet.modules, "text_encoder": self.text.modules}))

    def context(self, prompt):
        return encode_text(self.text, tokenize(self.folder, prompt, self.text.config["max_position_embeddings"]))

    def step(self, x, said, t, before):
        config, alphas = self.scheduler, cumulative_alphas(self.scheduler)
        alpha = alphas[t]
        alpha_before = alphas[before] if before >= 0 else 1.0 if config.get("set_alpha_to_one") else alphas[0]
        if config.get("prediction_type", "epsilon") == "v_prediction":
            clean = alpha**0.5 * x - (1 - alpha)**0.5 * said
            noise = alpha**0.5 * said + (1 - alpha)**0.5 * x
        else:
            clean, noise = (x - (1 - alpha)**0.5 * said) / alpha**0.5, said
        return alpha_before**0.5 * clean + (1 - alpha_before)**0.5 * noise

    def start(self, x, timesteps, image, strength):
        """The noised latent of an image [height, width, 3] of 8 bits, and the timesteps that are left."""
        timesteps = timesteps[len(timesteps) - int(len(timesteps) * strength):]
        clean = encode(self.vae, image.transpose(2, 0, 1) / 127.5 - 1) * self.vae.config["scaling_factor"]
        alpha = cumulative_alphas(self.scheduler)[timesteps[0]]
        return alpha**0.5 * clean + (1 - alpha)**0.5 * x, timesteps

    def render(self, prompt, seed, steps, guidance, image=None, strength=1):
        """Rows of 8-bit pixels, as DDIM samples them."""
        side, channels = self.unet.config["sample_size"], self.unet.config["in_channels"]
        x = first_noise(seed, channels, side, side)
        with_prompt, without = self.context(prompt), self.context("")
        timesteps = timesteps_of(self.scheduler, steps)
        if image is not None:
            x, timesteps = self.start(x, timesteps, image, strength)
        for t in timesteps:
            said, plain = predict(self.unet, x, t, with_prompt), predict(self.unet, x, t, without)
            x = self.step(x, plain + guidance * (said - plain), t, t - self.scheduler["num_train_timesteps"] // steps)
        rgb = decode(self.vae, x / self.vae.config["scaling_factor"])
        return numpy.rint(numpy.clip(rgb / 2 + 0.5, 0, 1) * 255).astype(int).transpose(1, 2, 0)
