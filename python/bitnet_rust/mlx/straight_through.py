"""The product of float masters as training sees it: ternary and int8 forwards, straight through backwards.

    y  = Q(x) Q(W)^T,  Q(W) = s_w clip(round_half_even(W / s_w), -1, 1),  s_w = max(mean|W|, 1e-5)
    dx = dy Q(W),  dW = dy^T Q(x)

The same as bitnet_rust.nn.functional.bit_linear, on MLX arrays. Source: arXiv 2402.17764, 1308.3432.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import mlx.core as mx

from bitnet_rust.mlx.product import quantize_activations

BitLinearFunction = Callable[[mx.array, mx.array], mx.array]


def quantize_weights(w: mx.array) -> tuple[mx.array, mx.array]:
    """Return the codes of W, -1, 0 and +1 as float32, and s_w, a scalar."""
    w = w.astype(mx.float32)
    # Row by row, so that a float32 sum of millions loses nothing that matters.
    scale = mx.maximum(mx.abs(w).mean(-1).mean(), 1e-5)
    return mx.clip(mx.round(w * (1.0 / scale)), -1.0, 1.0), scale


def bit_linear(x: mx.array, w: mx.array, *, clip: float | None = None, blend: float = 1.0) -> mx.array:
    """Return y [..., out] of x [..., in] and the master w [out, in], float32.

    clip makes dW 0 for weights beyond clip mean|W|. With blend below 1, W + blend (Q(W) - W) and the same of
    x are multiplied as floats. Raises ValueError for both, and for numbers that cannot be.
    """
    if not 0.0 <= blend <= 1.0:
        raise ValueError(f"blend must be from 0 to 1, not {blend}")
    if clip is not None and not clip > 0.0:
        raise ValueError(f"clip must be above 0, not {clip}")
    if blend == 1.0:
        return _function(clip)(x, w)
    if clip is not None:
        raise ValueError("clip and blend exclude each other")
    return _blended(x, blend, *quantize_activations(x)) @ _blended_weights(w, blend).T


def _blended(x: mx.array, blend: float, codes: mx.array, scale: mx.array) -> mx.array:
    """X + blend (Q(x) - x), whose derivative is 1."""
    return x + mx.stop_gradient(blend * (codes / scale - x))


def _blended_weights(w: mx.array, blend: float) -> mx.array:
    codes, scale = quantize_weights(w)
    return w + mx.stop_gradient(blend * (codes * scale - w))


@lru_cache(maxsize=16)
def _function(clip: float | None) -> BitLinearFunction:
    """Return the function with the gradient for this clip."""

    @mx.custom_function
    def product(x: mx.array, w: mx.array) -> mx.array:
        x_codes, x_scale = quantize_activations(x)
        w_codes, w_scale = quantize_weights(w)
        # Whole numbers below 2^24: exact in float32, and the scales after.
        return (x_codes @ w_codes.T) * (w_scale / x_scale)

    @product.vjp
    def gradients(
        primals: tuple[mx.array, mx.array], dy: mx.array, _y: mx.array
    ) -> tuple[mx.array, mx.array]:
        x, w = primals
        x_codes, x_scale = quantize_activations(x)
        w_codes, w_scale = quantize_weights(w)
        dx = dy @ (w_codes * w_scale)
        x_tokens = (x_codes / x_scale).reshape(-1, x.shape[-1])
        dw = dy.reshape(-1, w.shape[0]).T @ x_tokens
        if clip is not None:
            dw = mx.where(mx.abs(w) <= clip * w_scale, dw, 0.0)
        return dx.astype(x.dtype), dw.astype(w.dtype)

    return product
