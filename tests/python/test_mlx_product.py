"""Ternary products on MLX: packing, activations, exact sums."""

from __future__ import annotations

import bitnet_rust as bn
import numpy as np
import pytest

pytest.importorskip("mlx.core", reason="needs the extra mlx")

import mlx.core as mx
from arrays import Array
from bitnet_rust.mlx import packing, product
from checkpoints import pack as pack_checkpoint
from hypothesis import given
from hypothesis import strategies as st
from mlx_arrays import to_mlx, to_numpy


def random_codes(rows: int, columns: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-1, 2, (rows, columns)).astype(np.int8)


@given(rows=st.integers(1, 9), columns=st.integers(1, 200), seed=st.integers(0, 99))
def test_codes_come_back_from_their_words(rows: int, columns: int, seed: int) -> None:
    codes = random_codes(rows, columns, seed)
    words = packing.pack(to_mlx((codes + 1).astype(np.uint8)))
    assert words.dtype == mx.uint32
    assert words.shape == (rows, packing.padded(columns) // 16)
    np.testing.assert_array_equal(to_numpy(packing.unpack(words, columns)), codes)


def test_a_word_has_its_first_code_in_the_lowest_bits() -> None:
    codes = np.zeros((1, 32), np.uint8)
    codes[0, 0], codes[0, 15], codes[0, 17] = 2, 1, 2
    assert to_numpy(packing.pack(to_mlx(codes))).tolist() == [[2 + (1 << 30), 2 << 2]]


@given(rows=st.integers(1, 9), columns=st.integers(1, 40), seed=st.integers(0, 99))
def test_packed_checkpoints_give_their_codes(rows: int, columns: int, seed: int) -> None:
    codes = random_codes(rows, columns, seed)
    got = packing.unpack_checkpoint(to_mlx(pack_checkpoint(codes)), rows)
    np.testing.assert_array_equal(to_numpy(got), codes + 1)


def test_what_is_no_packed_weight_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has shape \[2, 4\]; 9 rows are packed to 3"):
        packing.unpack_checkpoint(mx.zeros((2, 4), dtype=mx.uint8), 9)
    with pytest.raises(ValueError, match="has the code 3"):
        packing.unpack_checkpoint(mx.array([[0, 0b1100]], dtype=mx.uint8), 4)


def test_activations_are_rounded_as_the_engine_does() -> None:
    x = np.random.default_rng(1).standard_normal((50, 257)).astype(np.float32) * 3
    x[0], x[1, :4] = 0, [0.5, -0.5, 1.5, 127]
    codes, scale = product.quantize_activations(to_mlx(x))
    expected, scales = bn.quantize_activations(x)
    np.testing.assert_array_equal(to_numpy(codes), expected)
    np.testing.assert_array_equal(to_numpy(scale).reshape(-1), scales.reshape(-1))


@given(
    tokens=st.integers(1, 70), rows=st.integers(1, 40), columns=st.integers(1, 400), seed=st.integers(0, 9)
)
def test_sums_are_those_of_the_integer_kernels(tokens: int, rows: int, columns: int, seed: int) -> None:
    codes = random_codes(rows, columns, seed)
    x = np.random.default_rng(seed).integers(-128, 128, (tokens, columns)).astype(np.int8)
    words = packing.pack(to_mlx((codes + 1).astype(np.uint8)))
    got = to_numpy(product.ternary_sums(to_mlx(x.astype(np.float32)), words))
    np.testing.assert_array_equal(got, bn.TernaryMatrix(codes, 1.0).matmul(x))


def test_the_largest_sums_are_exact() -> None:
    """All products of one sign, and one that a rounded sum would lose."""
    columns = product.MAX_COLUMNS - 1
    codes, x = np.ones((1, columns), np.int8), np.full((1, columns), -128, np.int8)
    codes[0, -1] = 0
    words = packing.pack(to_mlx((codes + 1).astype(np.uint8)))
    (got,) = to_numpy(product.ternary_sums(to_mlx(x.astype(np.float32)), words))
    assert got.tolist() == [-128 * (columns - 1)]
    x[0, 0] = -127
    (got,) = to_numpy(product.ternary_sums(to_mlx(x.astype(np.float32)), words))
    assert got.tolist() == [-128 * (columns - 2) - 127]


@pytest.mark.parametrize(("rows", "columns"), [(7, 33), (96, 64), (768, 256)])
def test_products_are_the_bits_of_the_engine(rows: int, columns: int) -> None:
    ternary = bn.TernaryMatrix(random_codes(rows, columns), 0.7123)
    x = np.random.default_rng(2).standard_normal((2, 5, columns)).astype(np.float32)
    words = packing.pack(to_mlx((ternary.codes + 1).astype(np.uint8)))
    got = to_numpy(product.ternary_linear(to_mlx(x), words, mx.array([ternary.scale])))
    expected = ternary.matmul(x.reshape(-1, columns)).reshape(2, 5, rows)
    np.testing.assert_array_equal(got, expected)
