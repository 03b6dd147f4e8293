"""Gradients of tensor operations, and what has none."""

from __future__ import annotations

import copy
import math
import operator
import pickle
import threading
from collections.abc import Callable
from typing import Any

import bitnet_rust as bn
import numpy as np
import pytest
from arrays import Array, address
from gradients import check_gradients, near, wave
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

Op = Callable[..., Any]


def softmax(x: Array, axis: int) -> Array:
    shifted = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis, keepdims=True))


def rms_norm(x: Array, weight: Array | float = 1.0) -> Array:
    return np.asarray(weight * x / np.sqrt((x**2).mean(-1, keepdims=True) + 0.5))


def layer_norm(x: Array, weight: Array | float = 1.0, bias: Array | float = 0.0) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return np.asarray(weight * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 0.5) + bias)


X = wave(2, 3, 4)
MASK = wave(2, 1, 4) > 0
PLACES = np.array([[[1, 1, -4]], [[3, 0, 2]]])
POSITIVE = wave(2, 3, low=0.3, high=2.0)

# The operation, the same in NumPy (None where it is written alike), and its inputs.
CASES: dict[str, tuple[Op, Op | None, tuple[Array, ...]]] = {
    "+": (operator.add, None, (X, wave(3, 1))),
    "-": (operator.sub, None, (wave(3, 1), X)),
    "*": (operator.mul, None, (X, wave(2, 1, 4))),
    "/": (operator.truediv, None, (X, wave(4, low=0.5))),
    "numbers": (lambda x: (2.5 - x) * 3 + 1 / (x + 4) - x / 2, None, (X,)),
    "arrays": (lambda x: np.float32(2) * x + wave(4).astype(np.float32) * x, None, (X,)),
    "**": (lambda x: x**2.5 + x**-1, None, (POSITIVE,)),
    "unary": (lambda x: -x + abs(x) + (+x), None, (X,)),
    "exp": (lambda x: x.exp(), np.exp, (X,)),
    "log": (lambda x: x.log(), np.log, (POSITIVE,)),
    "sqrt": (lambda x: x.sqrt(), np.sqrt, (POSITIVE,)),
    "rsqrt": (lambda x: x.rsqrt(), lambda x: 1 / np.sqrt(x), (POSITIVE,)),
    "sin": (lambda x: x.sin(), np.sin, (X,)),
    "cos": (lambda x: x.cos(), np.cos, (X,)),
    "tanh": (lambda x: x.tanh(), np.tanh, (X,)),
    "sigmoid": (lambda x: x.sigmoid(), lambda x: 1 / (1 + np.exp(-x)), (X,)),
    "silu": (lambda x: x.silu(), lambda x: x / (1 + np.exp(-x)), (X,)),
    "relu": (lambda x: x.relu(), lambda x: np.maximum(x, 0), (X,)),
    "abs": (lambda x: x.abs(), np.abs, (X,)),
    "sum": (lambda x: x.sum((0, -1)), None, (X,)),
    "sum of all": (lambda x: x.sum(), None, (X,)),
    "mean": (lambda x: x.mean(1, keepdims=True), None, (X,)),
    "softmax": (lambda x: x.softmax(1), lambda x: softmax(x, 1), (X,)),
    "log_softmax": (lambda x: x.log_softmax(), lambda x: np.log(softmax(x, -1)), (X,)),
    "rms_norm": (lambda x, w: x.rms_norm(w, eps=0.5), rms_norm, (X, wave(4))),
    "rms_norm without weights": (lambda x: x.rms_norm(eps=0.5), rms_norm, (X,)),
    "@": (operator.matmul, None, (X, wave(4, 5))),
    "@ of batches": (operator.matmul, None, (X, wave(2, 4, 2))),
    "@ of a row": (operator.matmul, None, (wave(3), X)),
    "@ of a column": (operator.matmul, None, (X, wave(4))),
    "@ of vectors": (lambda a, b: a @ b, None, (wave(4), wave(4) + 1)),
    "@ of an array": (lambda x: wave(5, 3).astype(np.float32) @ x, None, (X,)),
    "matmul": (lambda a, b: a.matmul(b), np.matmul, (wave(3, 2), wave(2, 3))),
    "reshape": (lambda x: x.reshape(4, -1) * wave(6).astype(np.float32), None, (X,)),
    "permute": (lambda x: x.permute(2, 0, 1), lambda x: x.transpose(2, 0, 1), (X,)),
    "swapaxes": (lambda x: x.swapaxes(0, -1), None, (X,)),
    "T": (lambda x: x.T, None, (X,)),
    "unsqueeze": (lambda x: x.unsqueeze(1).squeeze(1), lambda x: x, (X,)),
    "squeeze": (lambda x: x.squeeze(), None, (wave(1, 3, 1),)),
    "broadcast_to": (
        lambda x: x.broadcast_to((2, 3, 4)),
        lambda x: np.broadcast_to(x, (2, 3, 4)),
        (wave(3, 1),),
    ),
    "contiguous": (lambda x: x.T.contiguous(), lambda x: x.T, (X,)),
    "copy": (lambda x: x.T.copy(), lambda x: x.T, (X,)),
    "an index": (lambda x: x[1, ..., None, -2], None, (X,)),
    "slices": (lambda x: x[:, 1:, -3:9], None, (X,)),
    "rows": (lambda x: sum(row * row for row in x), lambda x: (x**2).sum(0), (X,)),
    "to": (lambda x: x.to("f32"), lambda x: x, (X,)),
    "a power of a number": (lambda x: 2**x, None, (X,)),
    "a tensor as exponent": (operator.pow, None, (POSITIVE, wave(3))),
    "max": (lambda x: x.max((0, -1)), None, (X,)),
    "min": (lambda x: x.min(1, keepdims=True), None, (X,)),
    "maximum": (
        lambda x, y: x.maximum(y).maximum(-0.5),
        lambda x, y: np.maximum(np.maximum(x, y), -0.5),
        (X, wave(3, 1)),
    ),
    "minimum": (lambda x, y: x.minimum(y), np.minimum, (wave(4), X)),
    "clip": (
        lambda x: x.clip(-0.4, None) + x.clip(None, 0.9),
        lambda x: np.clip(x, -0.4, None) + np.clip(x, None, 0.9),
        (X,),
    ),
    "bounds of clip": (
        lambda x, low, high: x.clip(low, high),
        np.clip,
        (X, wave(4, low=-1.0, high=-0.2), wave(3, 1, low=0.1)),
    ),
    "where": (
        lambda x, y: bn.Tensor.where(bn.Tensor(MASK), x, y),
        lambda x, y: np.where(MASK, x, y),
        (X, wave(4)),
    ),
    "where beside a number": (
        lambda x: bn.Tensor.where(bn.Tensor(MASK), 0.5, x),
        lambda x: np.where(MASK, 0.5, x),
        (X,),
    ),
    "concatenate": (
        lambda x, y: bn.Tensor.concatenate([x, y, x], 1),
        lambda x, y: np.concatenate([x, y, x], 1),
        (X, wave(2, 1, 4)),
    ),
    "stack": (
        lambda x, y: bn.Tensor.stack([x, y], -1),
        lambda x, y: np.stack([x, y], -1),
        (wave(3), wave(3) + 1),
    ),
    "take": (lambda x: x.take([2, 0, 2], 1), lambda x: np.take(x, [2, 0, 2], 1), (X,)),
    "an array as index": (lambda x: x[:, [[0, -1], [2, 2]]], None, (X,)),
    "gather": (lambda x: x.gather(PLACES, 2), lambda x: np.take_along_axis(x, PLACES, 2), (X,)),
    "steps": (lambda x: x[::-1, :, 1::2], None, (X,)),
    "layer_norm": (lambda x, w, b: x.layer_norm(w, b, eps=0.5), layer_norm, (X, wave(4), wave(4) + 1)),
    "layer_norm without weights": (lambda x: x.layer_norm(eps=0.5), layer_norm, (X,)),
    "one tensor twice": (lambda x: x * x / (x + 3), None, (X,)),
}


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_finite_differences(case: str) -> None:
    ours, exact, arrays = CASES[case]
    check_gradients(ours, exact or ours, *arrays)


