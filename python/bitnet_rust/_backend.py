"""What a Python object is that runs models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from bitnet_rust._native import Work


class BackendSession(Protocol):
    """A KV cache, and what runs batches of tokens of several sequences with it.

    A token's logits must not depend on what shares its batch, or on the pieces in which its prompt came;
    bitnet_rust.testing.check_backend says whether that is so.
    """

    def execute(self, batch: Sequence[Work], /) -> npt.NDArray[np.float32]:
        """Run a batch, write its keys and values to their pages, and return logits [outputs, vocab_size].

        Outputs are those of the batch, the last `outputs` tokens of each entry, the first entry's first. What
        was written behind the position of a later entry does not count. MemoryError makes the engine ask for
        less; any other exception fails the batch, which may be run again.
        """
        ...

    def copy_page(self, source: int, target: int, /) -> None:
        """Copy keys and values of a page of 64 positions."""
        ...


class Backend(Protocol):
    """A model on a device of yours."""

    @property
    def name(self) -> str:
        """Name of the device."""
        ...

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights."""
        ...

    def open(
        self, pages: int, positions: int, tokens: int, kv_type: Literal["f32", "f16", "int8"], /
    ) -> BackendSession:
        """Start a session with room for so many pages, positions of a sequence and tokens of a batch.

        kv_type is how keys and values are to be stored; one that the device does not have is an exception.
        """
        ...
