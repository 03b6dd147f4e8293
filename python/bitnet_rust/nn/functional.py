"""Operations with gradients that are no methods of tensors."""

from bitnet_rust._native import (
    attention,
    bit_linear,
    cross_entropy,
    embedding,
    gelu,
    linear_cross_entropy,
    relu2,
    rope,
)

__all__ = [
    "attention",
    "bit_linear",
    "cross_entropy",
    "embedding",
    "gelu",
    "linear_cross_entropy",
    "relu2",
    "rope",
]