@pytest.mark.parametrize("case", CASES)
def test_notes_change_no_bit_of_a_value(case: str) -> None:
    ours, _, arrays = CASES[case]
    plain = [bn.Tensor(array.astype(np.float32)) for array in arrays]
    leaves = [bn.Tensor(x, requires_grad=True) for x in plain]
    expected, noted = ours(*plain), ours(*leaves)
    assert not expected.requires_grad
    assert noted.requires_grad
    np.testing.assert_array_equal(noted.detach().numpy(), expected.numpy())
    with bn.no_grad():
        unnoted = ours(*leaves)
    np.testing.assert_array_equal(unnoted.detach().numpy(), expected.numpy())


@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=4), st.sampled_from("+-*/"))
def test_what_was_broadcast_is_summed(shapes: hnp.BroadcastableShapes, sign: str) -> None:
    a, b = (wave(*shape, low=0.5, high=2.0).astype(np.float32) for shape in shapes.input_shapes)
    x, y = bn.Tensor(a, requires_grad=True), bn.Tensor(b, requires_grad=True)
    dz = wave(*shapes.result_shape).astype(np.float32)
    z = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}[sign](x, y)
    z.backward(bn.Tensor(dz))
    ones = np.ones_like(dz, np.float64)
    wide = {
        "+": (ones, ones),
        "-": (ones, -ones),
        "*": (ones * b, ones * a),
        "/": (ones / b, -ones * a / b.astype(np.float64) ** 2),
    }[sign]
    for leaf, slope in zip((x, y), wide, strict=True):
        assert leaf.grad is not None
        near(leaf.grad.numpy(), summed(slope * dz, leaf.shape))


