"""MLX modules of ternary weights and int8 activations.

```python
import mlx.core as mx
from bitnet_rust.mlx import nn

layer = nn.BitLinear(64, 256)        # a float master, trained by MLX's autograd
y = layer(mx.random.normal((8, 64)))
packed = layer.to_quantized()        # 2 bits a weight, the same y
```
"""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import mlx.nn as mlx_nn
import numpy as np

import bitnet_rust as bn
from bitnet_rust.mlx import packing
from bitnet_rust.mlx.product import MAX_COLUMNS, ternary_linear
from bitnet_rust.mlx.straight_through import bit_linear

__all__ = ["BitLinear", "QuantizedBitLinear"]


class BitLinear(mlx_nn.Module):
    """y = Q(norm(x)) Q(W)^T + b: [..., out_features] of [..., in_features], by gradients straight through.

    weight is the float master that training moves, normal with the deviation 1 / sqrt(in_features) at first;
    the bias, if there is one, is 0. norm, if there is one, is a module in front of the quantization. clip
    and blend are those of bitnet_rust.nn.BitLinear, and may be set between steps.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = False,
        *,
        norm: mlx_nn.Module | None = None,
        clip: float | None = None,
        blend: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = mx.random.normal((out_features, in_features)) / math.sqrt(in_features)
        if bias:
            self.bias = mx.zeros((out_features,))
        if norm is not None:
            self.norm = norm
        self.clip = clip
        self.blend = blend

    def __call__(self, x: mx.array) -> mx.array:
        """Return y. Raises ValueError."""
        y = bit_linear(_normed(self, x), self.weight, clip=self.clip, blend=self.blend)
        return _biased(self, y)

    def to_quantized(self, **_options: Any) -> QuantizedBitLinear:
        """Return the layer of Q(W) as it is now. Raises QuantizationError for numbers that are not finite."""
        ternary = bn.quantize_weights(np.array(self.weight.astype(mx.float32)))
        return QuantizedBitLinear.from_ternary(ternary, bias=self.get("bias"), norm=self.get("norm"))


class QuantizedBitLinear(mlx_nn.Module):
    """y = Q(norm(x)) W^T + b, W = codes * weight_scale in 2 bits: [..., out_features] of [..., in_features].

    weight is uint32 [out_features, in_features / 16], filled up to a multiple of 32 columns; weight_scale
    float32 [1]. They and the bias are frozen; what is in front of the layer gets its gradient straight
    through, so that adapters can be trained.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = False, *, norm: mlx_nn.Module | None = None
    ) -> None:
        super().__init__()
        if in_features >= MAX_COLUMNS:
            raise ValueError(f"{in_features} columns: float32 holds the sums of fewer than {MAX_COLUMNS}")
        self.in_features = in_features
        words = packing.padded(in_features) // packing.CODES_PER_WORD
        self.weight = mx.zeros((out_features, words), dtype=mx.uint32)
        self.weight_scale = mx.ones((1,))
        if bias:
            self.bias = mx.zeros((out_features,))
        if norm is not None:
            self.norm = norm
        self.freeze()

    @staticmethod
    def from_ternary(
        ternary: bn.TernaryMatrix, *, bias: mx.array | None = None, norm: mlx_nn.Module | None = None
    ) -> QuantizedBitLinear:
        """Return the layer of a matrix with one scale. Raises QuantizationError where it has several."""
        rows, columns = ternary.shape
        layer = QuantizedBitLinear(columns, rows, norm=norm)
        layer.weight = packing.pack(mx.array((ternary.codes + 1).astype(np.uint8)))
        layer.weight_scale = mx.array([ternary.scale])
        if bias is not None:
            layer.bias = bias
        layer.freeze()
        return layer

    def __call__(self, x: mx.array) -> mx.array:
        """Return y, float32. Raises ValueError."""
        if x.shape[-1] != self.in_features:
            raise ValueError(f"x has {x.shape[-1]} columns; the layer takes {self.in_features}")
        return _biased(self, ternary_linear(_normed(self, x), self.weight, self.weight_scale))

    def unfreeze(
        self, *, recurse: bool = True, keys: str | list[str] | None = None, strict: bool = False
    ) -> mlx_nn.Module:
        """Unfreeze what can learn, the norm; codes, scale and bias stay as they are."""
        super().unfreeze(recurse=recurse, keys=keys, strict=strict)
        return self.freeze(recurse=False)


def _normed(layer: mlx_nn.Module, x: mx.array) -> mx.array:
    return layer.norm(x) if "norm" in layer else x


def _biased(layer: mlx_nn.Module, y: mx.array) -> mx.array:
    return y + layer.bias if "bias" in layer else y
