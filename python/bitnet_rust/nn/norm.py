"""Root-mean-square normalisation."""

from bitnet_rust._native import Parameter, Tensor, new_rms_norm
from bitnet_rust.nn.module import Module


class RMSNorm(Module):
    """y_i = w_i x_i / sqrt(mean(x^2) + eps) along the last dimension, of `width`; w is 1 at first.

    Weight decay spares it. Source: arXiv 1910.07467.
    """

    weight: Parameter

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        self.weight = new_rms_norm(width)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return y. Raises ShapeError."""
        return x.rms_norm(self.weight, eps=self.eps)
