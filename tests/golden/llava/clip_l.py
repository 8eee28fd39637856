"""Makes clip_l.safetensors: samples of every stage of a vision tower and projector of LLaVA-1.5-7B's
real size, by transformers in f64. The weights are 325 million numbers of a generator that
tests/model/seeded.rs repeats, so that no file has to hold them.

    python tests/golden/llava/clip_l.py          # torch 2.15, transformers 5.23

For every stage (named as in make.py) 256 values, at the places that the generator names under
"places.<stage>", and after them the root of the mean square.
"""

import pathlib

import numpy as np
import torch
from make import BLOCK, formula_image
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

HERE = pathlib.Path(__file__).parent
WIDTH, FEED_FORWARD, SIZE, PATCH, BLOCKS, HIDDEN = 1024, 4096, 336, 14, 23, 4096
SAMPLES = 256


def seed(name):
    """FNV-1a of the name."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def words(name, count):
    """SplitMix64 from the name's seed on: 64 bits each."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed(name)) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(
            0x9E3779B97F4A7C15
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def values(name, shape, spread, middle=0.0, half=False):
    """Numbers from middle - spread to middle + spread, in the order of the file."""
    unit = (words(name, int(np.prod(shape))) >> np.uint64(40)).astype(np.float32)
    unit = unit * np.float32(2**-23) - np.float32(1)
    out = np.float32(middle) + np.float32(spread) * unit
    out = out.astype(np.float16).astype(np.float32) if half else out
    return torch.from_numpy(out.reshape(shape))


def matrix(name, outputs, inputs):
    # Queries and keys are larger, so that attention attends.
    gain = 4.0 if ".attn_q." in name or ".attn_k." in name else 1.2
    return values(name, (outputs, inputs), gain / np.sqrt(np.float64(inputs)), half=True)


def bias(name, length):
    return values(name, (length,), 0.1)


def norm(name):
    return values(f"{name}.weight", (WIDTH,), 0.5, 1.0), bias(f"{name}.bias", WIDTH)


def pixels():
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size=SIZE)
    square = Image.new("RGB", (640, 640), tuple(int(m * 255) for m in processor.image_mean))
    square.paste(formula_image(640, 480), (0, 80))
    return processor(square, return_tensors="pt")["pixel_values"]


def main():
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=BLOCKS,
        num_attention_heads=16,
        image_size=SIZE,
        patch_size=PATCH,
        hidden_act="quick_gelu",
        layer_norm_eps=1e-5,
        attn_implementation="eager",
    )
    tower = CLIPVisionModel(config).eval()
    state = {
        "embeddings.class_embedding": values("v.class_embd", (WIDTH,), 0.5),
        "embeddings.patch_embedding.weight": matrix(
            "v.patch_embd.weight", WIDTH, 3 * PATCH * PATCH
        ).reshape(WIDTH, 3, PATCH, PATCH),
        "embeddings.position_embedding.weight": values(
            "v.position_embd.weight", (577, WIDTH), 0.5, half=True
        ),
    }
    state["pre_layrnorm.weight"], state["pre_layrnorm.bias"] = norm("v.pre_ln")
    for i in range(BLOCKS):
        for module, name in BLOCK.items():
            hf, name = f"encoder.layers.{i}.{module}", f"v.blk.{i}.{name}"
            if "norm" in module:
                state[f"{hf}.weight"], state[f"{hf}.bias"] = norm(name)
                continue
            outputs, inputs = tower.get_submodule(hf).weight.shape
            state[f"{hf}.weight"] = matrix(f"{name}.weight", outputs, inputs)
            state[f"{hf}.bias"] = bias(f"{name}.bias", outputs)
    missing = tower.load_state_dict(state, strict=False)
    assert all("post_layernorm" in k for k in missing.missing_keys), missing.missing_keys
    assert not missing.unexpected_keys
    # In f64, so that what is measured against it is the runtime's rounding alone.
    with torch.no_grad():
        tower, image = tower.double(), pixels().double()
        hidden = tower(image, output_hidden_states=True).hidden_states
        features = hidden[-1][0, 1:]
        first = matrix("mm.0.weight", HIDDEN, WIDTH).double(), bias("mm.0.bias", HIDDEN).double()
        second = matrix("mm.2.weight", HIDDEN, HIDDEN).double(), bias("mm.2.bias", HIDDEN).double()
        linear = torch.nn.functional.linear
        projected = linear(torch.nn.functional.gelu(linear(features, *first)), *second)
        golden = {
            "pixels": image,
            "embedded": tower.embeddings(image)[0],
            "normed": hidden[0][0],
            **{f"block.{i}": state[0] for i, state in enumerate(hidden[1:])},
            "projected": projected,
        }
    samples = {}
    for stage, array in golden.items():
        flat = array.reshape(-1)
        places = words(f"places.{stage}", SAMPLES) % np.uint64(flat.numel())
        size = flat.square().mean().sqrt()
        sample = flat[torch.from_numpy(places.astype(np.int64))]
        samples[stage] = torch.cat([sample, size[None]]).float()
        print(f"{stage}: {size:.3f}, largest {flat.abs().max():.3f}")
    save_file(samples, HERE / "clip_l.safetensors")


if __name__ == "__main__":
    main()
