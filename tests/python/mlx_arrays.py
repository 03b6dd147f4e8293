"""NumPy and MLX arrays for each other, and MLX on its CPU device."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
from arrays import Array

mx.set_default_device(mx.cpu)


def to_mlx(array: Any) -> mx.array:
    """An array of float32 or integers."""
    array = np.asarray(array)
    return mx.array(array.astype(np.float32) if array.dtype == np.float64 else array)


def to_numpy(array: mx.array) -> Array:
    """The values, computed."""
    return np.array(array)
