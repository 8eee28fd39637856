"""Makes the golden files of the vision-language model: a tiny random LLaVA as text and mmproj GGUF
in llama.cpp's layout, with every stage by transformers and a training run by PyTorch and PEFT.

    python tests/golden/llava/make.py            # torch 2.15, transformers 5.23, peft 0.21, gguf 0.19

mmproj.gguf             the vision half as the converters of 2024 write it: 19 keys, F16 matrices,
                        the last block not stored
text.gguf               the language model, F32
text_quantized.gguf     another, its matrices in six block types
stages.safetensors      what every stage makes of the first formula image:
    pixels [3, S, S], embedded [1 + P, Wv], normed [1 + P, Wv], block.<i> [1 + P, Wv],
    features [P, Wv], projected [P, W];
    ids [T] with -200 for the image, logits [T', V] of it with the image's P rows spliced in;
    last_block.<tensor>   the block that mmproj.gguf leaves out
    cycled.<n> [P, Wv]    hidden state n of a tower whose block i is block i % 4
text{,_quantized}.safetensors   a training run of ten updates, all in GGUF's row order; <p> is
                        <site>.weight.lora_{a,b} or a tensor of the projector:
    initial.<p>, gradient.<p> (of the first update, before clipping), final.<p>
    loss [10], grad_norm [10], lr [10]
"""

import pathlib

import gguf
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    get_cosine_schedule_with_warmup,
)

HERE = pathlib.Path(__file__).parent
SIZE, PATCH, PATCHES, BLOCKS, VOCABULARY, IMAGE = 30, 6, 25, 4, 96, -200
RANK, ALPHA = 4, 8
SITES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
BLOCK = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
    "layer_norm1": "ln1",
    "layer_norm2": "ln2",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}
PROJECTOR = {"linear_1": "mm.0", "linear_2": "mm.2"}
Q = gguf.GGMLQuantizationType
QUANTIZED = {
    "attn_q": [Q.Q4_0, Q.Q8_0],
    "attn_k": [Q.Q8_0, Q.Q5_0],
    "attn_v": [Q.Q5_0, Q.Q8_0],
    "attn_output": [Q.Q8_0, Q.Q4_0],
    "ffn_gate": [Q.Q4_0, Q.Q8_0],
    "ffn_up": [Q.Q5_0, Q.Q4_0],
    "ffn_down": [Q.Q4_K, Q.Q6_K],
}

# Width and height of the formula images.
IMAGES = [(40, 28), (25, 33), (30, 30), (3, 70)]
# Ids (-200 is an image), how many of the last ids are learned, the images. The fourth is cut inside
# its second image.
MAX_TOKENS = 64
SAMPLES = [
    ([1, IMAGE, 5, 17, 33, 8, 60, 61, 2], 4, [0]),
    ([1, 9, 12, 70, 71, 72, 73, 2], 3, []),
    ([1, 4, IMAGE, 6, IMAGE, 7, 80, 81, 82, 83, 2], 5, [1, 2]),
    ([1, IMAGE, *range(30, 46), IMAGE, 50, 51, 52, 2], 15, [3, 0]),
    ([1, IMAGE, 50, 51, 2], 2, [2]),
]
BATCH, ACCUMULATION, STEPS = 2, 2, 10
LR, PROJECTOR_LR, WEIGHT_DECAY, CLIP, WARMUP = 1e-2, 5e-3, 0.05, 1.0, 0.15


def formula_image(width, height):
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    channels = [x * (7 + c) + y * (13 + 2 * c) + x * y // (5 + c) for c in range(3)]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8), "RGB")


def pixels(image):
    """LLaVA's expand2square, then CLIP's own processor."""
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size=SIZE)
    side = max(image.size)
    background = tuple(int(mean * 255) for mean in processor.image_mean)
    square = Image.new("RGB", (side, side), background)
    square.paste(image, ((side - image.size[0]) // 2, (side - image.size[1]) // 2))
    return processor(square, return_tensors="pt")["pixel_values"][0]


def build(seed, feed_forward):
    torch.manual_seed(seed)
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=80,
        num_hidden_layers=BLOCKS,
        num_attention_heads=2,
        image_size=SIZE,
        patch_size=PATCH,
        hidden_act="quick_gelu",
        layer_norm_eps=1e-5,
    )
    text = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=feed_forward,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        rms_norm_eps=1e-5,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=VOCABULARY - 1,
        image_seq_length=PATCHES,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        attn_implementation="eager",
    )
    model = LlavaForConditionalGeneration(config).eval()
    for name, parameter in model.named_parameters():
        norm = "norm" in name or "layrnorm" in name
        if norm and name.endswith("weight"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.2)
        else:
            torch.nn.init.normal_(parameter, std=0.2 if parameter.shape[-1] < 100 else 0.08)
    return model


