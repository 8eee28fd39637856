"""Golden numbers of stories260K.gguf, a small model that others trained: logits by transformers,
greedy text by llama.cpp.

    python tests/golden/llama/stories.py <stories260K.gguf>
    # torch 2.15, transformers 5.23, gguf 0.19, llama-cpp-python 0.3.36

Writes stories260K.safetensors (tokens [T], logits of every fourth position [T / 4, V]) and
stories260K.json: pairs of a prompt and its continuation by 60 tokens.
"""

import json
import pathlib
import sys

import gguf
import numpy as np
import torch
from llama_cpp import Llama
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from make import SITES

HERE = pathlib.Path(__file__).parent
PROMPTS = ["Once upon a time", "Lily and Tom went to the", "The little dog was sad because"]


def half_split(rows, heads):
    """GGUF's interleaved rotary rows in HF's order."""
    shape = rows.shape
    return rows.reshape(heads, shape[0] // heads // 2, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def to_transformers(path):
    reader = gguf.GGUFReader(path)
    key = lambda name: reader.fields[f"llama.{name}"].contents()
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=key("embedding_length"),
        intermediate_size=key("feed_forward_length"),
        num_hidden_layers=key("block_count"),
        num_attention_heads=key("attention.head_count"),
        num_key_value_heads=key("attention.head_count_kv"),
        rms_norm_eps=key("attention.layer_norm_rms_epsilon"),
        max_position_embeddings=key("context_length"),
    )
    tensors = {t.name.removesuffix(".weight"): torch.tensor(np.array(t.data)) for t in reader.tensors}
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    weights = {
        "model.embed_tokens.weight": tensors["token_embd"],
        "model.norm.weight": tensors["output_norm"],
        "lm_head.weight": tensors["output"],
    }
    for layer in range(config.num_hidden_layers):
        hf, blk = f"model.layers.{layer}", f"blk.{layer}"
        weights[f"{hf}.input_layernorm.weight"] = tensors[f"{blk}.attn_norm"]
        weights[f"{hf}.post_attention_layernorm.weight"] = tensors[f"{blk}.ffn_norm"]
        for module, site in SITES.items():
            rows = tensors[f"{blk}.{site}"]
            rows = half_split(rows, heads[site]) if site in heads else rows
            weights[f"{hf}.{module}.weight"] = rows
    model = LlamaForCausalLM(config).eval()
    model.load_state_dict(weights)
    return model


def main():
    path = sys.argv[1]
    llama = Llama(path, n_ctx=256, verbose=False)
    tokens = llama.tokenize(" ".join(PROMPTS).encode())
    with torch.no_grad():
        logits = to_transformers(path)(torch.tensor([tokens])).logits[0, 3::4]
    golden = {"tokens": torch.tensor(tokens).int(), "logits": logits.contiguous()}
    save_file(golden, HERE / "stories260K.safetensors")
    texts = []
    for prompt in PROMPTS:
        llama.reset()
        answer = llama(prompt, max_tokens=60, temperature=0.0)["choices"][0]["text"]
        texts.append([prompt, answer])
    (HERE / "stories260K.json").write_text(json.dumps(texts, indent=1) + "\n")


if __name__ == "__main__":
    main()
