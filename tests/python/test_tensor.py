"""Operations of tensors against NumPy: over types, shapes and strides."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import bitnet_rust as bn
import numpy as np
import pytest
from arrays import DTYPES, FLOATS, INTEGERS, Array, arrays, check, close, tensor
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

# Overflow, division by zero and NaN are what the tests are about.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def promoted(a: str, b: str) -> str:
    """NumPy's type for both, as far as there is one of ours: see bitnet_core::tensor::promote."""
    both = np.result_type(np.dtype(a), np.dtype(b)).name
    return {"int16": "int32", "float64": "float32"}.get(both, both)


@st.composite
def pairs(draw: st.DrawFn, dtypes: list[str] = DTYPES) -> tuple[Array, Array]:
    """Two arrays whose shapes broadcast, of any types."""
    shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=0, max_side=5))
    a, b = (draw(arrays(dtypes)) for _ in range(2))
    return tuple(  # type: ignore[return-value]
        np.resize(array if array.size else np.ones(1, array.dtype), shape)
        for array, shape in zip((a, b), shapes.input_shapes, strict=True)
    )


ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "*": operator.mul,
    "-": operator.sub,
    "//": operator.floordiv,
    "%": operator.mod,
}
COMPARISON: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@pytest.mark.parametrize("sign", ARITHMETIC)
@given(both=pairs())
def test_arithmetic_broadcasts_and_promotes(sign: str, both: tuple[Array, Array]) -> None:
    a, b = both
    if sign in "-//%" and a.dtype == b.dtype == np.dtype(bool):
        with pytest.raises(bn.DTypeError):
            ARITHMETIC[sign](tensor(a), tensor(b))
        return
    dtype = promoted(a.dtype.name, b.dtype.name)
    expected = ARITHMETIC[sign](a.astype(dtype), b.astype(dtype))
    check(ARITHMETIC[sign](tensor(a), tensor(b)), expected)


@given(pairs())
def test_division_gives_floats(both: tuple[Array, Array]) -> None:
    a, b = both
    dtype = promoted(a.dtype.name, b.dtype.name)
    dtype = dtype if dtype in FLOATS else "float32"
    check(tensor(a) / tensor(b), a.astype(dtype) / b.astype(dtype))


@given(pairs(INTEGERS))
def test_integer_powers_wrap(both: tuple[Array, Array]) -> None:
    a, b = both
    dtype = promoted(a.dtype.name, b.dtype.name)
    if b.size and b.min() < 0:
        with pytest.raises(bn.OptionError, match="negative"):
            tensor(a) ** tensor(b)
    else:
        check(tensor(a) ** tensor(b), a.astype(dtype) ** b.astype(dtype))


@given(arrays(["float32"]), st.sampled_from([2, 3, 0.5, -1, 0]))
@example(np.array(-np.inf, np.float32), 0.5)
def test_float_powers(a: Array, power: float) -> None:
    """As C's pow. NumPy has it for scalars; for arrays and 0.5 it takes the root, which is nan of -inf."""
    exact = np.vectorize(lambda x: np.float64(x) ** power, otypes=[np.float64])
    with np.errstate(all="ignore"):
        close(tensor(a) ** power, exact(a))


@pytest.mark.parametrize("sign", COMPARISON)
@given(both=pairs())
def test_comparison(sign: str, both: tuple[Array, Array]) -> None:
    a, b = both
    dtype = promoted(a.dtype.name, b.dtype.name)
    check(COMPARISON[sign](tensor(a), tensor(b)), COMPARISON[sign](a.astype(dtype), b.astype(dtype)))


@given(pairs([*INTEGERS, "bool"]))
def test_bits(both: tuple[Array, Array]) -> None:
    a, b = both
    dtype = promoted(a.dtype.name, b.dtype.name)
    wide_a, wide_b = a.astype(dtype), b.astype(dtype)
    check(tensor(a) & tensor(b), wide_a & wide_b)
    check(tensor(a) | tensor(b), wide_a | wide_b)
    check(tensor(a) ^ tensor(b), wide_a ^ wide_b)
    check(~tensor(a), ~a)


@given(pairs())
def test_extremes_and_choice(both: tuple[Array, Array]) -> None:
    a, b = both
    dtype = promoted(a.dtype.name, b.dtype.name)
    check(tensor(a).maximum(tensor(b)), np.maximum(a.astype(dtype), b.astype(dtype)))
    check(tensor(a).minimum(tensor(b)), np.minimum(a.astype(dtype), b.astype(dtype)))
    condition = np.asarray(a > 1)
    chosen = bn.Tensor.where(tensor(condition), tensor(a), tensor(b))
    check(chosen, np.where(condition, a.astype(dtype), b.astype(dtype)))


