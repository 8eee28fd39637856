"""Makes losses.json: the loss of every update of two training runs, by PyTorch, transformers and PEFT.

    cargo build --release
    target/release/graft convert --plugin ubiai runtime/cli/demo/digits/train/export.json \\
        --assets runtime/cli/demo/digits/train/images -o digits.json
    python tests/golden/curves/make.py target/release/graft digits.json <stories260K.gguf>
    # 28 November 2026: torch 2.15.0 on the CPU, transformers 5.24, peft 0.21, gguf 0.19, pillow 13.0

text.json     42 conversations in the voice of a lighthouse log, written for this; the base is
              stories260K.gguf, which knows fairy tales
demo.json     the first scans of the demo's training data, cut from what `graft convert` wrote; the
              base is the demo's own model, its blocks decoded to F32
losses.json   for each run the options that differ from graft's own, and for every update
    loss            mean over the learned tokens of a micro-batch, averaged over micro-batches
    grad_norm       before clipping
    learned_tokens

What is graft's here: the ids of a text (`graft tokenize`), and the order of the samples, a formula
that is repeated below. The labels, pixels, decoded blocks, model, adapter, loss, gradients and
updates are not. Both sides begin with the same A, a formula again (`values`), and B = 0.
With --adapters DIR, each run's initial and final adapter are also saved there as PEFT folders;
with --f64, everything is computed in f64, which shows how much of a difference is rounding.
"""

import argparse
import json
import pathlib
import subprocess

import gguf
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    get_cosine_schedule_with_warmup,
)

HERE = pathlib.Path(__file__).parent
DEMO = HERE.parents[2] / "runtime" / "cli" / "demo"
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
IGNORED = -100
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
# As in graft's TrainOptions; what is not here is its default.
TEXT = {
    "rank": 8,
    "alpha": 16.0,
    "epochs": 15,
    "batch": 2,
    "grad_accum": 2,
    "lr": 2e-3,
    "warmup_ratio": 0.03,
    "weight_decay": 0.01,
    "clip": 1.0,
    "seed": 42,
}
# The demo's, but for the length.
DEMO_OPTIONS = {
    "rank": 16,
    "alpha": 32.0,
    "epochs": 1,
    "batch": 4,
    "grad_accum": 1,
    "lr": 1e-3,
    "warmup_ratio": 0.03,
    "weight_decay": 0.0,
    "clip": 1.0,
    "seed": 42,
}
DEMO_SAMPLES = 400

# --- formulas that graft or its test repeats


class SplitMix:
    """SplitMix64 (Steele, Lea & Flood 2014)."""

    def __init__(self, state):
        self.state = state

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = self.state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)


def order(count, seed, epoch):
    """The samples of an epoch: graft's `Order::Shuffled`."""
    random, indices = SplitMix(seed ^ (epoch * 0xD1342543DE82EF95 % 2**64)), list(range(count))
    for i in range(count - 1, 0, -1):
        j = random.next() % (i + 1)
        indices[i], indices[j] = indices[j], indices[i]
    return indices


