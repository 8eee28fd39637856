"""Makes adapter folders as mlx-lm saves them, and what the models they adapt answer.

    python tests/golden/mlx/make.py    # mlx 0.32 (its CPU package on Linux), mlx-lm 0.32, gguf 0.19

The base is ../llama/grouped_heads.gguf, loaded into mlx-lm's LLaMA. Every folder here is an adapter:
    plain   every linear layer of both layers, rank 4, float32
    keyed   the top layer and two modules by name, one of them a whole path, float16
logits.safetensors holds tokens [T] and, under the name of each folder, logits [T, V].
"""

import json
import pathlib
import shutil
import types

import gguf
import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.models.llama import Model, ModelArgs
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
from mlx_lm.utils import save_config

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


def base():
    reader = gguf.GGUFReader(BASE)

    def key(name):
        return reader.fields[f"llama.{name}"].contents()

    arguments = ModelArgs(
        model_type="llama",
        hidden_size=key("embedding_length"),
        num_hidden_layers=key("block_count"),
        intermediate_size=key("feed_forward_length"),
        num_attention_heads=key("attention.head_count"),
        num_key_value_heads=key("attention.head_count_kv"),
        rms_norm_eps=key("attention.layer_norm_rms_epsilon"),
        vocab_size=80,
        tie_word_embeddings=False,
    )
    heads = {
        "attn_q": arguments.num_attention_heads,
        "attn_k": arguments.num_key_value_heads,
    }
    weights = []
    for tensor in reader.tensors:
        rows = np.array(tensor.data)
        name = WHOLE.get(tensor.name)
        if name is None:
            _, layer, site, _ = tensor.name.split(".")
            name = f"model.layers.{layer}.{SITES[site]}.weight"
            if site in heads:
                pairs = rows.reshape(heads[site], -1, 2, rows.shape[-1])
                rows = pairs.swapaxes(1, 2).reshape(rows.shape)
        weights.append((name, mx.array(rows)))
    model = Model(arguments)
    model.load_weights(weights)
    return model.eval()


def save(name, layers, parameters, dtype=mx.float32):
    """As mlx_lm.lora does after training."""
    model = base()
    model.freeze()
    linear_to_lora_layers(model, layers, parameters)
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    trained = dict(tree_flatten(model.trainable_parameters()))
    trained = {k: (0.1 * mx.random.normal(v.shape)).astype(dtype) for k, v in trained.items()}
    arguments = {
        "model": "somewhere/base",
        "fine_tune_type": "lora",
        "num_layers": layers,
        "batch_size": 4,
        "learning_rate": 1e-5,
        "lora_parameters": parameters,
    }
    save_config(vars(types.SimpleNamespace(**arguments)), folder / "adapter_config.json")
    mx.save_safetensors(str(folder / "adapters.safetensors"), trained)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["lora_parameters"] == parameters
    return folder


def answer(folder, tokens):
    model = base()
    load_adapters(model, str(folder))
    for _, module in model.named_modules():
        if "lora_a" in module:
            module.lora_a = module.lora_a.astype(mx.float32)
            module.lora_b = module.lora_b.astype(mx.float32)
    return model.eval()(tokens[None])[0]


def main():
    mx.random.seed(0)
    tokens = mx.random.randint(0, 80, (TOKENS,))
    plain = save("plain", -1, {"rank": 4, "dropout": 0.0, "scale": 2.5})
    keys = ["mlp.up_proj", "self_attn.q_proj", "model.layers.0.self_attn.k_proj"]
    keyed = save("keyed", 1, {"rank": 3, "dropout": 0.1, "scale": 4.0, "keys": keys}, mx.float16)
    golden = {folder.name: answer(folder, tokens) for folder in [plain, keyed]}
    golden["tokens"] = tokens.astype(mx.int32)
    mx.save_safetensors(str(HERE / "logits.safetensors"), golden)


if __name__ == "__main__":
    main()
