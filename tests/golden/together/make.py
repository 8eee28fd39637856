"""Makes adapters that are used together, and what PEFT and llama.cpp answer with one and with two of them.

    python tests/golden/together/make.py
    # torch 2.15, transformers 5.24, peft 0.21, gguf 0.19, llama-cpp-python 0.3.36

The base is ../llama/grouped_heads.gguf. Each adapter is a PEFT folder and, for llama.cpp, a GGUF file that
this script writes tensor by tensor:
    one    q, v and down, rank 4, alpha 8
    two    o, v, up and down, rank 6, alpha 3: at v and down it meets `one`
    apart  k and gate, rank 2, alpha 5: where none of the others is
logits.safetensors holds tokens [T] and logits [T, V] under names such as `peft one:1 two:-0.5`: who answered,
and the adapters with their strengths.
"""

import ctypes
import pathlib
import shutil
import sys
import tempfile

import gguf
import llama_cpp
import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "peft"))
from make import BASE, SITES, base

TOKENS = 24
ADAPTERS = {
    "one": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]},
    "two": {"r": 6, "lora_alpha": 3, "target_modules": ["o_proj", "v_proj", "up_proj", "down_proj"]},
    "apart": {"r": 2, "lora_alpha": 5, "target_modules": ["k_proj", "gate_proj"]},
}
CASES = [
    {"one": 1.0},
    {"two": -0.5},
    {"apart": 1.5},
    {"one": 1.0, "two": 1.0},
    {"one": 1.0, "two": -0.5},
    {"two": 1.0, "one": -0.5},
    {"one": 0.25, "apart": 1.0},
    {"apart": -0.5, "two": 2.0},
]


def called(case):
    return " ".join(f"{name}:{strength:g}" for name, strength in case.items())


def save_folders(config, weights):
    for name, options in ADAPTERS.items():
        model = LlamaForCausalLM(config)
        model.load_state_dict(weights)
        model = get_peft_model(model, LoraConfig(**options, task_type="CAUSAL_LM"))
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                torch.nn.init.normal_(parameter, std=0.15)
        shutil.rmtree(HERE / name, ignore_errors=True)
        model.save_pretrained(HERE / name)
        (HERE / name / "README.md").unlink(missing_ok=True)


def save_gguf(name, config):
    out = gguf.GGUFWriter(HERE / f"{name}.gguf", "llama")
    out.add_type("adapter")
    out.add_string("adapter.type", "lora")
    out.add_float32("adapter.lora.alpha", float(ADAPTERS[name]["lora_alpha"]))
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    tensors = load_file(HERE / name / "adapter_model.safetensors")
    for layer in range(config.num_hidden_layers):
        for site, module in SITES.items():
            half = f"base_model.model.model.layers.{layer}.{module}.lora"
            if f"{half}_A.weight" not in tensors:
                continue
            a, b = (tensors[f"{half}_{which}.weight"].numpy() for which in "AB")
            if site in heads:
                b = b.reshape(heads[site], 2, -1, b.shape[1]).swapaxes(1, 2).reshape(b.shape)
            out.add_tensor(f"blk.{layer}.{site}.weight.lora_a", np.ascontiguousarray(a))
            out.add_tensor(f"blk.{layer}.{site}.weight.lora_b", np.ascontiguousarray(b))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


class Peft:
    def __init__(self, config, weights):
        model = LlamaForCausalLM(config)
        model.load_state_dict(weights)
        first, *others = ADAPTERS
        self.model = PeftModel.from_pretrained(model, HERE / first, adapter_name=first)
        for name in others:
            self.model.load_adapter(HERE / name, adapter_name=name)
        self.model.eval()

    def answer(self, tokens, case):
        self.model.base_model.set_adapter(list(case))
        for module in self.model.modules():
            if isinstance(module, LoraLayer):
                for name, strength in case.items():
                    module.set_scale(name, strength)
        logits = self.logits(tokens)
        if len(case) > 1:
            # PEFT's other way to use two at once agrees.
            for module in self.model.modules():
                if isinstance(module, LoraLayer):
                    for name in case:
                        module.set_scale(name, 1.0)
            names, strengths = list(case), list(case.values())
            self.model.add_weighted_adapter(names, strengths, "both", combination_type="cat")
            self.model.base_model.set_adapter("both")
            torch.testing.assert_close(self.logits(tokens), logits, rtol=1e-4, atol=1e-4)
            self.model.delete_adapter("both")
        return logits

    def logits(self, tokens):
        with torch.no_grad():
            return self.model(input_ids=tokens[None]).logits[0].contiguous().clone()


class LlamaCpp:
    """llama.cpp through its own interface, with keys and values in f32."""

    def __init__(self, place):
        self.silence = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.silence, None)
        path = place / "base.gguf"
        with_vocabulary(path)
        model = llama_cpp.llama_model_default_params()
        model.n_gpu_layers = 0
        # Weights as they are, not repacked.
        model.use_extra_bufts = False
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), model)
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = options.n_batch = options.n_ubatch = 64
        options.type_k = options.type_v = llama_cpp.GGML_TYPE_F32
        options.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        self.adapters = {
            name: llama_cpp.llama_adapter_lora_init(self.model, str(HERE / f"{name}.gguf").encode())
            for name in ADAPTERS
        }
        assert self.model and self.context and all(self.adapters.values())
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def answer(self, tokens, case):
        count = len(case)
        adapters = (llama_cpp.llama_adapter_lora_p_ctypes * count)(*(self.adapters[n] for n in case))
        strengths = (ctypes.c_float * count)(*case.values())
        set_adapters = llama_cpp.llama_set_adapters_lora
        assert set_adapters(self.context, adapters, count, strengths) == 0
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens.tolist()):
            batch.token[i], batch.pos[i], batch.logits[i] = token, i, True
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        assert llama_cpp.llama_decode(self.context, batch) == 0
        logits = llama_cpp.llama_get_logits(self.context)
        rows = np.ctypeslib.as_array(logits, (len(tokens), self.vocabulary)).copy()
        llama_cpp.llama_batch_free(batch)
        return torch.tensor(rows)


def with_vocabulary(path):
    """BASE with what llama.cpp wants to see of a vocabulary: that there is none."""
    reader = gguf.GGUFReader(BASE)
    out = gguf.GGUFWriter(path, "llama")
    for key, field in reader.fields.items():
        if key.startswith("llama."):
            out.add_key_value(key, field.contents(), field.types[0])
    out.add_vocab_size(80)
    out.add_tokenizer_model("no_vocab")
    for tensor in reader.tensors:
        out.add_tensor(tensor.name, np.array(tensor.data))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def main():
    torch.manual_seed(0)
    config, weights = base()
    tokens = torch.randint(0, config.vocab_size, (TOKENS,))
    save_folders(config, weights)
    for name in ADAPTERS:
        save_gguf(name, config)
    golden = {"tokens": tokens.int()}
    with tempfile.TemporaryDirectory() as place:
        peers = {"peft": Peft(config, weights), "llama.cpp": LlamaCpp(pathlib.Path(place))}
        for case in CASES:
            for peer, model in peers.items():
                golden[f"{peer} {called(case)}"] = model.answer(tokens, case)
            one, other = (golden[f"{peer} {called(case)}"] for peer in peers)
            print(called(case), "peers differ by", ((one - other).norm() / one.norm()).item())
    save_file(golden, HERE / "logits.safetensors")


if __name__ == "__main__":
    main()
