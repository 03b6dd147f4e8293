"""The product of few tokens as a Metal kernel: int8 activations, 2-bit weights, int32 sums.

A decoded token waits for the weights to be read, so the kernel reads each word once, for up to FEW_TOKENS
tokens, and no scales. Rows are shared out by fours to SIMD groups, whose 32 lanes take every 32nd word of
their rows:

    for each word of 16 codes c = w + 1 and the 16 activations x beside it
        dot[row, token] += sum of c x        sum[token] += sum of x
    y = dot - sum, added up over the lanes

Whole numbers: the result does not depend on the order, and equals that of mx.quantized_matmul. A CPU cannot
run it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import mlx.core as mx

ROWS_PER_GROUP = 4
LANES = 32

SOURCE = """
    constexpr uint ROWS_PER_GROUP = 4;
    const uint lane = thread_index_in_simdgroup;
    const uint first_row = (thread_position_in_grid.x / 32) * ROWS_PER_GROUP;
    int dots[ROWS_PER_GROUP][TOKENS] = {};
    int sums[TOKENS] = {};
    for (uint word = lane; word < WORDS; word += 32) {
        uint codes[ROWS_PER_GROUP];
        for (uint row = 0; row < ROWS_PER_GROUP; row++) {
            // Rows behind the last are read as the last, and not written.
            codes[row] = words[min(first_row + row, uint(ROWS - 1)) * WORDS + word];
        }
        for (uint token = 0; token < TOKENS; token++) {
            const device char4* x4 = (const device char4*)(x + (token * WORDS + word) * 16);
            for (uint quarter = 0; quarter < 4; quarter++) {
                const int4 activations = int4(x4[quarter]);
                sums[token] += activations.x + activations.y + activations.z + activations.w;
                for (uint row = 0; row < ROWS_PER_GROUP; row++) {
                    const uint four = codes[row] >> (8 * quarter);
                    dots[row][token] += int(four & 3) * activations.x + int((four >> 2) & 3) * activations.y
                        + int((four >> 4) & 3) * activations.z + int((four >> 6) & 3) * activations.w;
                }
            }
        }
    }
    for (uint token = 0; token < TOKENS; token++) {
        const int sum = simd_sum(sums[token]);
        for (uint row = 0; row < ROWS_PER_GROUP; row++) {
            const int dot = simd_sum(dots[row][token]);
            if (lane == 0 && first_row + row < ROWS) {
                y[token * ROWS + first_row + row] = float(dot - sum);
            }
        }
    }
"""


def is_used() -> bool:
    """Whether the default device, or that of a `with mx.stream(...)`, is an Apple GPU."""
    return mx.default_device().type == mx.DeviceType.gpu and mx.metal.is_available()


def ternary_sums(codes: mx.array, words: mx.array) -> mx.array:
    """Return the sums of Q(x), int8 [tokens, 16 words], times W_q, uint32 [rows, words]: [tokens, rows]."""
    rows, width = words.shape
    tokens = codes.shape[0]
    groups = -(-rows // ROWS_PER_GROUP)
    (y,) = _kernel()(
        inputs=[codes, words],
        template=[("TOKENS", tokens), ("ROWS", rows), ("WORDS", width)],
        grid=(groups * LANES, 1, 1),
        threadgroup=(2 * LANES, 1, 1),
        output_shapes=[(tokens, rows)],
        output_dtypes=[mx.float32],
    )
    return y


@cache
def _kernel() -> Callable[..., list[mx.array]]:
    return mx.fast.metal_kernel(
        name="bitnet_ternary_sums", input_names=["x", "words"], output_names=["y"], source=SOURCE
    )
