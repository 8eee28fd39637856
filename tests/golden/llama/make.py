"""Makes the golden files of the language model: tiny random models as GGUF, with logits by
transformers and gradients by PyTorch and PEFT.

    python tests/golden/llama/make.py            # torch 2.15, transformers 5.23, peft 0.21, gguf 0.19

Each <shape>.gguf is a model; <shape>.safetensors beside it holds
    tokens  [T]        what it was given
    logits  [T, V]     what it must answer
and for the shapes with an adapter, all in GGUF's row order:
    <site>.a, <site>.b            the LoRA factors (scale 2)
    dlogits [T, V]                the gradient of the loss, sum(logits * dlogits)
    adapted_logits [T, V]
    <site>.da, <site>.db, drows   its gradients; rows are the embeddings
"""

import pathlib

import gguf
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).parent
TOKENS, VOCABULARY, RANK, ALPHA = 24, 80, 4, 8

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
SHAPES = {
    "every_head_its_own": {"num_attention_heads": 4, "num_key_value_heads": 4},
    "grouped_heads": {"num_attention_heads": 4, "num_key_value_heads": 2},
    "tied_output": {
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "tie_word_embeddings": True,
    },
    "llama3_rope": {
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_theta": 500000.0, **LLAMA3},
    },
    "linear_rope": {
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "linear", "factor": 4.0},
    },
    "wide_heads": {"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 20},
}
WITH_ADAPTER = ["grouped_heads", "wide_heads"]

SITES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def interleave(rows, heads):
    """HF's half-split rotary rows in GGUF's order."""
    shape = rows.shape
    return rows.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def gguf_rows(rows, site, config):
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    return interleave(rows, heads[site]) if site in heads else rows


def llama3_factors(model, config):
    """What GGUF calls rope_freqs: plain frequency over scaled frequency."""
    dim = config.head_dim
    plain = config.rope_parameters["rope_theta"] ** (-torch.arange(0, dim, 2).double() / dim)
    return (plain / model.model.rotary_emb.inv_freq.double()).float()


def write_gguf(path, model, config):
    out = gguf.GGUFWriter(path, "llama")
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_block_count(config.num_hidden_layers)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_key_length(config.head_dim)
    out.add_value_length(config.head_dim)
    out.add_rope_dimension_count(config.head_dim)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if config.rope_parameters["rope_type"] == "linear":
        out.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        out.add_rope_scaling_factor(config.rope_parameters["factor"])
    if config.rope_parameters["rope_type"] == "llama3":
        out.add_tensor("rope_freqs.weight", llama3_factors(model, config).numpy())
    weights = {name: t.detach().numpy() for name, t in model.state_dict().items()}
    out.add_tensor("token_embd.weight", weights["model.embed_tokens.weight"])
    out.add_tensor("output_norm.weight", weights["model.norm.weight"])
    if not config.tie_word_embeddings:
        out.add_tensor("output.weight", weights["lm_head.weight"])
    for layer in range(config.num_hidden_layers):
        hf, blk = f"model.layers.{layer}", f"blk.{layer}"
        out.add_tensor(f"{blk}.attn_norm.weight", weights[f"{hf}.input_layernorm.weight"])
        out.add_tensor(f"{blk}.ffn_norm.weight", weights[f"{hf}.post_attention_layernorm.weight"])
        for module, site in SITES.items():
            rows = gguf_rows(weights[f"{hf}.{module}.weight"], site, config)
            out.add_tensor(f"{blk}.{site}.weight", np.ascontiguousarray(rows))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def gradients(model, config, tokens):
    """Adapter, gradients and logits with it, of a LoRA at every site."""
    targets = [module.split(".")[1] for module in SITES]
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets)
    model = get_peft_model(model, lora)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    rows = model.get_input_embeddings()(tokens).detach().requires_grad_()
    logits = model(inputs_embeds=rows[None]).logits[0]
    dlogits = torch.randn_like(logits)
    (logits * dlogits).sum().backward()
    golden = {"adapted_logits": logits, "dlogits": dlogits, "drows": rows.grad}
    for layer in range(config.num_hidden_layers):
        for module, site in SITES.items():
            group, linear = module.split(".")
            linear = model.base_model.model.model.layers[layer].get_submodule(f"{group}.{linear}")
            a, b = linear.lora_A["default"].weight, linear.lora_B["default"].weight
            name = f"blk.{layer}.{site}"
            golden |= {f"{name}.a": a, f"{name}.da": a.grad}
            golden[f"{name}.b"] = gguf_rows(b, site, config)
            golden[f"{name}.db"] = gguf_rows(b.grad, site, config)
    return golden


def main():
    for seed, (name, options) in enumerate(SHAPES.items()):
        torch.manual_seed(seed)
        width = 36 if "head_dim" in options else 32
        config = LlamaConfig(
            **options,
            vocab_size=VOCABULARY,
            hidden_size=width,
            intermediate_size=40,
            num_hidden_layers=2,
            max_position_embeddings=64,
            rms_norm_eps=1e-5,
            initializer_range=0.15,
            attn_implementation="eager",
        )
        model = LlamaForCausalLM(config).eval()
        for parameter in model.parameters():
            if parameter.ndim == 1:
                torch.nn.init.uniform_(parameter, 0.5, 1.5)
        tokens = torch.randint(0, VOCABULARY, (TOKENS,))
        write_gguf(HERE / f"{name}.gguf", model, config)
        golden = {"tokens": tokens.int(), "logits": model(tokens[None]).logits[0]}
        if name in WITH_ADAPTER:
            golden |= gradients(model, config, tokens)
        golden = {k: v.detach().contiguous().clone() for k, v in golden.items()}
        save_file(golden, HERE / f"{name}.safetensors")


if __name__ == "__main__":
    main()
