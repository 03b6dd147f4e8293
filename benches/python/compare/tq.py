"""llama.cpp's ternary blocks, TQ1_0 and TQ2_0, from codes that are ternary already.

llama.cpp's own quantizer takes floats and makes each block's scale from its largest weight: a block of zeros
loses it, and codes pass through a rounding. Here the codes are kept and every block gets the tensor's scale:
the file says what the checkpoint says, but for the scale's rounding to float16.

Both formats hold 256 weights of a row in one block and end with the scale (ggml-common.h, ggml-quants.c):

    TQ2_0  66 bytes: 64 of four codes each, then the scale
    TQ1_0  54 bytes: 48 of five codes in base 3, 4 of four codes, then the scale
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

BLOCK = 256


def tq2_0(codes: Bytes, scale: float) -> Bytes:
    """Codes {0, 1, 2} [out, in] to bytes [out, in / 256 * 66].

    Half g of a block, weight 128 g + 32 k + m: bits 2k and 2k + 1 of byte 32 g + m.
    """
    halves = _blocks(codes).reshape(-1, 2, 4, 32)
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    packed = np.bitwise_or.reduce(halves << shifts, axis=2)
    return _with_scale(packed.reshape(-1, 64), scale, rows=len(codes))


def tq1_0(codes: Bytes, scale: float) -> Bytes:
    """Codes {0, 1, 2} [out, in] to bytes [out, in / 256 * 54].

    A byte is the fraction of five base-3 digits, the first weight the most significant, scaled to 256 and
    rounded up: (digits * 256 + 242) / 243. Byte m < 32 has the weights m + 32 k, byte 32 + m the weights
    160 + m + 16 k, byte 48 + m the four weights 240 + m + 4 k and a zero.
    """
    blocks = _blocks(codes)
    digits = np.concatenate(
        [
            _base3(blocks[:, :160].reshape(-1, 5, 32)),
            _base3(blocks[:, 160:240].reshape(-1, 5, 16)),
            _base3(blocks[:, 240:].reshape(-1, 4, 4)),
        ],
        axis=1,
    )
    packed = ((digits * 256 + 242) // 243).astype(np.uint8)
    return _with_scale(packed, scale, rows=len(codes))


def _blocks(codes: Bytes) -> Bytes:
    if codes.shape[1] % BLOCK:
        raise ValueError(f"rows of {codes.shape[1]} weights: TQ1_0 and TQ2_0 need a multiple of {BLOCK}")
    return np.ascontiguousarray(codes).reshape(-1, BLOCK)


def _base3(groups: Bytes) -> npt.NDArray[np.uint16]:
    """[blocks, digits, bytes] to the number the digits write, as the first of five."""
    number = np.zeros((groups.shape[0], groups.shape[2]), np.uint16)
    for place, power in zip(range(groups.shape[1]), (81, 27, 9, 3, 1), strict=False):
        number += groups[:, place] * np.uint16(power)
    return number


def _with_scale(packed: Bytes, scale: float, *, rows: int) -> Bytes:
    end = np.frombuffer(np.float16(scale).astype("<f2").tobytes(), np.uint8)
    blocks = np.hstack([packed, np.broadcast_to(end, (len(packed), 2))])
    return blocks.reshape(rows, -1)
