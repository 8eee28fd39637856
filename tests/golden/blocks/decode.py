"""Makes decode.bin: bytes of every block type and what they decode to.

The floats are those of the gguf package's own dequantizer. Bytes are random, so every
bit of a block is exercised; only its half-precision scales are kept finite. F16 and BF16
bytes are random too but for infinities and NaN.

    python decode.py        (gguf 0.19.0, numpy 2.4.6)

Layout, all little-endian: for each type u32 GGUF number, u32 bytes, u32 weights, then the
bytes, then the weights as f32.
"""

import struct
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize

BLOCKS = 3
# Where each type keeps its half-precision fields.
HALVES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
    T.IQ4_NL: [0], T.IQ4_XS: [0],
}

rng = np.random.default_rng(20)
with open(Path(__file__).with_name("decode.bin"), "wb") as out:
    for ty in [T.F32, T.F16, T.BF16, *HALVES]:
        length, size = GGML_QUANT_SIZES[ty]
        blocks = BLOCKS if length > 1 else 64
        data = rng.integers(0, 256, (blocks, size), dtype=np.uint8)
        if length == 1:
            # Clears one exponent bit: every finite exponent but the largest half.
            data[:, -1] &= 0xBF
        for at in HALVES.get(ty, []):
            # Any sign, exponent 2^-14 .. 2^-7, any fraction; and one subnormal scale.
            data[:, at + 1] = data[:, at + 1] & 0x9F | 0x04
            data[-1, at + 1] &= 0x83
        weights = dequantize(data.reshape(1, -1), ty).astype("<f4").ravel()
        assert np.isfinite(weights).all(), ty
        out.write(struct.pack("<III", ty, data.size, weights.size))
        out.write(data.tobytes())
        out.write(weights.tobytes())
