"""Gradients of tensors against finite differences of the same function in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bitnet_rust as bn
import numpy as np
from arrays import Array

# The truncation of a central difference is STEP^2, its rounding 1e-16 / STEP.
STEP = 1e-5
# Some roundings of float32, of the largest number.
TOLERANCE = 3e-6


def check_gradients(ours: Callable[..., bn.Tensor], exact: Callable[..., Any], *arrays: Array) -> None:
    """Value and gradients of `ours` are those of `exact`, which computes the same of float64 arrays."""
    arrays = tuple(array.astype(np.float32) for array in arrays)
    leaves = [bn.Tensor(array, requires_grad=True) for array in arrays]
    wide = [array.astype(np.float64) for array in arrays]
    y = ours(*leaves)
    assert y.requires_grad
    expected = np.asarray(exact(*wide))
    assert y.shape == expected.shape
    near(y.detach().numpy(), expected)
    dy = np.random.default_rng(7).standard_normal(expected.shape).astype(np.float32)
    y.backward(bn.Tensor(dy))
    for place, leaf in enumerate(leaves):
        assert leaf.grad is not None
        assert leaf.grad.shape == arrays[place].shape

        def loss(at: tuple[int, ...], by: float, place: int = place) -> float:
            moved = [array.copy() for array in wide]
            moved[place][at] += by
            return float((np.asarray(exact(*moved)) * dy).sum())

        slopes = np.zeros_like(wide[place])
        for at in np.ndindex(slopes.shape):
            slopes[at] = (loss(at, STEP) - loss(at, -STEP)) / (2 * STEP)
        near(leaf.grad.numpy(), slopes)


def near(got: Array, exact: Array) -> None:
    """Within roundings of float32 of the largest element."""
    scale = max(1.0, float(np.abs(exact).max(initial=0.0)))
    np.testing.assert_allclose(got, exact, rtol=0, atol=TOLERANCE * scale)


def wave(*shape: int, low: float = -1.5, high: float = 1.5) -> Array:
    """Return numbers between low and high without a pattern that gradients could hide in."""
    i = np.arange(np.prod(shape, dtype=int))
    return (low + (high - low) * (0.5 + 0.5 * np.sin(0.37 * i * i + 1.7 * i + len(shape)))).reshape(shape)