def summed(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Along what was stretched."""
    gradient = gradient.sum(tuple(range(gradient.ndim - len(shape))))
    stretched = tuple(axis for axis, size in enumerate(shape) if size == 1)
    return np.asarray(gradient.sum(stretched, keepdims=True))


@pytest.mark.parametrize("dtype", ["f16", "bf16", "i8", "u8", "i32", "i64", "bool"])
def test_other_types_beside_a_leaf_are_promoted_and_constant(dtype: str) -> None:
    x, other = bn.Tensor([1.5, -2.0], requires_grad=True), bn.Tensor([2, 1]).to(dtype)
    for y in (x * other, other * x):
        assert y.dtype == "f32"
        np.testing.assert_array_equal(y.tolist(), (bn.Tensor([1.5, -2.0]) * other).tolist())
        y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2.0 * factor for factor in other.to("f32").tolist()]


# What the tape has not: refused where a gradient is wanted, and computed where none is.
WITHOUT: dict[str, Op] = {
    "//": lambda x: x // 2,
    "% from the right": lambda x: 5 % x,
    "round": lambda x: x.round(),
    "to": lambda x: x.to("f16"),
    "a new leaf": lambda x: bn.Tensor(x, "i32"),
    "numpy": lambda x: x.numpy(),
    "asarray": np.asarray,
    "from_dlpack": lambda x: np.from_dlpack(x),
    "pickle": pickle.dumps,
    "copy": copy.copy,
}


@pytest.mark.parametrize("name", WITHOUT)
def test_what_has_no_gradient_is_refused_and_never_detached(name: str) -> None:
    x = bn.Tensor([0.5, 1.5], requires_grad=True)
    operation = WITHOUT[name]
    with pytest.raises(bn.GradientError, match=r"has no gradient: detach\(\)"):
        operation(x)
    with bn.no_grad():
        expected = operation(x)
    np.testing.assert_array_equal(np.asarray(expected), np.asarray(operation(x.detach())))
    assert not getattr(expected, "requires_grad", False)


def test_what_is_no_float_needs_no_gradient() -> None:
    x = bn.Tensor([0.5, -1.5], requires_grad=True)
    for got in (x > 0, x == x, x.isnan(), x.any(), x.all(), x.argmax(), x.argmin()):
        assert not got.requires_grad
    assert (x.tolist(), float(x.sum()), x.sum().item(), len(x)) == ([0.5, -1.5], -1.0, -1.0, 2)
    assert (x.shape, x.dtype, x.size) == ((2,), "f32", 2)
    assert repr(x) == "Tensor([ 0.5, -1.5], dtype=f32, requires_grad=True)"
    assert (x * (x > 0)).tolist() == [0.5, 0.0]


# --- Tensors with gradients ------------------------------------------------------------------------


def collected(x: bn.Tensor) -> Any:
    """The gradient as a list, or None."""
    return None if x.grad is None else x.grad.tolist()


def test_gradients_add_up_until_they_are_cleared() -> None:
    x = bn.Tensor([2.0, -3.0], requires_grad=True)
    assert collected(x) is None
    for times in (1, 2):
        (x * x + x).sum().backward()
        assert collected(x) == [5.0 * times, -5.0 * times]
    x.grad = None
    assert collected(x) is None
    x.grad = bn.Tensor([1.0, 1.0])
    (x * 2).backward(bn.Tensor([1.0, 0.5]))
    assert collected(x) == [3.0, 2.0]
    assert (x * 2).grad is None


def test_detach_and_no_grad_end_the_flow() -> None:
    x = bn.Tensor([2.0], requires_grad=True)
    (x.detach() * x).backward()
    assert collected(x) == [2.0]

    def is_noted() -> bool:
        return (x * x).requires_grad

    noted: list[bool] = []
    with bn.no_grad():
        noted.append(is_noted())
        with bn.no_grad():
            noted.append(is_noted())
        noted.append(is_noted())
        thread = threading.Thread(target=lambda: noted.append(is_noted()))
        thread.start()
        thread.join()
    assert noted == [False, False, False, True]
    assert is_noted()
    with pytest.raises(LookupError), bn.no_grad():
        raise LookupError
    assert is_noted()

    @bn.no_grad()
    def evaluated() -> bn.Tensor:
        return x * x

    assert not evaluated().requires_grad
    assert address(x.detach()) == address(x.detach())


def test_what_cannot_be_is_one_clear_line() -> None:
    x, plain = bn.Tensor([1.0, 2.0], requires_grad=True), bn.Tensor([1.0, 2.0])
    y = (x * x).sum()
    y.backward()
    calls: list[tuple[Callable[[], object], type[Exception], str]] = [
        (y.backward, bn.GradientError, "run the forward pass again"),
        ((x * x).backward, bn.ShapeError, "a loss"),
        (lambda: (x * x).backward(bn.Tensor([1.0])), bn.ShapeError, "gradient"),
        (lambda: (x * x).backward(bn.Tensor([1, 2])), bn.DTypeError, "float32"),
        (plain.backward, bn.GradientError, "wants a gradient"),
        (lambda: setattr(plain, "grad", None), bn.GradientError, "wants a gradient"),
        (lambda: setattr(x * x, "grad", None), bn.GradientError, "wants a gradient"),
        (lambda: setattr(x, "grad", bn.Tensor([1.0])), bn.ShapeError, "gradient"),
        (lambda: bn.Tensor([1, 2], requires_grad=True), bn.DTypeError, "float32"),
        (lambda: bn.Tensor(x, requires_grad=True), bn.GradientError, "has a gradient already"),
        (lambda: x + bn.Tensor([1.0, 2.0, 3.0]), bn.ShapeError, "shape"),
        (lambda: x.reshape(3), bn.ShapeError, "3"),
        (lambda: x[2], bn.OutOfRangeError, "2"),
        (lambda: x @ bn.Tensor.ones((3, 1)), bn.ShapeError, "matmul"),
    ]
    for call, error, message in calls:
        with pytest.raises(error, match=message) as raised:
            call()
        assert "\n" not in str(raised.value)


def test_a_long_computation_of_many_elements() -> None:
    """On several threads: the numbers of a few are those of one."""
    values = wave(1 << 11, 1 << 10).astype(np.float32)
    x = bn.Tensor(values, requires_grad=True)
    y = x
    for _ in range(5):
        y = (y * 0.5 + 1).tanh()
    y.mean().backward()
    assert x.grad is not None
    few = bn.Tensor(values[:3], requires_grad=True)
    y = few
    for _ in range(5):
        y = (y * 0.5 + 1).tanh()
    (y.sum() / math.prod(x.shape)).backward()
    assert few.grad is not None
    np.testing.assert_array_equal(x.grad[:3].numpy(), few.grad.numpy())
