"""Makes rows.bin (real weights) and encode.txt: the error of llama.cpp's own encoders.

Each line of encode.txt: type, data set, mean square error of ggml's quantize_row_<type>_ref
after gguf's dequantize. Ours must not be worse (blocks/tests.rs).

Data sets, 8192 weights each:
  gaussian  sum of 12 uniforms minus 6 (exact in floating point, so Rust makes the same)
  heavy     product of two such sums: heavier tails, as trained weights often have
  real      the first rows of tensors of stories260K.gguf (MIT), kept in rows.bin

    python encode.py stories260K.gguf libggml-base.so
    (gguf 0.19.0, numpy 2.4.6; ggml of llama-cpp-python 0.3.36's vendored llama.cpp)
"""

import ctypes
import sys
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T, GGUFReader
from gguf.quants import dequantize

HERE = Path(__file__).parent
COUNT = 8192
MASK = (1 << 64) - 1


def uniforms(state, count):
    """xorshift64, upper 24 bits, in [0, 1)."""
    for _ in range(count):
        state ^= state << 13 & MASK
        state ^= state >> 7
        state ^= state << 17 & MASK
        yield (state >> 40) / (1 << 24)


def gaussian(seed, count):
    draws = np.fromiter(uniforms(seed, 12 * count), np.float32)
    return draws.reshape(-1, 12).sum(axis=1, dtype=np.float32) - np.float32(6)


def real(path):
    tensors = [t for t in GGUFReader(path).tensors if len(t.shape) == 2]
    each = COUNT // 8
    names = ["token_embd.weight", "blk.0.attn_q.weight", "blk.0.attn_v.weight",
             "blk.1.attn_output.weight", "blk.2.ffn_gate.weight", "blk.3.ffn_up.weight",
             "blk.4.ffn_down.weight", "blk.4.attn_k.weight"]
    by_name = {t.name: dequantize(t.data, t.tensor_type).ravel() for t in tensors}
    return np.concatenate([by_name[n][:each] for n in names]).astype(np.float32)


data = {
    "gaussian": gaussian(0x9E3779B97F4A7C15, COUNT),
    "heavy": gaussian(0xD1B54A32D192ED03, COUNT) * gaussian(0x8CB92BA72F3D8DD7, COUNT),
    "real": real(sys.argv[1]),
}
data["real"].astype("<f4").tofile(HERE / "rows.bin")

ggml = ctypes.CDLL(sys.argv[2])
with open(HERE / "encode.txt", "w") as out:
    for ty in [T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.IQ4_NL]:
        length, size = GGML_QUANT_SIZES[ty]
        name = ty.name.lower().replace("_k", "_K")
        encode = getattr(ggml, f"quantize_row_{name}_ref")
        for label, x in data.items():
            block = np.zeros(x.size // length * size, np.uint8)
            encode(x.ctypes.data_as(ctypes.c_void_p), block.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(x.size))
            back = dequantize(block.reshape(1, -1), ty).ravel()
            error = np.mean((x.astype(np.float64) - back.astype(np.float64)) ** 2)
            out.write(f"{ty.name} {label} {error:.9e}\n")