def set_value(parameter, values):
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.array(values)).reshape(parameter.shape))


def interleave(rows, heads):
    """HF's half-split rotary rows in GGUF's order."""
    shape = rows.shape
    return rows.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def separate(rows, heads):
    """The inverse."""
    shape = rows.shape
    return rows.reshape(heads, shape[0] // heads // 2, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def heads_of(site):
    return {"attn_q": 4, "attn_k": 2}.get(site)


def gguf_rows(rows, site):
    return interleave(rows, heads_of(site)) if heads_of(site) else rows


def blocks(rows, kind):
    """Rows as blocks. For the types that gguf cannot encode, random blocks of plausible size."""
    if kind in (Q.Q4_K, Q.Q6_K):
        block, size = gguf.GGML_QUANT_SIZES[kind]
        count = rows.size // block
        raw = torch.randint(0, 256, (count, size), dtype=torch.uint8).numpy()
        scale = np.full((count, 1), 1e-4 if kind == Q.Q6_K else 6e-4, np.float16).view(np.uint8)
        if kind == Q.Q4_K:
            least = np.full((count, 1), 4e-3, np.float16).view(np.uint8)
            raw = np.concatenate([scale, least, raw[:, 4:]], 1)
        else:
            raw = np.concatenate([raw[:, :-2], scale], 1)
        return raw.reshape(rows.shape[0], -1)
    return gguf.quants.quantize(rows, kind)


def add(out, name, parameter, kind, site=None):
    """Adds a tensor, and sets the parameter to what its blocks say."""
    rows = gguf_rows(parameter.detach().numpy(), site)
    if kind == Q.F32:
        out.add_tensor(name, np.ascontiguousarray(rows))
        return
    if kind == Q.F16:
        half = rows.astype(np.float16)
        out.add_tensor(name, np.ascontiguousarray(half))
        decoded = half.astype(np.float32)
    else:
        data = blocks(rows, kind)
        out.add_tensor(name, data, raw_dtype=kind)
        decoded = gguf.quants.dequantize(data, kind)
    decoded = decoded.reshape(rows.shape)
    set_value(parameter, separate(decoded, heads_of(site)) if heads_of(site) else decoded)


def finish(out):
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def write_text(path, model, quantized):
    config, llama = model.config.text_config, model.model.language_model
    out = gguf.GGUFWriter(path, "llama")
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_block_count(config.num_hidden_layers)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_freq_base(config.rope_parameters["rope_theta"])
    kind = Q.Q8_0 if quantized else Q.F32
    add(out, "token_embd.weight", llama.embed_tokens.weight, kind)
    add(out, "output_norm.weight", llama.norm.weight, Q.F32)
    add(out, "output.weight", model.lm_head.weight, kind)
    for i, layer in enumerate(llama.layers):
        add(out, f"blk.{i}.attn_norm.weight", layer.input_layernorm.weight, Q.F32)
        add(out, f"blk.{i}.ffn_norm.weight", layer.post_attention_layernorm.weight, Q.F32)
        for module, site in SITES.items():
            kind = QUANTIZED[site][i] if quantized else Q.F32
            add(out, f"blk.{i}.{site}.weight", layer.get_submodule(module).weight, kind, site)
    finish(out)


def write_mmproj(path, model):
    tower = model.model.vision_tower
    processor = CLIPImageProcessorPil()
    out = gguf.GGUFWriter(path, "clip")
    out.add_bool("clip.has_text_encoder", False)
    out.add_bool("clip.has_vision_encoder", True)
    out.add_bool("clip.has_llava_projector", True)
    out.add_file_type(1)
    out.add_name("tiny random tower")
    out.add_description("image encoder for LLaVA")
    out.add_string("clip.projector_type", "mlp")
    out.add_uint32("clip.vision.image_size", SIZE)
    out.add_uint32("clip.vision.patch_size", PATCH)
    out.add_uint32("clip.vision.embedding_length", 32)
    out.add_uint32("clip.vision.feed_forward_length", 80)
    out.add_uint32("clip.vision.projection_dim", 768)
    out.add_uint32("clip.vision.attention.head_count", 2)
    out.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    out.add_uint32("clip.vision.block_count", BLOCKS - 1)
    out.add_array("clip.vision.image_mean", list(processor.image_mean))
    out.add_array("clip.vision.image_std", list(processor.image_std))
    out.add_bool("clip.use_gelu", False)
    embeddings = tower.embeddings
    add(out, "v.class_embd", embeddings.class_embedding, Q.F32)
    add(out, "v.patch_embd.weight", embeddings.patch_embedding.weight, Q.F16)
    add(out, "v.position_embd.weight", embeddings.position_embedding.weight, Q.F16)
    add(out, "v.pre_ln.weight", tower.pre_layrnorm.weight, Q.F32)
    add(out, "v.pre_ln.bias", tower.pre_layrnorm.bias, Q.F32)
    for i, block in enumerate(tower.encoder.layers[:-1]):
        for module, name in BLOCK.items():
            part = block.get_submodule(module)
            kind = Q.F16 if part.weight.ndim == 2 else Q.F32
            add(out, f"v.blk.{i}.{name}.weight", part.weight, kind)
            add(out, f"v.blk.{i}.{name}.bias", part.bias, Q.F32)
    for module, name in PROJECTOR.items():
        part = model.model.multi_modal_projector.get_submodule(module)
        add(out, f"{name}.weight", part.weight, Q.F16)
        add(out, f"{name}.bias", part.bias, Q.F32)
    finish(out)


def expand(ids):
    """Ids as the model takes them: an image is as many image tokens as it has patches."""
    token = VOCABULARY - 1
    return [t for i in ids for t in ([token] * PATCHES if i == IMAGE else [i])]


def cycled(tower, depth):
    """The hidden states of a deeper tower that uses the same blocks again."""
    config = CLIPVisionConfig(**{**tower.config.to_dict(), "num_hidden_layers": depth})
    deep = CLIPVisionModel(config).eval()
    state = tower.state_dict()
    for name in list(deep.state_dict()):
        if ".layers." in name:
            head, tail = name.split(".layers.")
            index, leaf = tail.split(".", 1)
            state[name] = state[f"{head}.layers.{int(index) % BLOCKS}.{leaf}"]
    deep.load_state_dict(state)
    return deep


def stages(model):
    tower, image = model.model.vision_tower, pixels(formula_image(*IMAGES[0]))
    with torch.no_grad():
        embedded = tower.embeddings(image[None])[0]
        hidden = tower(image[None], output_hidden_states=True).hidden_states
        ids = SAMPLES[0][0]
        tokens = torch.tensor([expand(ids)])
        golden = {
            "pixels": image,
            "embedded": embedded,
            "normed": hidden[0][0],
            **{f"block.{i}": state[0] for i, state in enumerate(hidden[1:])},
            "features": hidden[-2][0, 1:],
            "projected": model.model.multi_modal_projector(hidden[-2][:, 1:])[0],
            "ids": torch.tensor(ids, dtype=torch.int32),
            "logits": model(input_ids=tokens, pixel_values=image[None]).logits[0],
        }
        deep = cycled(tower, 24)(image[None], output_hidden_states=True).hidden_states
        golden |= {f"cycled.{n}": deep[n][0, 1:] for n in (21, 22, 23, 24)}
    last = tower.encoder.layers[-1]
    for module, name in BLOCK.items():
        part = last.get_submodule(module)
        golden |= {f"last_block.{name}.{leaf}": p for leaf, p in part.named_parameters()}
    return golden


def train(model):
    """Ten updates as transformers' trainer makes them, with samples in their order."""
    config = model.config.text_config
    lora = LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=r".*language_model\..*_proj", lora_dropout=0.0
    )
    peft = get_peft_model(model, lora)
    named = {}
    for i in range(config.num_hidden_layers):
        for module, site in SITES.items():
            linear = peft.base_model.model.model.language_model.layers[i].get_submodule(module)
            for half, side in (("a", linear.lora_A), ("b", linear.lora_B)):
                parameter = side["default"].weight
                torch.nn.init.normal_(parameter, std=0.15)
                named[f"blk.{i}.{site}.weight.lora_{half}"] = parameter
    for module, name in PROJECTOR.items():
        part = peft.base_model.model.model.multi_modal_projector.get_submodule(module)
        named |= {f"{name}.weight": part.weight, f"{name}.bias": part.bias}
    for parameter in peft.parameters():
        parameter.requires_grad_(any(parameter is p for p in named.values()))

    def in_gguf_order(prefix, values):
        out = {}
        for name, value in values.items():
            site = name.split(".")[2] if name.endswith("lora_b") else None
            out[f"{prefix}.{name}"] = gguf_rows(value.detach().clone(), site)
        return out

    golden = in_gguf_order("initial", named)
    groups = [
        {"params": [p for n, p in named.items() if n.startswith("blk.")], "lr": LR},
        {"params": [named["mm.0.weight"], named["mm.2.weight"]], "lr": PROJECTOR_LR},
        {
            "params": [named["mm.0.bias"], named["mm.2.bias"]],
            "lr": PROJECTOR_LR,
            "weight_decay": 0.0,
        },
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
    warmup = int(np.ceil(WARMUP * STEPS))
    schedule = get_cosine_schedule_with_warmup(optimizer, warmup, STEPS)
    images = [pixels(formula_image(*size)) for size in IMAGES]

    def forward(sample):
        """The summed loss and the number of learned tokens."""
        ids, learned, shown = sample
        labels = [-100] * (len(ids) - learned) + [i if i > 0 else -100 for i in ids[-learned:]]
        spread = [
            label
            for i, label in zip(ids, labels)
            for label in ([-100] * PATCHES if i == IMAGE else [label])
        ]
        # The cut comes after the expansion: so the rows are made first, and cut as rows.
        tokens = torch.tensor([expand(ids)])
        rows = peft.get_input_embeddings()(tokens)
        if shown:
            pictures = torch.stack([images[i] for i in shown])
            tower = peft.base_model.model.model
            hidden = tower.vision_tower(pictures, output_hidden_states=True).hidden_states[-2]
            projected = tower.multi_modal_projector(hidden[:, 1:]).reshape(-1, rows.shape[-1])
            rows = rows.masked_scatter((tokens == VOCABULARY - 1)[..., None], projected)
        rows, labels = rows[:, :MAX_TOKENS], torch.tensor(spread[:MAX_TOKENS])
        logits = peft(inputs_embeds=rows).logits[0]
        loss = torch.nn.functional.cross_entropy(logits[:-1], labels[1:], reduction="sum")
        return loss, int((labels[1:] != -100).sum())

    per_update = BATCH * ACCUMULATION
    updates = [SAMPLES[i : i + per_update] for i in range(0, len(SAMPLES), per_update)]
    report = {"loss": [], "grad_norm": [], "lr": []}
    for step in range(STEPS):
        chosen = updates[step % len(updates)]
        micro_batches = [chosen[i : i + BATCH] for i in range(0, len(chosen), BATCH)]
        optimizer.zero_grad()
        total = 0.0
        for micro in micro_batches:
            losses, counts = zip(*[forward(sample) for sample in micro])
            loss = sum(losses) / sum(counts) / len(micro_batches)
            loss.backward()
            total += loss.item()
        if step == 0:
            golden |= in_gguf_order("gradient", {n: p.grad for n, p in named.items()})
        norm = torch.nn.utils.clip_grad_norm_(list(named.values()), CLIP)
        report["loss"].append(total)
        report["grad_norm"].append(norm.item())
        report["lr"].append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    print(report)
    return golden | in_gguf_order("final", named) | {k: torch.tensor(v) for k, v in report.items()}


def save(path, golden):
    tensors = {k: v.detach().contiguous().clone() for k, v in golden.items()}
    save_file({k: v if v.dtype == torch.int32 else v.float() for k, v in tensors.items()}, path)


def main():
    model = build(1, feed_forward=48)
    write_mmproj(HERE / "mmproj.gguf", model)
    write_text(HERE / "text.gguf", model, quantized=False)
    save(HERE / "stages.safetensors", stages(model))
    # The second language model sees through the same tower and projector.
    vision = {k: v.clone() for k, v in model.state_dict().items() if ".vision_tower" in k or "multi" in k}
    save(HERE / "text.safetensors", train(model))
    model = build(2, feed_forward=256)
    model.load_state_dict(vision, strict=False)
    write_text(HERE / "text_quantized.gguf", model, quantized=True)
    save(HERE / "text_quantized.safetensors", train(model))


if __name__ == "__main__":
    main()
