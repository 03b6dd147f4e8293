"""Arrays and tensors for tests: every type, shape and stride."""

from __future__ import annotations

from typing import Any

import bitnet_rust as bn
import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

Array = npt.NDArray[Any]

FLOATS = ["float32", "float16"]
INTEGERS = ["int8", "uint8", "int32", "int64"]
DTYPES = [*FLOATS, *INTEGERS, "bool"]
NAMES = {
    "float32": "f32",
    "float16": "f16",
    "int8": "i8",
    "uint8": "u8",
    "int32": "i32",
    "int64": "i64",
    "bool": "bool",
}


def elements(dtype: str) -> st.SearchStrategy[Any]:
    """Elements of all kinds: of floats also infinities and NaN, of integers the ends of the range."""
    if dtype == "bool":
        return st.booleans()
    if dtype in INTEGERS:
        info = np.iinfo(dtype)
        return (
            st.integers(-3, 3) | st.integers(int(info.min), int(info.max))
            if info.min
            else st.integers(0, 255)
        )
    return st.floats(width=32 if dtype == "float32" else 16) | st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5])


@st.composite
def views(draw: st.DrawFn, array: Array) -> Array:
    """A transposed, sliced, reversed or broadcast view of an array."""
    for kind in draw(st.lists(st.sampled_from(["transpose", "slice", "broadcast", "axis"]), max_size=3)):
        if kind == "transpose" and array.ndim:
            array = array.transpose(draw(st.permutations(range(array.ndim))))
        elif kind == "slice" and array.ndim:
            array = array[draw(hnp.basic_indices(array.shape, allow_newaxis=False, allow_ellipsis=False))]
            array = np.asarray(array)
        elif kind == "broadcast" and array.size < 200:
            array = np.broadcast_to(array, (draw(st.integers(0, 3)), *array.shape))
        elif kind == "axis":
            array = np.expand_dims(array, draw(st.integers(0, array.ndim)))
    return array


@st.composite
def arrays(draw: st.DrawFn, dtypes: list[str] = DTYPES, min_dims: int = 0, max_side: int = 6) -> Array:
    """An array of any type and stride, also empty or without dimensions."""
    dtype = draw(st.sampled_from(dtypes))
    shape = draw(hnp.array_shapes(min_dims=min_dims, max_dims=4, min_side=0, max_side=max_side))
    if min_dims == 0 and draw(st.integers(0, 9)) == 0:
        shape = ()
    array = draw(hnp.arrays(dtype, shape, elements=elements(dtype)))
    return draw(views(array)) if min_dims == 0 else array


def tensor(array: Array) -> bn.Tensor:
    """A tensor over the memory of an array, with its strides."""
    made = bn.Tensor.from_numpy(array)
    assert made.shape == array.shape
    assert made.dtype == NAMES[array.dtype.name]
    return made


def check(got: bn.Tensor, expected: Array | np.generic) -> None:
    """Shape, type and every element, bit for bit but for the kind of NaN."""
    expected = np.asarray(expected)
    array = np.asarray(got)
    assert got.dtype == NAMES[expected.dtype.name], (got.dtype, expected.dtype)
    assert array.dtype == expected.dtype
    assert got.shape == expected.shape
    np.testing.assert_array_equal(array, expected)


def close(got: bn.Tensor, exact: Array | np.generic, *, ulps: float = 4, atol: float = 0.0) -> None:
    """Within units in the last place of what NumPy computes in float64; `atol` is for sums that cancel."""
    exact = np.asarray(exact)
    array = np.asarray(got)
    assert got.shape == exact.shape
    with np.errstate(over="ignore"):
        rounded = exact.astype(array.dtype)
    rtol = ulps * float(np.finfo(array.dtype).eps)
    tiny = float(np.finfo(array.dtype).tiny)
    np.testing.assert_allclose(
        array.astype(np.float64), rounded.astype(np.float64), rtol=rtol, atol=atol + tiny
    )


def address(array: Any) -> int:
    """Where the first element is."""
    return int(np.asarray(array).__array_interface__["data"][0])
