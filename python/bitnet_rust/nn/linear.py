"""Linears: of floats, and of ternary weights."""

from bitnet_rust._native import Parameter, Tensor, TernaryMatrix, bit_linear, new_linear, quantize_weights
from bitnet_rust.nn.module import Module


class Linear(Module):
    """y = x W^T + b: [..., out_features] of [..., in_features].

    The weights are normal with the deviation 1 / sqrt(in_features), the bias, if there is one, is 0 at first.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = False) -> None:
        self.weight, self.bias = new_linear(in_features, out_features, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return y. Raises ShapeError."""
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


class BitLinear(Module):
    """y = Q(x) Q(W)^T + b, ternary weights by int8 activations: [..., out_features] of [..., in_features].

    weight is the float master that training moves; the product is the integer kernel of inference. First
    values are those of Linear; clip and blend are those of functional.bit_linear, and may be set between
    steps.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = False,
        *,
        clip: float | None = None,
        blend: float = 1.0,
    ) -> None:
        self.weight, self.bias = new_linear(in_features, out_features, bias)
        self.clip = clip
        self.blend = blend

    def forward(self, x: Tensor) -> Tensor:
        """Return y. Raises ShapeError, OptionError, QuantizationError for numbers that are not finite."""
        y = bit_linear(x, self.weight, clip=self.clip, blend=self.blend)
        return y if self.bias is None else y + self.bias

    def ternary(self) -> TernaryMatrix:
        """Return Q(W) as it is now: codes in -1, 0, +1 and a scale."""
        return quantize_weights(self.weight.detach().numpy())
