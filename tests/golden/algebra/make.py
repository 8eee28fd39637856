"""Makes matrices and what numpy finds in them.

    python tests/golden/algebra/make.py             # numpy 2.4, safetensors 0.8

values.safetensors holds
    pair.a [R, inputs], pair.b [outputs, R]     a pair whose last ranks repeat one and undo another
    pair.values [min(outputs, inputs)]          singular values of B A, in f64
    pair.best [outputs, inputs]                 the best product of rank 5
and for sites of a model of width 64, 32 for keys, 96 in the feed-forward part
    <site> [outputs, inputs]                    a difference of two models
    <site>.values [min(outputs, inputs)]        its singular values, in f64
"""

import pathlib

import numpy as np
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
RANDOM = np.random.default_rng(11)


def with_values(outputs, inputs, values):
    """A matrix with these singular values and random vectors."""
    count = min(outputs, inputs)
    left, _ = np.linalg.qr(RANDOM.standard_normal((outputs, count)))
    right, _ = np.linalg.qr(RANDOM.standard_normal((inputs, count)))
    return ((left * values(np.arange(1, count + 1))) @ right.T).astype(np.float32)


def values(matrix):
    return np.linalg.svd(matrix.astype(np.float64), compute_uv=False)


a = RANDOM.standard_normal((12, 40)).astype(np.float32)
b = RANDOM.standard_normal((48, 12)).astype(np.float32)
a[10], a[11] = a[0], a[1]
b[:, 10], b[:, 11] = b[:, 0], -b[:, 1]
product = b.astype(np.float64) @ a.astype(np.float64)
left, singular, right = np.linalg.svd(product, full_matrices=False)
arrays = {
    "pair.a": a,
    "pair.b": b,
    "pair.values": singular,
    "pair.best": (left[:, :5] * singular[:5]) @ right[:5],
    # Slowly falling, quickly falling, not falling at all, and three values only.
    "blk.0.attn_q": with_values(64, 64, lambda i: 0.1 / i),
    "blk.0.attn_k": with_values(32, 64, lambda i: 0.1 * 2.0**-i),
    "blk.1.ffn_down": (0.01 * RANDOM.standard_normal((64, 96))).astype(np.float32),
    "blk.1.ffn_gate": with_values(96, 64, lambda i: np.where(i <= 3, 0.1 * i, 0.0)),
}
for site in [name for name in arrays if name.startswith("blk.")]:
    arrays[f"{site}.values"] = values(arrays[site])
save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, HERE / "values.safetensors")
