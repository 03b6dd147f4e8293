"""y = Q(x) W^T with ternary W and int8 activations: exact sums, and the straight-through gradient.

    Q(x) = clip(round_half_even(x s_x), -128, 127),  s_x = 127 / max(max|x|, 1e-5), one for each token
    y    = (sum of Q(x) W_q) * (s_w / s_x)

The sums are whole numbers below 2^24, so float32 holds them exactly, whatever the order in which a device
adds: y is, bit for bit, what the integer kernels of the engine give. Source: arXiv 2402.17764; transformers
5.23, integrations/bitnet.py.
"""

from __future__ import annotations

from functools import lru_cache

import mlx.core as mx

from bitnet_rust.mlx import metal
from bitnet_rust.mlx.packing import CODES_PER_WORD, group_size

# |Q(x)| <= 128: up to here 128 times the columns is below 2^24.
MAX_COLUMNS = 1 << 17

# Up to so many tokens a product waits for the weights to be read: a kernel of its own; above, the GEMM of
# MLX.
FEW_TOKENS = 8


def quantize_activations(x: mx.array) -> tuple[mx.array, mx.array]:
    """Return Q(x), whole numbers as float32 in the shape of x [..., columns], and s_x [..., 1]."""
    x = x.astype(mx.float32)
    scale = 127.0 / mx.maximum(mx.abs(x).max(axis=-1, keepdims=True), 1e-5)
    return mx.clip(mx.round(x * scale), -128.0, 127.0), scale


def ternary_sums(codes: mx.array, words: mx.array) -> mx.array:
    """Return the sums of Q(x) W_q, whole numbers as float32 [tokens, rows].

    codes are Q(x) [tokens, columns] as float32, words the packed W_q. Few tokens on a GPU are multiplied as
    int8 by the Metal kernel, all others by mx.quantized_matmul, a GEMM there: the same numbers.
    """
    tokens, columns = codes.shape
    width = words.shape[1] * CODES_PER_WORD
    if columns < width:
        codes = mx.pad(codes, ((0, 0), (0, width - columns)))
    if tokens <= FEW_TOKENS and metal.is_used():
        return metal.ternary_sums(codes.astype(mx.int8), words)
    ones, group = _ones(words.shape[0], columns), group_size(columns)
    return mx.quantized_matmul(
        codes, words, scales=ones, biases=-ones, transpose=True, group_size=group, bits=2
    )


def ternary_linear(x: mx.array, words: mx.array, scale: mx.array) -> mx.array:
    """Return y [..., rows] of x [..., columns]; words are the packed W_q, scale is s_w, float32 [1].

    Backwards dx = dy W, the derivative of rounding being 1 (straight through); words and scale have no
    gradient.
    """
    return _ternary_linear(x, words, scale)


@mx.custom_function
def _ternary_linear(x: mx.array, words: mx.array, scale: mx.array) -> mx.array:
    codes, x_scale = quantize_activations(x.reshape(-1, x.shape[-1]))
    y = ternary_sums(codes, words) * (scale / x_scale)
    return y.reshape(*x.shape[:-1], words.shape[0])


@_ternary_linear.vjp
def _ternary_linear_vjp(
    primals: tuple[mx.array, mx.array, mx.array], dy: mx.array, _y: mx.array
) -> tuple[mx.array, mx.array, mx.array]:
    x, words, scale = primals
    columns = x.shape[-1]
    ones, group = _ones(words.shape[0], columns), group_size(columns)
    dx = mx.quantized_matmul(
        dy.reshape(-1, words.shape[0]) * scale,
        words,
        scales=ones,
        biases=-ones,
        transpose=False,
        group_size=group,
        bits=2,
    )
    return dx[:, :columns].reshape(x.shape).astype(x.dtype), mx.zeros_like(words), mx.zeros_like(scale)


@lru_cache(maxsize=64)
def _ones(rows: int, columns: int) -> mx.array:
    """Return the scales of W_q, one array for all matrices of a shape."""
    ones = mx.ones((rows, -(-columns // group_size(columns))))
    mx.eval(ones)
    return ones
