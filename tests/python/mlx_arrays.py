"""NumPy and MLX arrays for each other, MLX on its CPU device, and golden texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from arrays import Array
from checkpoints import load
from reference import forward

mx.set_default_device(mx.cpu)


def to_mlx(array: Any) -> mx.array:
    """An array of float32 or integers."""
    array = np.asarray(array)
    return mx.array(array.astype(np.float32) if array.dtype == np.float64 else array)


def to_numpy(array: mx.array) -> Array:
    """The values, computed."""
    return np.array(array)


# Activations are rounded to int8, and where two float32 programs round one to neighbouring codes their
# logits part by about 1 % of their spread (docs/correctness.md): two logits closer than this may change
# places.
NEAR_TIE = 0.1


def assert_golden_text(path: Path, prompt: dict[str, Any], tokens: list[int]) -> bool:
    """Whether tokens are the golden ones; they may part only at a near tie of the oracle's."""
    golden: list[int] = prompt["greedy_ids"][: len(tokens)]
    at = next((at for at, pair in enumerate(zip(tokens, golden, strict=True)) if pair[0] != pair[1]), None)
    if at is not None:
        logits = forward(*load(path), prompt["ids"] + golden[:at])[-1]
        gaps = logits.max() - logits[[tokens[at], golden[at]]]
        assert gaps.max() <= NEAR_TIE, f"token {at}: {tokens[at]} for {golden[at]}, behind the best by {gaps}"
    return at is None
