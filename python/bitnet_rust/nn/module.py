"""What has parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bitnet_rust._errors import CheckpointError
from bitnet_rust._native import Parameter, Tensor

if TYPE_CHECKING:
    import numpy.typing as npt


class Module:
    """A layer, or a model of layers: a class with parameters and modules as attributes, and forward().

    Lists, tuples and dicts of them count as well. The name of a parameter is the way to it, such as
    "layers.0.weight". Nothing depends on a mode: evaluate within no_grad().
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what forward() returns."""
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the result; a subclass says how."""
        raise NotImplementedError(f"{type(self).__name__} has no forward()")

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield every parameter once, under the first of its names, in the order of assignment."""
        seen = set()
        for name, parameter in _found("", self):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter

    def parameters(self) -> Iterator[Parameter]:
        """Yield every parameter once."""
        for _, parameter in self.named_parameters():
            yield parameter

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def state_dict(self) -> dict[str, Tensor]:
        """Return all parameters by name as they are now; later steps do not change them."""
        return {name: parameter.detach() for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, Tensor | npt.ArrayLike]) -> None:
        """Give every parameter the value of its name: a tensor, an array or lists.

        Raises CheckpointError for names that are missing or too many, before anything changes; ShapeError.
        """
        parameters = dict(self.named_parameters())
        missing, unknown = parameters.keys() - state.keys(), state.keys() - parameters.keys()
        if missing or unknown:
            raise CheckpointError(f"missing: {sorted(missing)}; unknown: {sorted(unknown)}")
        for name, parameter in parameters.items():
            parameter.assign(state[name])


def _found(name: str, value: object) -> Iterator[tuple[str, Parameter]]:
    """Yield the parameters in an attribute, each under every name."""
    if isinstance(value, Parameter):
        yield name, value
        return
    items: Iterable[tuple[object, object]]
    if isinstance(value, Module):
        value = vars(value)
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return
    for key, item in items:
        yield from _found(f"{name}.{key}" if name else str(key), item)
