"""Vectors of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitnet_rust._native import Parameter, Tensor, embedding, new_embedding
from bitnet_rust.nn.module import Module

if TYPE_CHECKING:
    import numpy.typing as npt


class Embedding(Module):
    """A row of weight [num_embeddings, embedding_dim] for each id; normal with the deviation 0.02 at first.

    Weight decay spares it.
    """

    weight: Parameter

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        self.weight = new_embedding(num_embeddings, embedding_dim)

    def forward(self, ids: Tensor | npt.ArrayLike) -> Tensor:
        """Return [*ids.shape, embedding_dim]. Raises OutOfRangeError."""
        return embedding(ids, self.weight)
