"""For tests of backends written in Python.

```python
import bitnet_rust as bn

def test_my_backend():
    bn.testing.check_backend(MyBackend(), bn.load("path"), tolerance=1e-3)
```
"""

from collections.abc import Iterable

from bitnet_rust._backend import Backend
from bitnet_rust._native import Model, backend_violations, greedy_tokens

__all__ = ["check_backend", "greedy"]


def check_backend(backend: Backend, model: Model, *, tolerance: float = 0.0) -> None:
    """Raise AssertionError with every rule of the contract that a backend of `model` breaks.

    Logits that ought to be equal may be `tolerance` apart; 0 asks for the same bits. The model must hold 200
    positions.
    """
    violations = backend_violations(backend, model, tolerance)
    if violations:
        raise AssertionError("the backend breaks its contract:\n" + "\n".join(violations))


def greedy(backend: Backend, model: Model, ids: Iterable[int], max_tokens: int) -> list[int]:
    """Return the most probable tokens behind `ids`, by an engine on a backend of `model`.

    Raises DeviceError when the backend fails, with what it raised and where.
    """
    return greedy_tokens(backend, model, ids, max_tokens)
