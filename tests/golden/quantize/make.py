"""Makes types.txt: which type llama.cpp's own quantizer gives each tensor, for every mix.

Each line: shape, mix, tensor (without layer and `.weight`), type, layers ("all" for all of them).
The shapes are those of runtime/src/quantize/tests.rs; the weights are random and not kept.

    python make.py
    (llama-cpp-python 0.3.36's vendored llama.cpp, gguf 0.19.0, numpy 2.4.6)
"""

import os
import tempfile
from collections import defaultdict
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

HERE = Path(__file__).parent
# layers, width, heads, kv heads, feed forward, vocabulary, tied
SHAPES = {
    "plain": (17, 256, 4, 4, 512, 48, False),
    "grouped": (33, 256, 8, 2, 256, 48, False),
    "tied": (6, 256, 4, 2, 256, 48, True),
    "odd_rows": (9, 288, 4, 4, 512, 48, False),
    "seventy": (80, 256, 8, 1, 256, 48, False),
}
MIXES = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10,
    "Q3_K_S": 11, "Q3_K_M": 12, "Q3_K_L": 13, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16,
    "Q5_K_M": 17, "Q6_K": 18, "IQ4_NL": 25, "BF16": 32,
}


def write(path, shape, seed=1):
    layers, width, heads, kv_heads, feed_forward, vocabulary, tied = shape
    kv = width // heads * kv_heads
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocabulary)
    writer.add_tokenizer_model("none")

    def add(name, *sizes):
        weights = rng.standard_normal(sizes, dtype=np.float32) * sizes[-1] ** -0.5
        writer.add_tensor(name + ".weight", weights.astype(np.float32))

    add("token_embd", vocabulary, width)
    add("output_norm", width)
    if not tied:
        add("output", vocabulary, width)
    for i in range(layers):
        add(f"blk.{i}.attn_norm", width)
        add(f"blk.{i}.attn_q", width, width)
        add(f"blk.{i}.attn_k", kv, width)
        add(f"blk.{i}.attn_v", kv, width)
        add(f"blk.{i}.attn_output", width, width)
        add(f"blk.{i}.ffn_norm", width)
        add(f"blk.{i}.ffn_gate", feed_forward, width)
        add(f"blk.{i}.ffn_up", feed_forward, width)
        add(f"blk.{i}.ffn_down", width, feed_forward)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantize(source, target, mix):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = MIXES[mix]
    params.nthread = 1
    status = llama_cpp.llama_model_quantize(source.encode(), target.encode(), params)
    assert status == 0, (mix, status)


def main():
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        source, target = os.path.join(folder, "source"), os.path.join(folder, "target")
        for name, shape in SHAPES.items():
            write(source, shape)
            for mix in MIXES:
                quantize(source, target, mix)
                places = defaultdict(list)
                for tensor in gguf.GGUFReader(target).tensors:
                    parts = tensor.name.removesuffix(".weight").split(".")
                    layer = int(parts[1]) if parts[0] == "blk" else None
                    places[parts[-1], tensor.tensor_type.name].append(layer)
                for (part, kind), layers in sorted(places.items()):
                    whole = layers == [None] or len(layers) == shape[0]
                    where = "all" if whole else " ".join(map(str, sorted(layers)))
                    lines.append(f"{name} {mix} {part} {kind} {where}\n")
    (HERE / "types.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