def values(name, shape, spread):
    """Numbers from -spread to spread: tests/model/seeded.rs."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    random = SplitMix(state)
    unit = [(random.next() >> 40) / 2**23 - 1.0 for _ in range(int(np.prod(shape)))]
    return torch.from_numpy(np.array(unit, np.float32) * np.float32(spread)).reshape(shape)


# --- models


class Tensors:
    """A GGUF file, its blocks decoded by the gguf package."""

    def __init__(self, path):
        self.reader = gguf.GGUFReader(path)
        self.tensors = {t.name: t for t in self.reader.tensors}

    def key(self, name, otherwise=None):
        field = self.reader.fields.get(name)
        return otherwise if field is None else field.contents()

    def get(self, name):
        tensor = self.tensors[name]
        data = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        shape = tuple(int(n) for n in reversed(tensor.shape))
        return torch.tensor(np.array(data, np.float32)).reshape(shape)


def half_split(rows, heads):
    """GGUF's interleaved rotary rows in HF's order."""
    shape = rows.shape
    return rows.reshape(heads, shape[0] // heads // 2, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def llama(file):
    """Configuration and weights, named as in LlamaModel, and the output matrix."""
    key = lambda name, otherwise=None: file.key(f"llama.{name}", otherwise)
    config = LlamaConfig(
        vocab_size=len(file.key("tokenizer.ggml.tokens")),
        hidden_size=key("embedding_length"),
        intermediate_size=key("feed_forward_length"),
        num_hidden_layers=key("block_count"),
        num_attention_heads=key("attention.head_count"),
        num_key_value_heads=key("attention.head_count_kv"),
        rms_norm_eps=key("attention.layer_norm_rms_epsilon"),
        max_position_embeddings=key("context_length"),
        rope_theta=key("rope.freq_base", 10000.0),
        pad_token_id=None,
    )
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    weights = {
        "embed_tokens.weight": file.get("token_embd.weight"),
        "norm.weight": file.get("output_norm.weight"),
    }
    for i in range(config.num_hidden_layers):
        hf, blk = f"layers.{i}", f"blk.{i}"
        weights[f"{hf}.input_layernorm.weight"] = file.get(f"{blk}.attn_norm.weight")
        weights[f"{hf}.post_attention_layernorm.weight"] = file.get(f"{blk}.ffn_norm.weight")
        for module, site in SITES.items():
            rows = file.get(f"{blk}.{site}.weight")
            rows = half_split(rows, heads[site]) if site in heads else rows
            weights[f"{hf}.{module}.weight"] = rows
    return config, weights, file.get("output.weight")


def language_model(path):
    config, weights, output = llama(Tensors(path))
    model = LlamaForCausalLM(config)
    weights = {f"model.{name}": w for name, w in weights.items()}
    model.load_state_dict(weights | {"lm_head.weight": output})
    return model, model.model


def vision_model(text_path, mmproj_path):
    text, weights, output = llama(Tensors(text_path))
    file = Tensors(mmproj_path)
    key = lambda name: file.key(f"clip.vision.{name}")
    vision = CLIPVisionConfig(
        hidden_size=key("embedding_length"),
        intermediate_size=key("feed_forward_length"),
        num_hidden_layers=key("block_count"),
        num_attention_heads=key("attention.head_count"),
        image_size=key("image_size"),
        patch_size=key("patch_size"),
        layer_norm_eps=key("attention.layer_norm_epsilon"),
        hidden_act="quick_gelu",
    )
    patches = (vision.image_size // vision.patch_size) ** 2
    # The file leaves out the last block, whose output LLaVA does not look at.
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=3,  # the byte 0, which no text has
        image_seq_length=patches,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    model = LlavaForConditionalGeneration(config)
    model.model.language_model.load_state_dict(weights)
    tower = {
        "embeddings.class_embedding": file.get("v.class_embd"),
        "embeddings.patch_embedding.weight": file.get("v.patch_embd.weight"),
        "embeddings.position_embedding.weight": file.get("v.position_embd.weight"),
        "pre_layrnorm.weight": file.get("v.pre_ln.weight"),
        "pre_layrnorm.bias": file.get("v.pre_ln.bias"),
    }
    for i in range(vision.num_hidden_layers):
        for module, name in BLOCK.items():
            for leaf in ("weight", "bias"):
                tensor = file.get(f"v.blk.{i}.{name}.{leaf}")
                tower[f"encoder.layers.{i}.{module}.{leaf}"] = tensor
    missing, unexpected = model.model.vision_tower.load_state_dict(tower, strict=False)
    assert not unexpected and all("post_layernorm" in k for k in missing), (missing, unexpected)
    projector = {
        f"linear_{n}.{leaf}": file.get(f"mm.{m}.{leaf}")
        for n, m in ((1, 0), (2, 2))
        for leaf in ("weight", "bias")
    }
    model.model.multi_modal_projector.load_state_dict(projector)
    model.lm_head.load_state_dict({"weight": output})
    mean, std = key("image_mean"), key("image_std")
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": vision.image_size},
        crop_size=vision.image_size,
        image_mean=mean,
        image_std=std,
    )
    return model, model.model.language_model, processor


# --- samples


class Prompts:
    """Ids and labels of conversations in LLaVA's vicuna_v1 template."""

    def __init__(self, graft, model):
        self.command = [graft, "--json", "tokenize", "-m", model]

    def tokenize(self, texts):
        arguments = [a for text in texts for a in ("-p", text)]
        done = subprocess.run(self.command + arguments, check=True, stdout=subprocess.PIPE)
        return [line["ids"] for line in json.loads(done.stdout)]

    def of(self, sample, image_ids):
        """`image_ids` stand where the image does."""
        turns = [turn["value"] for turn in sample["conversations"]]
        texts, front = [f"{SYSTEM} "], []
        if "image" in sample:
            # LLaVA tokenizes what stands before and behind an image apart.
            (before,) = self.tokenize([f"{SYSTEM} USER: "])
            front, texts = before + image_ids, [""]
            turns[0] = turns[0].removeprefix("<image>")
        for i, (asked, said) in enumerate(zip(turns[::2], turns[1::2])):
            user = "" if front and i == 0 else "USER: "
            question = f"{texts[-1]}{user}{asked} ASSISTANT:"
            texts += [question, f"{question} {said}</s>"]
        runs = self.tokenize(texts[1:])
        whole = runs[-1]
        labels = [IGNORED] * len(whole)
        for question, answered in zip(runs[::2], runs[1::2]):
            assert whole[: len(answered)] == answered and answered[: len(question)] == question
            labels[len(question) : len(answered)] = whole[len(question) : len(answered)]
        if front:
            whole, labels = whole[1:], labels[1:]  # there is one <s>
            assert not set(image_ids) & {*before, *whole}
        return front + whole, [IGNORED] * len(front) + labels


def padded(rows, value):
    longest = max(len(row) for row in rows)
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])


# --- training