@given(arrays(), st.sampled_from([True, 2, -1, 0.5]))
def test_numbers_are_weak(a: Array, number: float) -> None:
    if isinstance(number, int) and number < 0 and a.dtype.name == "uint8":
        with pytest.raises(bn.OptionError, match="out of range"):
            tensor(a) + number
        return
    dtype = np.result_type(a.dtype, type(number)) if a.dtype.name == "bool" else np.result_type(a, number)
    dtype = np.dtype({"float64": "float32"}.get(dtype.name, dtype.name))
    value = np.asarray(number).astype(dtype)
    check(tensor(a) + number, a.astype(dtype) + value)
    check(number * tensor(a), value * a.astype(dtype))
    if dtype.name != "bool":
        check(number - tensor(a), value - a.astype(dtype))


@given(arrays(INTEGERS), st.integers(-(2**40), 2**40))
def test_numbers_out_of_range_compare(a: Array, number: int) -> None:
    check(tensor(a) < number, a.astype(np.int64) < number)
    check(tensor(a) == number, a.astype(np.int64) == number)


FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: np.where(x == -np.inf, np.nan, x / (1 + np.exp(-x))),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@given(a=arrays())
def test_functions(name: str, a: Array) -> None:
    got = getattr(tensor(a), name)()
    assert got.dtype == (tensor(a).dtype if a.dtype.name in FLOATS else "f32")
    # An integer is a float32 first.
    exact = a.astype(a.dtype if a.dtype.name in FLOATS else np.float32).astype(np.float64)
    close(got, FUNCTIONS[name](exact), atol=1e-37 if name == "silu" else 0)


@given(arrays())
def test_functions_within_the_type(a: Array) -> None:
    check(tensor(a).abs(), np.abs(a))
    check(abs(tensor(a)), np.abs(a))
    check(+tensor(a), a)
    check(tensor(a).isnan(), np.isnan(a.astype(np.float32)))
    check(tensor(a).relu(), np.where(a < 0, np.zeros((), a.dtype), a))
    if a.dtype.name != "bool":
        check(-tensor(a), np.negative(a))
        check(tensor(a).clip(0, 3), np.clip(a, np.array(0, a.dtype), np.array(3, a.dtype)))
        check(tensor(a).clip(high=3), np.minimum(a, np.array(3, a.dtype)))
        check(tensor(a).round(), np.rint(a) if a.dtype.name in FLOATS else a)


@given(arrays(["float32", "int32"]))
def test_sine_and_cosine(a: Array) -> None:
    x = np.asarray(np.clip(np.nan_to_num(a.astype(np.float32)), -1000, 1000), np.float32)
    close(tensor(x).sin(), np.sin(x.astype(np.float64)), atol=1e-7)
    close(tensor(x).cos(), np.cos(x.astype(np.float64)), atol=1e-7)


