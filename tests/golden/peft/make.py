"""Makes PEFT folders as PEFT saves them, and what the models they adapt answer.

    python tests/golden/peft/make.py             # torch 2.15, transformers 5.23, peft 0.21, gguf 0.19

The base is ../llama/grouped_heads.gguf, loaded into transformers. Every folder here is an adapter:
    plain             every linear layer, rank 4, alpha 8
    patterned         three kinds, rsLoRA, a rank and an alpha of their own, stored as bfloat16
    llava             of LlavaForConditionalGeneration, whose vision tower it leaves alone
    llava_before_452  the same with the names of transformers before 4.52
    chosen            layers and modules by list, regular expressions for ranks, stored as float16
    llava_code        what LLaVA's own trainer leaves, by docs/scripts/llava_bin_to_safetensors.py
logits.safetensors holds tokens [T] and, under the name of each folder, logits [T, V].
merged.safetensors holds what merge_and_unload makes of the base with `patterned`, in f32, f16 and
bf16: <type>.<name in GGUF>, rows in GGUF's order.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

HERE = pathlib.Path(__file__).parent
BASE = HERE.parent / "llama" / "grouped_heads.gguf"
TOKENS = 24
SITES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
WHOLE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def base():
    """The configuration and weights of BASE, as transformers wants them."""
    reader = gguf.GGUFReader(BASE)

    def key(name):
        field = reader.fields[f"llama.{name}"]
        return field.parts[field.data[0]][0].item()

    config = LlamaConfig(
        vocab_size=80,
        hidden_size=key("embedding_length"),
        intermediate_size=key("feed_forward_length"),
        num_hidden_layers=key("block_count"),
        num_attention_heads=key("attention.head_count"),
        num_key_value_heads=key("attention.head_count_kv"),
        max_position_embeddings=key("context_length"),
        rms_norm_eps=key("attention.layer_norm_rms_epsilon"),
        attn_implementation="eager",
    )
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    weights = {}
    for tensor in reader.tensors:
        rows = np.array(tensor.data)
        name = WHOLE.get(tensor.name)
        if name is None:
            _, layer, site, _ = tensor.name.split(".")
            name = f"model.layers.{layer}.{SITES[site]}.weight"
            if site in heads:
                pairs = rows.reshape(heads[site], -1, 2, rows.shape[-1])
                rows = pairs.swapaxes(1, 2).reshape(rows.shape)
        weights[name] = torch.tensor(rows)
    return config, weights


def adapted(model, config, dtype=torch.float32):
    """PEFT's model with every factor random, rounded to the type it will be stored in."""
    model = get_peft_model(model, config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
            parameter.data = parameter.data.to(dtype).float()
    return model.eval()


def save(model, name, dtype=torch.float32):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    path = folder / "adapter_model.safetensors"
    save_file({k: v.to(dtype) for k, v in load_file(path).items()}, path, {"format": "pt"})
    (folder / "README.md").unlink(missing_ok=True)


def rename(source, target, old, new):
    shutil.rmtree(HERE / target, ignore_errors=True)
    shutil.copytree(HERE / source, HERE / target)
    path = HERE / target / "adapter_model.safetensors"
    save_file({k.replace(old, new): v for k, v in load_file(path).items()}, path, {"format": "pt"})


def chosen(model):
    """A folder whose configuration leaves most modules out."""
    config = LoraConfig(
        r=2,
        lora_alpha=3,
        target_modules=["self_attn.q_proj", "up_proj", "o_proj"],
        layers_to_transform=[1],
        layers_pattern="layers",
        exclude_modules=["o_proj"],
        rank_pattern={r"layers\.\d+\.self_attn\.q_proj": 6},
        alpha_pattern={r"^model\.layers\.1\.mlp\.\w+": 7},
        init_lora_weights="orthogonal",
    )
    return adapted(model, config, torch.float16)


def merged(config, weights):
    """The adapted matrices as PEFT merges them into a base of each type."""
    out = {}
    for name, dtype in [("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16)]:
        model = LlamaForCausalLM(config)
        model.load_state_dict(weights)
        model = PeftModel.from_pretrained(model.to(dtype), HERE / "patterned").merge_and_unload()
        state = model.state_dict()
        for site in ["attn_q", "attn_v", "ffn_down"]:
            for layer in range(config.num_hidden_layers):
                rows = state[f"model.layers.{layer}.{SITES[site]}.weight"]
                if site == "attn_q":
                    halves = rows.reshape(config.num_attention_heads, 2, -1, rows.shape[-1])
                    rows = halves.swapaxes(1, 2).reshape(rows.shape)
                out[f"{name}.blk.{layer}.{site}.weight"] = rows.contiguous().clone()
    save_file(out, HERE / "merged.safetensors")


def llava_code():
    """What LLaVA's trainer leaves after a LoRA run, and what the script makes of it: the tensors of
    `plain` with an adapter's name in them, and a projector for ../llava."""
    script = HERE.parents[2] / "docs" / "scripts" / "llava_bin_to_safetensors.py"
    old = HERE.parent / "llava" / "mmproj.gguf"
    out = HERE / "llava_code"
    shutil.rmtree(out, ignore_errors=True)
    projector = {}
    for tensor in gguf.GGUFReader(old).tensors:
        if tensor.name.startswith("mm."):
            name = "base_model.model.model.mm_projector." + tensor.name.removeprefix("mm.")
            shape = tuple(int(n) for n in reversed(tensor.shape))
            projector[name] = torch.randn(shape).to(torch.bfloat16)
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        shutil.copy(HERE / "plain" / "adapter_config.json", place)
        tensors = load_file(HERE / "plain" / "adapter_model.safetensors")
        named = {k.replace(".weight", ".default.weight"): v for k, v in tensors.items()}
        torch.save(named, place / "adapter_model.bin")
        torch.save(projector, place / "non_lora_trainables.bin")
        (place / "config.json").write_text("{}")
        command = [sys.executable, script, place, "-o", out, "--mmproj", old]
        subprocess.run(command, check=True)
    projector = {k.rsplit("mm_projector.", 1)[1]: v.float() for k, v in projector.items()}
    save_file(projector, HERE / "llava_code_projector.safetensors")


def main():
    torch.manual_seed(0)
    config, weights = base()
    tokens = torch.randint(0, config.vocab_size, (TOKENS,))
    golden = {"tokens": tokens.int()}

    def llama():
        model = LlamaForCausalLM(config)
        model.load_state_dict(weights)
        return model

    def answer(model):
        return model(input_ids=tokens[None]).logits[0].detach().contiguous().clone()

    plain = LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, task_type="CAUSAL_LM")
    model = adapted(llama(), plain)
    golden["plain"] = answer(model)
    save(model, "plain")

    patterned = LoraConfig(
        r=4,
        lora_alpha=6,
        use_rslora=True,
        target_modules=["q_proj", "v_proj", "down_proj"],
        rank_pattern={"layers.1.self_attn.q_proj": 8},
        alpha_pattern={"v_proj": 3},
        lora_dropout=0.1,
    )
    model = adapted(llama(), patterned, torch.bfloat16)
    golden["patterned"] = answer(model)
    save(model, "patterned", torch.bfloat16)

    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    whole = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=config, image_token_index=79)
    )
    inner = {k.removeprefix("model."): v for k, v in weights.items() if k != "lm_head.weight"}
    whole.model.language_model.load_state_dict(inner)
    whole.lm_head.weight.data = weights["lm_head.weight"]
    llava = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=r".*language_model.*\.(q_proj|k_proj|down_proj)",
    )
    tokens %= 79  # 79 stands for an image there
    golden["llava_tokens"] = tokens.int()
    model = adapted(whole, llava)
    golden["llava"] = answer(model)
    save(model, "llava")
    rename("llava", "llava_before_452", "model.language_model.", "language_model.model.")

    model = chosen(llama())
    tokens = golden["tokens"].long()
    golden["chosen"] = answer(model)
    save(model, "chosen", torch.float16)
    save_file(golden, HERE / "logits.safetensors")
    merged(config, weights)
    llava_code()


if __name__ == "__main__":
    main()
