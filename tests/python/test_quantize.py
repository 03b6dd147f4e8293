"""The two quantization rules and the ternary product, against NumPy."""

from __future__ import annotations

from typing import Any

import bitnet_rust as bn
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

Floats = npt.NDArray[np.float32]

MATRICES = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=40),
    elements=st.floats(-100, 100, width=32),
)


def absmean(w: Floats) -> tuple[npt.NDArray[np.int8], np.float32]:
    """Codes and scale by the formula, in float32 but for the mean."""
    scale = np.float32(max(np.abs(w.astype(np.float64)).mean(), 1e-5))
    codes = np.clip(np.rint(w * (np.float32(1) / scale)), -1, 1).astype(np.int8)
    return codes, scale


def absmax(x: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Codes and scales by the formula, in float32."""
    scales = (np.float32(127) / np.maximum(np.abs(x).max(-1), np.float32(1e-5))).astype(np.float32)
    return np.clip(np.rint(x * scales[..., None]), -128, 127).astype(np.int8), scales


@given(MATRICES)
def test_weights_follow_the_formula(w: Floats) -> None:
    codes, scale = absmean(w)
    matrix = bn.quantize_weights(w)
    assert matrix.scale == pytest.approx(scale, rel=1e-6)
    if matrix.scale == scale:
        np.testing.assert_array_equal(matrix.codes, codes)
    assert matrix.codes.dtype == np.int8
    assert matrix.shape == w.shape
    np.testing.assert_array_equal(matrix.dequantize(), matrix.codes * np.float32(matrix.scale))


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(max_dims=3, max_side=20),
        elements=st.floats(-1e4, 1e4, width=32),
    )
)
def test_activations_follow_the_formula(x: Floats) -> None:
    codes, scales = bn.quantize_activations(x)
    expected_codes, expected_scales = absmax(x)
    np.testing.assert_array_equal(codes, expected_codes)
    np.testing.assert_array_equal(scales, expected_scales)
    assert codes.dtype == np.int8
    assert scales.dtype == np.float32
    assert scales.shape == x.shape[:-1]


@given(MATRICES, st.integers(0, 2**32 - 1))
def test_the_integer_product_is_exact(w: Floats, seed: int) -> None:
    matrix = bn.quantize_weights(w)
    x = np.random.default_rng(seed).integers(-128, 128, (3, w.shape[1]), np.int8)
    product = matrix.matmul(x)
    assert product.dtype == np.int32
    np.testing.assert_array_equal(product, x.astype(np.int32) @ matrix.codes.T.astype(np.int32))


@pytest.mark.parametrize("shape", [(64,), (5, 64), (2, 3, 64)])
def test_the_float_product_quantizes_per_token(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    matrix = bn.quantize_weights(rng.standard_normal((33, 64)).astype(np.float32))
    x = rng.standard_normal(shape).astype(np.float32)
    codes, scales = absmax(x)
    expected = codes.astype(np.float64) @ matrix.codes.T * matrix.scale / scales[..., None]
    product = matrix.matmul(x)
    assert product.dtype == np.float32
    assert product.shape == (*shape[:-1], 33)
    np.testing.assert_allclose(product, expected, rtol=1e-5, atol=1e-6)


def test_large_products_on_several_threads_are_exact() -> None:
    rng = np.random.default_rng(1)
    matrix = bn.TernaryMatrix(rng.integers(-1, 2, (700, 2560), np.int8), 0.5)
    x = rng.integers(-128, 128, (7, 2560), np.int8)
    np.testing.assert_array_equal(matrix.matmul(x), x.astype(np.int32) @ matrix.codes.T.astype(np.int32))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_any_float_type_and_strides(dtype: str) -> None:
    w = np.random.default_rng(2).standard_normal((12, 30)).astype(dtype)
    expected = bn.quantize_weights(np.ascontiguousarray(w[::2, ::-3].astype(np.float32)))
    got = bn.quantize_weights(w[::2, ::-3])
    np.testing.assert_array_equal(got.codes, expected.codes)
    assert got.scale == expected.scale
    transposed = bn.quantize_weights(w.T)
    np.testing.assert_array_equal(transposed.codes, bn.quantize_weights(w.T.copy()).codes)


def test_golden_vector_of_the_packed_layout() -> None:
    i = np.arange(256)
    codes = ((7 * i + i // 5) % 3 - 1).astype(np.int8).reshape(64, 4)
    matrix = bn.TernaryMatrix(codes, 1.5)
    assert matrix.packed.shape == (16, 4)
    assert matrix.packed.tobytes()[:16].hex() == "84114618618411461861841146186184"
    np.testing.assert_array_equal(bn.TernaryMatrix.from_packed(matrix.packed, 64, 1.5).codes, codes)


@given(MATRICES)
def test_packed_codes_round_trip(w: Floats) -> None:
    matrix = bn.quantize_weights(w)
    again = bn.TernaryMatrix.from_packed(matrix.packed, w.shape[0], matrix.scale)
    np.testing.assert_array_equal(again.codes, matrix.codes)
    assert f"{w.shape[0]} x {w.shape[1]}" in repr(again)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: bn.quantize_weights(np.zeros(3, np.float32)), bn.ShapeError, "2 dimensions"),
        (lambda: bn.quantize_weights(np.zeros((0, 3), np.float32)), bn.ShapeError, "empty"),
        (lambda: bn.quantize_weights(np.zeros((2, 2), int)), TypeError, "floats"),
        (lambda: bn.quantize_weights(np.full((2, 2), np.nan)), bn.QuantizationError, "row 0"),
        (lambda: bn.quantize_weights(np.array([[1, 2], [np.inf, 0]])), bn.QuantizationError, "row 1"),
        (lambda: bn.quantize_activations(np.float32(3)), bn.ShapeError, "last axis"),
        (lambda: bn.quantize_activations(np.zeros((2, 0))), bn.ShapeError, "last axis"),
        (lambda: bn.quantize_activations(np.array([[1.0], [np.nan]])), bn.QuantizationError, "row 1"),
        (lambda: bn.TernaryMatrix(np.array([[2]], np.int8), 1.0), bn.QuantizationError, "2 is not"),
        (lambda: bn.TernaryMatrix(np.array([[1]], np.int8), 0.0), bn.QuantizationError, "positive"),
        (lambda: bn.TernaryMatrix(np.array([[1]], np.int8), np.nan), bn.QuantizationError, "positive"),
        (lambda: bn.TernaryMatrix.from_packed(np.array([[3]], np.uint8), 4, 1.0), bn.QuantizationError, "3"),
        (lambda: bn.TernaryMatrix.from_packed(np.array([[0]], np.uint8), 5, 1.0), bn.ShapeError, "5 rows"),
        (lambda: bn.quantize_weights(np.ones((2, 3))).matmul(np.ones(4)), bn.ShapeError, "4 columns"),
        (lambda: bn.quantize_weights(np.ones((2, 3))).matmul(np.ones(3, int)), TypeError, "floats"),
    ],
)
def test_what_cannot_be_quantized_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