@given(arrays(), st.sampled_from(DTYPES))
def test_conversion(a: Array, dtype: str) -> None:
    got = tensor(a).to(dtype)
    if a.dtype.name in FLOATS and dtype in INTEGERS:
        # NumPy leaves open what does not fit; here it saturates.
        wide = np.nan_to_num(a.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
        info = np.iinfo(dtype)
        fits = (wide > float(info.min)) & (wide < float(info.max))
        saturated = np.where(wide > 0, info.max, info.min).astype(dtype)
        check(got, np.where(fits, np.where(fits, wide, 0).astype(dtype), saturated))
    elif dtype == "float16" and a.dtype.name in INTEGERS:
        check(got, a.astype(np.float32).astype(dtype))
    else:
        check(got, a.astype(dtype))


@given(arrays(), st.data())
def test_reductions(a: Array, data: st.DataObject) -> None:
    axes = data.draw(st.none() | st.lists(st.integers(0, max(a.ndim - 1, 0)), unique=True).map(tuple))
    axes = None if a.ndim == 0 else axes
    keep = data.draw(st.booleans())
    x = tensor(a)
    # What NumPy rounds off in float64 is as large as the magnitudes it adds, not as their sum.
    wide = a.astype(np.float64)
    bound = float(np.abs(np.where(np.isfinite(wide), wide, 0)).sum()) * 1e-15
    if a.dtype.name in FLOATS:
        close(x.sum(axes, keepdims=keep), wide.sum(axis=axes, keepdims=keep), ulps=1, atol=bound)
        close(x.mean(axes, keepdims=keep), wide.mean(axis=axes, keepdims=keep), ulps=1, atol=bound)
    else:
        check(x.sum(axes, keepdims=keep), np.sum(a, axis=axes, keepdims=keep, dtype=np.int64))
        exact = np.mean(a, axis=axes, keepdims=keep, dtype=np.float64)
        close(x.mean(axes, keepdims=keep), exact, ulps=1, atol=bound)
        assert x.mean(axes).dtype == "f32"
    check(x.any(axes, keepdims=keep), np.any(a, axis=axes, keepdims=keep))
    check(x.all(axes, keepdims=keep), np.all(a, axis=axes, keepdims=keep))
    reduced = range(a.ndim) if axes is None else axes
    if all(a.shape[axis] for axis in reduced):
        check(x.max(axes, keepdims=keep), np.max(a, axis=axes, keepdims=keep))
        check(x.min(axes, keepdims=keep), np.min(a, axis=axes, keepdims=keep))
    else:
        with pytest.raises(bn.ShapeError, match="no elements"):
            x.max(axes)


@given(arrays(), st.data())
def test_places_of_extremes(a: Array, data: st.DataObject) -> None:
    axis = data.draw(st.none() | st.integers(-a.ndim, a.ndim - 1)) if a.ndim else None
    keep = data.draw(st.booleans())
    if a.size == 0 if axis is None else a.shape[axis] == 0:
        with pytest.raises(bn.ShapeError, match="no elements"):
            tensor(a).argmax(axis)
        return
    check(tensor(a).argmax(axis, keepdims=keep), np.argmax(a, axis=axis, keepdims=keep))
    check(tensor(a).argmin(axis, keepdims=keep), np.argmin(a, axis=axis, keepdims=keep))


def test_large_reductions_are_as_good_as_float64() -> None:
    a = np.random.default_rng(0).standard_normal((1300, 1100)).astype(np.float32)
    wide = a.astype(np.float64)
    for view, exact in [(a, wide), (a.T, wide.T), (a[::-2, ::3], wide[::-2, ::3])]:
        for axis in (None, 0, 1):
            close(tensor(view).sum(axis), exact.sum(axis=axis), ulps=1, atol=1e-9)
            check(tensor(view).max(axis), view.max(axis=axis))
            check(tensor(view).argmin(axis), view.argmin(axis=axis))


@given(arrays(min_dims=1), st.data())
def test_take_and_gather(a: Array, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-a.ndim, a.ndim - 1))
    size = a.shape[axis]
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    index = (
        data.draw(hnp.arrays(np.int32, shape, elements=st.integers(-size, size - 1)))
        if size
        else np.zeros(0, np.int64)
    )
    view = data.draw(st.sampled_from([a, a.T.copy().T]))
    check(tensor(view).take(tensor(index), axis), np.take(view, index, axis))
    along = list(a.shape)
    along[axis] = data.draw(st.integers(0, 3)) if size else 0
    index = data.draw(
        hnp.arrays(np.int64, tuple(along), elements=st.integers(-size, size - 1) if size else st.just(0))
    )
    check(tensor(view).gather(tensor(index), axis), np.take_along_axis(view, index, axis))
    for wrong in (size, -size - 1):
        with pytest.raises(bn.OutOfRangeError, match="out of range"):
            tensor(a).take([wrong], axis)
        with pytest.raises(IndexError):
            tensor(a).take(wrong, axis)


@given(pairs(), st.data())
def test_concatenation(both: tuple[Array, Array], data: st.DataObject) -> None:
    a, other = both
    axis = data.draw(st.integers(0, max(a.ndim - 1, 0)))
    b = np.resize(other if other.size else np.ones(1, other.dtype), a.shape)
    dtype = promoted(a.dtype.name, b.dtype.name)
    check(
        bn.Tensor.stack([tensor(a), tensor(b.T.copy().T)], axis),
        np.stack([a.astype(dtype), b.astype(dtype)], axis),
    )
    if a.ndim:
        parts = [a, b, a[tuple(slice(0, 1) if i == axis else slice(None) for i in range(a.ndim))]]
        got = bn.Tensor.concatenate([tensor(part) for part in parts], axis)
        check(got, np.concatenate([part.astype(dtype) for part in parts], axis))


@pytest.mark.parametrize("dtype", ["f32", "i8"])
def test_results_do_not_depend_on_the_shape_of_the_work(dtype: str) -> None:
    # Large enough for threads, beside a part that is not.
    a = bn.Tensor(np.random.default_rng(2).integers(-50, 50, (1500, 1000)), dtype)
    np.testing.assert_array_equal(np.asarray(a.to("f32").exp())[:3], np.asarray(a[:3].to("f32").exp()))
    np.testing.assert_array_equal(
        np.asarray(a.to("f32").softmax())[-2:], np.asarray(a[-2:].to("f32").softmax())
    )
    np.testing.assert_array_equal(np.asarray(a.sum(1))[7], np.asarray(a[7].sum()))


