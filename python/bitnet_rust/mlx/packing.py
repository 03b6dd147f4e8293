"""Ternary codes in the words that mx.quantized_matmul multiplies, and from the bytes of checkpoints.

A word is a uint32 of 16 codes of a row, low bits first, code = w + 1 in 0, 1, 2: what MLX calls 2-bit affine
weights with the scale 1 and the bias -1.
"""

from __future__ import annotations

import mlx.core as mx

CODES_PER_WORD = 16

# Columns are filled up with zero weights to a multiple of the smallest group that MLX has.
_GROUP_SIZES = (128, 64, 32)


def padded(columns: int) -> int:
    """Return the columns of packed weights: the next multiple of 32."""
    return -(-columns // _GROUP_SIZES[-1]) * _GROUP_SIZES[-1]


def group_size(columns: int) -> int:
    """Return the largest group size of MLX that divides the padded columns: the fewest scales."""
    return next(size for size in _GROUP_SIZES if padded(columns) % size == 0)


def pack(codes: mx.array) -> mx.array:
    """Pack codes in 0, 1, 2, uint8 [rows, columns], into words, uint32 [rows, padded(columns) / 16]."""
    rows, columns = codes.shape
    codes = mx.pad(codes, ((0, 0), (0, padded(columns) - columns)), constant_values=1)
    shifts = 2 * mx.arange(CODES_PER_WORD, dtype=mx.uint32)
    return (codes.reshape(rows, -1, CODES_PER_WORD).astype(mx.uint32) << shifts).sum(-1)


def unpack(words: mx.array, columns: int) -> mx.array:
    """Return the weights of words, -1, 0 and +1, as float32 [rows, columns]."""
    shifts = 2 * mx.arange(CODES_PER_WORD, dtype=mx.uint32)
    codes = (words[..., None] >> shifts) & 3
    return codes.reshape(words.shape[0], -1)[:, :columns].astype(mx.float32) - 1


def unpack_checkpoint(packed: mx.array, rows: int) -> mx.array:
    """Return the codes, uint8 [rows, columns], of a checkpoint's weight, uint8 [ceil(rows / 4), columns].

    With R packed rows, bits 2i and 2i + 1 of packed row r are the codes of row r + i R. Source: transformers
    5.23, integrations/bitnet.py. Raises ValueError for another shape, and for 3, which is no code.
    """
    if packed.ndim != 2 or packed.shape[0] != -(-rows // 4):
        raise ValueError(f"has shape {list(packed.shape)}; {rows} rows are packed to {-(-rows // 4)}")
    codes = mx.concatenate([(packed >> shift) & 3 for shift in (0, 2, 4, 6)])[:rows]
    if mx.any(codes == 3).item():
        raise ValueError("has the code 3; ternary weights have 0, 1 and 2")
    return codes
