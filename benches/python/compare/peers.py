"""The engines that are compared, and what each needs installed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """An engine by its name on PyPI."""

    name: str
    module: str
    """The module of this package that measures it."""
    needs: tuple[str, ...]
    """What that module imports."""
    weights: tuple[str, ...]
    """The forms in which it multiplies the weights."""

    def missing(self) -> list[str]:
        """The needed packages that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]

    def engine(self) -> str:
        """Name and installed version."""
        return f"{self.name} {importlib.metadata.version(self.name)}"


PEERS = (
    Peer("bitnet-rust", "peer_bitnet", ("bitnet_rust",), ("packed 2-bit",)),
    Peer("llama-cpp-python", "peer_llama_cpp", ("llama_cpp", "gguf"), ("TQ2_0", "TQ1_0")),
    Peer(
        "transformers", "peer_transformers", ("transformers", "torch", "accelerate"), ("bfloat16", "float32")
    ),
    Peer("mlx-lm", "peer_mlx", ("mlx", "mlx_lm"), ("packed 2-bit",)),
)