def train(model, decoder, samples, options, pixels=None, adapters=None):
    """`samples` are ids and labels; `pixels[i]` are those of sample i. `decoder` has the layers."""
    layers = len(decoder.layers)
    lora = LoraConfig(
        r=options["rank"],
        lora_alpha=options["alpha"],
        lora_dropout=0.0,
        target_modules=r".*(language_model|model)\.layers\.\d+\.(self_attn|mlp)\.\w+_proj",
        task_type="CAUSAL_LM",
    )
    peft = get_peft_model(model, lora)
    parameters = []
    for i in range(layers):
        for module, site in SITES.items():
            linear = decoder.layers[i].get_submodule(module)
            a, b = linear.lora_A["default"].weight, linear.lora_B["default"].weight
            assert not b.any()
            with torch.no_grad():
                a.copy_(values(f"blk.{i}.{site}.lora_a", a.shape, a.shape[1] ** -0.5))
            parameters += [a, b]
    trainable = [p for p in peft.parameters() if p.requires_grad]
    assert len(trainable) == len(parameters) == 14 * layers
    if adapters:
        peft.save_pretrained(adapters / "initial")
    optimizer = torch.optim.AdamW(
        trainable, lr=options["lr"], weight_decay=options["weight_decay"]
    )
    per_update = options["batch"] * options["grad_accum"]
    per_epoch = -(-len(samples) // per_update)
    steps = options["epochs"] * per_epoch
    warmup = int(np.ceil(options["warmup_ratio"] * steps))
    schedule = get_cosine_schedule_with_warmup(optimizer, warmup, steps)
    record = {"loss": [], "grad_norm": [], "learned_tokens": []}
    peft.train()
    for step in range(steps):
        epoch, place = divmod(step, per_epoch)
        chosen = order(len(samples), options["seed"], epoch)[place * per_update :][:per_update]
        micro_batches = [
            chosen[i : i + options["batch"]] for i in range(0, len(chosen), options["batch"])
        ]
        optimizer.zero_grad()
        total, learned = 0.0, 0
        for micro in micro_batches:
            ids = padded([samples[i][0] for i in micro], 0)
            labels = padded([samples[i][1] for i in micro], IGNORED)
            mask = padded([[1] * len(samples[i][0]) for i in micro], 0)
            shown = {} if pixels is None else {"pixel_values": torch.stack([pixels[i] for i in micro])}
            out = peft(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False, **shown)
            loss = out.loss / len(micro_batches)
            loss.backward()
            total += loss.item()
            learned += int((labels[:, 1:] != IGNORED).sum())
        norm = torch.nn.utils.clip_grad_norm_(trainable, options["clip"])
        optimizer.step()
        schedule.step()
        record["loss"].append(total)
        record["grad_norm"].append(norm.item())
        record["learned_tokens"].append(learned)
    if adapters:
        peft.save_pretrained(adapters / "final")
    losses = record["loss"]
    print(f"{steps} updates, loss {losses[0]:.4f}, at the end {np.mean(losses[-10:]):.4f}", flush=True)
    return {"options": options} | record


def document(records):
    """A line for each list. Seven digits are what f32 has."""
    short = lambda v: [n if isinstance(n, int) else float(f"{n:.7g}") for n in v]
    lines = lambda record: ",\n".join(
        f"  {json.dumps(key)}: {json.dumps(short(v) if isinstance(v, list) else v)}"
        for key, v in record.items()
    )
    parts = [f" {json.dumps(name)}: {{\n{lines(record)}\n }}" for name, record in records.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def write(path, records):
    path.write_text("[\n" + ",\n".join(json.dumps(r) for r in records) + "\n]\n")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("graft")
    parser.add_argument("digits", type=pathlib.Path)
    parser.add_argument("stories")
    parser.add_argument("--adapters", type=pathlib.Path)
    parser.add_argument("--f64", action="store_true")
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "losses.json")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    dtype = torch.float64 if options.f64 else torch.float32
    saved = lambda name: options.adapters and options.adapters / name
    records = {}

    prompts = Prompts(options.graft, options.stories)
    conversations = json.loads((HERE / "text.json").read_text())
    samples = [prompts.of(s, []) for s in conversations]
    model, decoder = language_model(options.stories)
    records["text"] = train(model.to(dtype), decoder, samples, TEXT, adapters=saved("text"))

    conversations = json.loads(options.digits.read_text())[:DEMO_SAMPLES]
    write(HERE / "demo.json", conversations)
    model, decoder, processor = vision_model(DEMO / "model.gguf", DEMO / "mmproj.gguf")
    prompts = Prompts(options.graft, DEMO / "model.gguf")
    image_ids = [model.config.image_token_id] * model.config.image_seq_length
    samples = [prompts.of(s, image_ids) for s in conversations]
    scans = [Image.open(DEMO / "digits/train/images" / s["image"]) for s in conversations]
    # Squares already, so LLaVA's expand2square leaves them as they are.
    assert all(scan.width == scan.height for scan in scans)
    scans = [scan.convert("RGB") for scan in scans]
    pixels = processor(scans, return_tensors="pt")["pixel_values"].to(dtype)
    records["demo"] = train(model.to(dtype), decoder, samples, DEMO_OPTIONS, pixels, saved("demo"))

    options.output.write_text(document(records))


if __name__ == "__main__":
    main()
