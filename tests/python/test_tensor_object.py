"""Tensors as Python objects: constructors, indexing, views, numbers, printing, pickles."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import bitnet_rust as bn
import numpy as np
import pytest
from arrays import DTYPES, NAMES, Array, address, arrays, check, tensor
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

# --- Constructors --------------------------------------------------------------------------------


def test_constructors() -> None:
    check(bn.Tensor([[1, 2], [3, 4]]), np.array([[1, 2], [3, 4]], np.int64))
    check(bn.Tensor([1.5, 2]), np.array([1.5, 2], np.float32))
    check(bn.Tensor([True, False]), np.array([True, False]))
    check(bn.Tensor(3, "u8"), np.array(3, np.uint8))
    check(bn.Tensor([], "i32"), np.zeros(0, np.int32))
    check(bn.Tensor(bn.Tensor([1, 2]), np.float16), np.array([1, 2], np.float16))
    check(bn.Tensor(np.array([1, 2], np.uint16)), np.array([1, 2], np.int32))
    check(bn.Tensor.zeros((2, 0)), np.zeros((2, 0), np.float32))
    check(bn.Tensor.ones(3, "int8"), np.ones(3, np.int8))
    check(bn.Tensor.full([2], 7), np.full(2, 7, np.int64))
    check(bn.Tensor.full((), 0.5), np.float32(0.5))
    check(bn.Tensor.full(2, True), np.array([True, True]))
    check(bn.Tensor.full(2, 2.9, "i8"), np.array([2, 2], np.int8))


@given(st.integers(-20, 20), st.integers(-20, 20), st.integers(-5, 5).filter(bool))
def test_arange(start: int, stop: int, step: int) -> None:
    check(bn.Tensor.arange(start, stop, step), np.arange(start, stop, step, dtype=np.int64))
    check(bn.Tensor.arange(start, stop + 0.5, step), np.arange(start, stop + 0.5, step).astype(np.float32))
    check(bn.Tensor.arange(abs(stop), dtype="i8"), np.arange(abs(stop), dtype=np.int8))


# --- Indexing and views --------------------------------------------------------------------------


@given(arrays(), st.data())
def test_basic_indexing_gives_views(a: Array, data: st.DataObject) -> None:
    index = data.draw(hnp.basic_indices(a.shape, max_dims=6, allow_newaxis=True))
    expected = np.asarray(a[index])
    got = tensor(a)[index]
    check(got, expected)
    if expected.size and expected.ndim:
        assert address(got) == address(expected)


@given(arrays(min_dims=1), st.data())
def test_an_array_of_integers_takes(a: Array, data: st.DataObject) -> None:
    size = a.shape[0]
    rows = data.draw(st.lists(st.integers(-size, size - 1), max_size=4)) if size else []
    index = np.array(rows, np.int64)
    check(tensor(a)[index], a[index])
    check(tensor(a)[rows] if rows else tensor(a)[index], a[index])
    check(tensor(a)[bn.Tensor(index), ..., None], a[index, ..., None])
    check(tensor(a)[..., bn.Tensor([0])] if a.shape[-1] else tensor(a), a[..., [0]] if a.shape[-1] else a)
    if a.ndim > 1 and a.shape[1]:
        check(tensor(a)[:, index[:0]], a[:, index[:0]])
        check(tensor(a)[index, 0], a[index, 0])


def test_indices_that_numpy_would_move_are_refused() -> None:
    x = bn.Tensor.zeros((2, 3, 4))
    with pytest.raises(IndexError, match="side by side"):
        x[0, :, [1]]
    with pytest.raises(IndexError, match="truth"):
        x[True]
    with pytest.raises(IndexError, match="at most one"):
        x[..., ...]
    with pytest.raises(TypeError, match="an index is"):
        x[1.5]  # type: ignore[index]


@given(arrays(), st.data())
def test_views_have_the_elements_of_numpys(a: Array, data: st.DataObject) -> None:
    x = tensor(a)
    check(x.T, a.T)
    check(x.reshape(-1), a.reshape(-1))
    check(x.reshape(*a.shape, 1), a.reshape(*a.shape, 1))
    check(x.contiguous(), a)
    check(x.copy(), a)
    assert x.copy().is_contiguous
    check(x.squeeze(), a.squeeze())
    check(x.broadcast_to((2, *a.shape)), np.broadcast_to(a, (2, *a.shape)))
    axis = data.draw(st.integers(-a.ndim - 1, a.ndim))
    check(x.unsqueeze(axis), np.expand_dims(a, axis))
    if a.ndim:
        axes = data.draw(st.permutations(range(a.ndim)))
        check(x.permute(axes), a.transpose(axes))
        check(x.permute(*axes), a.transpose(axes))
        check(x.swapaxes(0, -1), a.swapaxes(0, -1))


@given(arrays(), st.data())
def test_reshape_is_a_view_where_numpys_is(a: Array, data: st.DataObject) -> None:
    shape: list[int] = []
    left = a.size
    while left > 1 and len(shape) < 4:
        shape.append(data.draw(st.sampled_from([n for n in range(1, left + 1) if left % n == 0])))
        left //= shape[-1]
    shape = [*shape, left] if a.size else [0, 3]
    expected = a.reshape(shape)
    got = tensor(a).reshape(shape)
    check(got, expected)
    if a.size:
        assert np.shares_memory(np.asarray(got), a) == np.shares_memory(expected, a)


# --- Python objects ------------------------------------------------------------------------------


def test_properties() -> None:
    x = bn.Tensor.zeros((2, 3, 4), "f16").swapaxes(0, 2)
    assert (x.shape, x.strides, x.ndim, x.size) == ((4, 3, 2), (1, 4, 12), 3, 24)
    assert (x.dtype, x.device, x.itemsize, x.nbytes) == ("f16", "cpu", 2, 48)
    assert not x.is_contiguous
    assert x.to("cpu").dtype == "f16"
    assert x.to(np.int8).dtype == x.to("int8").dtype == x.to(np.dtype("int8")).dtype == "i8"


@given(arrays())
def test_lists_and_numbers(a: Array) -> None:
    x = tensor(a)
    np.testing.assert_equal(x.tolist(), a.tolist())
    if a.size == 1:
        np.testing.assert_equal(x.item(), a.item())
        assert type(x.item()) is type(a.item())
        assert bool(x) == bool(a)
        np.testing.assert_equal(float(x), float(a.reshape(())))
        if a.dtype.kind != "f" or np.isfinite(a).all():
            assert int(x) == int(a.reshape(()))
    if a.ndim:
        assert len(x) == len(a)
        for row, expected in zip(x, a, strict=True):
            check(row, expected)
    else:
        with pytest.raises(TypeError, match="without dimensions"):
            len(x)
        with pytest.raises(TypeError, match="without dimensions"):
            iter(x)


def test_indices_and_hashes() -> None:
    assert [10, 20, 30][bn.Tensor(2)] == 30
    with pytest.raises(TypeError, match="integer"):
        [1][bn.Tensor(0.0)]
    with pytest.raises(TypeError, match="unhashable"):
        hash(bn.Tensor(1))


def test_operators_know_arrays_on_both_sides() -> None:
    x, a = bn.Tensor([1, 2], "i32"), np.array([10, 20], np.int32)
    check(x + a, np.array([11, 22], np.int32))
    check(x * np.int32(3), np.array([3, 6], np.int32))
    check(x - np.float64(0.5), np.array([0.5, 1.5], np.float32))
    left: Any = a
    check(left + x, np.array([11, 22], np.int32))
    check(np.float32(0.5) * x, np.array([0.5, 1], np.float32))
    assert (x == a).tolist() == [False, False]
    assert x.__add__("a") is NotImplemented  # type: ignore[operator]
    check(2**x, np.array([2, 4], np.int32))
    check(7 // x, np.array([7, 3], np.int32))
    check(7 % x, np.array([0, 1], np.int32))
    check(1 / x, np.array([1, 0.5], np.float32))
    check(6 & x, np.array([0, 2], np.int32))
    check(6 | x, np.array([7, 6], np.int32))
    check(6 ^ x, np.array([7, 4], np.int32))
    check(x @ a, np.int32(50))


@given(arrays(), st.integers(0, 5))
def test_pickles_and_copies(a: Array, protocol: int) -> None:
    x = tensor(a)
    for again in (pickle.loads(pickle.dumps(x, protocol)), copy.copy(x), copy.deepcopy(x)):
        check(again, a)


def test_bf16_pickles() -> None:
    x = bn.Tensor([1.0, 0.1, -3e38], "bf16")
    again = pickle.loads(pickle.dumps(x))
    assert again.dtype == "bf16"
    assert again.tolist() == x.tolist()


def test_packed_codes_travel_and_print_as_numbers() -> None:
    codes = np.array([[1, 0, -1], [0, 1, 1]], np.int8)
    x = bn.Tensor(codes, "ternary")
    assert x.tolist() == codes.tolist()
    assert repr(x) == "Tensor([[ 1,  0, -1],\n        [ 0,  1,  1]], dtype=ternary)"
    again = pickle.loads(pickle.dumps(x))
    assert again.dtype == "ternary"
    assert again.tolist() == codes.tolist()


def test_text_is_numpys() -> None:
    a = np.array([[1.5, 2], [-3, 4]], np.float32)
    x = bn.Tensor(a)
    assert str(x) == str(a)
    assert repr(x) == "Tensor([[ 1.5,  2. ],\n        [-3. ,  4. ]], dtype=f32)"
    assert repr(bn.Tensor([1.0, 0.1], "bf16")) == "Tensor([1.        , 0.10009766], dtype=bf16)"
    assert repr(bn.Tensor.zeros((2, 0))) == "Tensor([], shape=[2, 0], dtype=f32)"
    assert repr(bn.Tensor(3)) == "Tensor(3, dtype=i64)"
    assert "..." in repr(bn.Tensor.zeros((100, 100)))


def test_every_type_has_a_name_of_its_own() -> None:
    assert sorted(NAMES) == sorted(DTYPES)
    for long, short in [*NAMES.items(), ("bfloat16", "bf16")]:
        assert bn.Tensor.ones(1, long).dtype == bn.Tensor.ones(1, short).dtype == short
