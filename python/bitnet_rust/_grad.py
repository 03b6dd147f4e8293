"""Where gradients are not noted."""

from collections.abc import Iterator
from contextlib import contextmanager

from bitnet_rust._native import set_recording


@contextmanager
def no_grad() -> Iterator[None]:
    """Compute without notes for gradients: for evaluation, as a context or a decorator.

    What is computed of parameters within is a plain tensor, and operations that have no gradient run. It
    holds for the thread that enters it.
    """
    before = set_recording(False)
    try:
        yield
    finally:
        set_recording(before)