ERRORS: dict[str, tuple[Callable[[bn.Tensor], Any], type[Exception], str]] = {
    "shapes": (lambda x: x + bn.Tensor.ones(4), bn.ShapeError, r"broadcast shapes \[2, 3\] and \[4\]"),
    "product": (lambda x: x @ x, bn.ShapeError, "matmul shapes"),
    "product of a number": (lambda x: x @ 2.0, bn.ShapeError, "matmul"),
    "axis": (lambda x: x.sum(2), bn.ShapeError, "axis 2 is out of range for 2 dimensions"),
    "no axis": (lambda x: x.sum("a"), TypeError, "axis is one integer or several, not a"),  # type: ignore[arg-type]
    "axis twice": (lambda x: x.sum((0, -2)), bn.ShapeError, "named twice"),
    "index": (lambda x: x[2], bn.OutOfRangeError, "index 2 is out of range for axis 0 of length 2"),
    "indices": (lambda x: x[0, 0, 0], IndexError, "3 indices for 2 dimensions"),
    "mask": (lambda x: x[x > 1], bn.DTypeError, "integer indices"),
    "two arrays": (lambda x: x[[0], [0]], IndexError, "at most one array"),
    "step": (lambda x: x[::0], ValueError, "step"),
    "reshape": (lambda x: x.reshape(4, -1), bn.ShapeError, "6 elements do not make up shape"),
    "dtype": (lambda x: x.to("f8"), bn.DTypeError, "unknown data type"),
    "float64": (lambda x: x.to(np.float64), bn.DTypeError, "float64"),
    "bits of floats": (lambda x: x & x, bn.DTypeError, "no & for f32"),
    "truth": (lambda x: bool(x), bn.ShapeError, "not one number"),
    "item": (lambda x: x.item(), bn.ShapeError, "not one number"),
    "number too large": (lambda x: x.to("i8") + 1000, bn.OptionError, "1000 is out of range for i8"),
    "number far too large": (lambda x: x + 2**70, OverflowError, "out of range for i64"),
    "views of packed codes": (lambda x: x.to("i8").to("ternary").T, bn.DTypeError, "packed and read whole"),
    "sum of packed codes": (lambda x: x.to("i8").to("ternary") + 1, bn.DTypeError, "packed and read whole"),
    "floats to pack": (lambda x: x.to("ternary"), bn.DTypeError, "expected i8 codes"),
    "codes to pack": (
        lambda x: (x + 1).to("i8").to("ternary"),
        bn.QuantizationError,
        "2 is not a ternary code",
    ),
    "packed by floats": (lambda x: x.to("i8").to("ternary") @ x.T, bn.DTypeError, "i8 beside a ternary"),
    "packed by the wrong": (lambda x: x.to("i8").to("ternary") @ x.to("i8"), bn.ShapeError, "matmul shapes"),
    "packed for NumPy": (lambda x: np.asarray(x.to("i8").to("ternary")), bn.DTypeError, r"\.to\(\"i8\"\)"),
    "packed for DLPack": (lambda x: np.from_dlpack(x.to("i8").to("ternary")), BufferError, r"\.to\(\"i8\"\)"),
    "text": (lambda x: operator.add(x, "a"), TypeError, "unsupported operand"),
    "stack": (lambda x: bn.Tensor.stack([x, x[0]]), bn.ShapeError, "stack shapes"),
    "nothing": (lambda x: bn.Tensor.concatenate([]), bn.ShapeError, "no elements"),
    "norm": (lambda x: x.rms_norm(bn.Tensor.ones(2)), bn.ShapeError, "rms_norm shapes"),
    "too large": (lambda x: bn.Tensor.zeros((2**40, 2**20)), bn.OutOfMemoryError, "do not fit into memory"),
    "far too large": (lambda x: bn.Tensor.zeros((2**40, 2**40)), bn.ShapeError, "memory can address"),
    "negative": (lambda x: bn.Tensor.zeros(-1), TypeError, "a shape is one length or several, not -1"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_cannot_be_is_one_clear_line(name: str) -> None:
    call, error, message = ERRORS[name]
    with pytest.raises(error, match=message) as caught:
        call(bn.Tensor.ones((2, 3)))
    assert len(str(caught.value).splitlines()) == 1
