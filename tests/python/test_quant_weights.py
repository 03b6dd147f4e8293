"""Rules, granularities and roundings of weights, against NumPy."""

from __future__ import annotations

from typing import Any

import bitnet_rust as bn
import numpy as np
import numpy.typing as npt
import pytest
from bitnet_rust import quant
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

Floats = npt.NDArray[np.float32]

MATRICES = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=30),
    # Sums of multiples of 1/256 are exact, so that the oracle's scale is the same to the last bit.
    elements=st.integers(-2000, 2000).map(lambda i: i / 256),
)
GRANULARITIES = st.one_of(st.sampled_from(["tensor", "row"]), st.integers(1, 12))


def spans(w: Floats, granularity: str | int) -> list[list[Floats]]:
    """Views of what shares a scale, by row and column."""
    if granularity == "tensor":
        return [[w]]
    width = granularity if isinstance(granularity, int) else w.shape[1]
    return [[row[i : i + width] for i in range(0, len(row), width)] for row in w]


def scale_and_codes(w: Floats, rule: str) -> tuple[np.float32, npt.NDArray[np.int8]]:
    """The formulas, with float64 sums."""
    magnitude = np.abs(w).astype(np.float64)
    mean = magnitude.mean()
    if rule == "sign":
        scale = mean
        codes = np.where(w > np.float32(w.astype(np.float64).mean()), 1, -1)
    elif rule == "threshold":
        above = magnitude > np.float32(0.7 * mean)
        scale = magnitude[above].mean() if above.any() else 0
        codes = np.sign(w) * above
    else:
        scale = mean if rule == "absmean" else np.median(magnitude)
        codes = np.rint(w * (np.float32(1) / np.float32(max(scale, 1e-5))))
    return np.float32(max(scale, 1e-5)), np.clip(codes, -1, 1).astype(np.int8)


@given(MATRICES, st.sampled_from(["absmean", "absmedian", "threshold", "sign"]), GRANULARITIES)
def test_rules_follow_their_formulas(w: Floats, rule: Any, granularity: Any) -> None:
    matrix = quant.quantize_weights(w, rule=rule, granularity=granularity)
    rows = [[scale_and_codes(span, rule) for span in row] for row in spans(w, granularity)]
    scales = np.array([[scale for scale, _ in row] for row in rows], np.float32)
    # Both sums are float64; only their order differs.
    np.testing.assert_allclose(matrix.scales.reshape(scales.shape), scales, rtol=2e-7)
    if np.array_equal(matrix.scales.reshape(scales.shape), scales):
        codes = np.concatenate([np.concatenate([c for _, c in row], axis=-1).reshape(-1) for row in rows])
        np.testing.assert_array_equal(matrix.codes.reshape(-1), codes)
    assert matrix.granularity == granularity
    shape = {"tensor": (), "row": w.shape[:1]}.get(granularity, scales.shape)
    assert matrix.scales.shape == shape


@given(MATRICES, GRANULARITIES)
def test_dequantized_values_are_codes_times_scales(w: Floats, granularity: Any) -> None:
    matrix = quant.quantize_weights(w, granularity=granularity)
    width = granularity if isinstance(granularity, int) else w.shape[1]
    scales = np.broadcast_to(
        matrix.scales.reshape(matrix.scales.shape + (1,) * (2 - matrix.scales.ndim)),
        (
            w.shape[0],
            -(-w.shape[1] // width),
        ),
    )
    expected = matrix.codes * np.repeat(scales, width, axis=1)[:, : w.shape[1]]
    np.testing.assert_array_equal(matrix.dequantize(), expected)
    again = bn.TernaryMatrix(
        matrix.codes,
        matrix.scales if matrix.scales.ndim else matrix.scale,
        group=granularity if isinstance(granularity, int) else None,
    )
    np.testing.assert_array_equal(again.dequantize(), expected)


@given(MATRICES, GRANULARITIES, st.integers(0, 2**32 - 1))
def test_products_with_several_scales(w: Floats, granularity: Any, seed: int) -> None:
    matrix = quant.quantize_weights(w, granularity=granularity)
    x = np.random.default_rng(seed).standard_normal((3, w.shape[1])).astype(np.float32)
    codes, scales = quant.quantize_activations(x)
    expected = codes.astype(np.float64) @ matrix.dequantize().astype(np.float64).T / scales[:, None]
    np.testing.assert_allclose(
        matrix.matmul(x), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max(initial=1)
    )
    np.testing.assert_array_equal(
        matrix.matmul(codes), codes.astype(np.int32) @ matrix.codes.T.astype(np.int32)
    )


def test_half_away_differs_from_half_even_on_halves_only() -> None:
    w = np.array([[0.5, -0.5, 1.5, -1.5]], np.float32)
    assert quant.quantize_weights(w).codes.tolist() == [[0, 0, 1, -1]]
    assert quant.quantize_weights(w, rounding="half_away").codes.tolist() == [[1, -1, 1, -1]]


def test_stochastic_rounding_keeps_the_mean_and_follows_its_seed() -> None:
    w = np.full((400, 500), 0.3, np.float32)
    w[:, ::2] = -1.7  # mean|W| is 1
    matrix = quant.quantize_weights(w, rounding="stochastic", seed=3)
    assert matrix.scale == 1.0
    share = matrix.codes[:, 1::2].mean()
    assert abs(share - 0.3) < 4 * (0.3 * 0.7 / 100_000) ** 0.5
    same = quant.quantize_weights(w, rounding="stochastic", seed=3)
    np.testing.assert_array_equal(matrix.codes, same.codes)
    other = quant.quantize_weights(w, rounding="stochastic", seed=4)
    assert (matrix.codes != other.codes).any()


@given(
    MATRICES,
    st.sampled_from([2, 4, 8]),
    st.booleans(),
    GRANULARITIES,
    st.sampled_from([None, 50.0, 99.0]),
)
def test_whole_numbers_follow_their_formulas(
    w: Floats, bits: Any, symmetric: bool, granularity: Any, percentile: float | None
) -> None:
    matrix = quant.quantize_int(
        w, bits=bits, symmetric=symmetric, granularity=granularity, percentile=percentile
    )
    q = 2 ** (bits - 1) - 1
    f32 = np.float32
    codes, values = [], []
    for span in (span for row in spans(w, granularity) for span in row):
        if symmetric:
            bound = np.percentile(np.abs(span).astype(np.float64), 100 if percentile is None else percentile)
            scale, zero, least = max(f32(bound), f32(1e-5)) / f32(q), 0, -q
        else:
            p = 100 if percentile is None else percentile
            low, high = (f32(np.percentile(span.astype(np.float64), side)) for side in (100 - p, p))
            low, high = min(low, f32(0)), max(high, f32(0))
            steps = f32(2 * q + 1)
            scale = max(high / steps - low / steps, f32(1e-5) / f32(q))
            zero, least = int(-q - 1 - np.rint(low / scale)), -q - 1
        code = np.rint(np.clip(span * (f32(1) / scale), least - zero, q - zero)) + zero
        codes.append(code.reshape(-1))
        values.append(((code - zero).astype(f32) * scale).reshape(-1))
    np.testing.assert_allclose(matrix.codes.reshape(-1), np.concatenate(codes), atol=1)
    exact = matrix.codes.reshape(-1) == np.concatenate(codes)
    assert exact.mean() > 0.9 or w.size < 10
    np.testing.assert_allclose(
        matrix.dequantize().reshape(-1)[exact], np.concatenate(values)[exact], rtol=1e-5, atol=1e-6
    )
    assert matrix.bits == bits
    assert matrix.packed.shape == (w.shape[0], -(-w.shape[1] * bits // 8))
    assert matrix.scales.shape == matrix.zero_points.shape


def test_a_matrix_is_not_changed_and_not_copied_wrongly() -> None:
    w = np.random.default_rng(1).standard_normal((40, 60)).astype(np.float32)
    kept = w.copy()
    for view in (w, w.T, w[::2, ::-3], w[:, 1:], w.astype(np.float16)):
        matrix = quant.quantize_weights(view)
        np.testing.assert_array_equal(matrix.codes, quant.quantize_weights(np.array(view, np.float32)).codes)
    np.testing.assert_array_equal(w, kept)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda w: quant.quantize_weights(w, rule="median"), bn.OptionError, "absmedian"),  # type: ignore[arg-type]
        (lambda w: quant.quantize_weights(w, granularity="col"), bn.OptionError, "'col'"),  # type: ignore[arg-type]
        (lambda w: quant.quantize_weights(w, granularity=0), bn.ShapeError, "group"),
        (lambda w: quant.quantize_weights(w, rounding="up"), bn.OptionError, "half_even"),  # type: ignore[arg-type]
        (lambda w: quant.quantize_weights(w, rounding="stochastic"), bn.OptionError, "needs a seed"),
        (lambda w: quant.quantize_weights(w, seed=1), bn.OptionError, "stochastic"),
        (lambda w: quant.quantize_weights(w * np.nan, granularity="row"), bn.QuantizationError, "row 0"),
        (lambda w: quant.quantize_int(w, bits=3), bn.OptionError, "2, 4 and 8"),  # type: ignore[arg-type]
        (lambda w: quant.quantize_int(w, percentile=101), bn.OptionError, "quantile"),
        (lambda w: quant.quantize_int(w, clip=-1.0), bn.OptionError, "positive"),
        (lambda w: quant.quantize_int(w, clip=1.0, percentile=99), bn.OptionError, "exclude"),
        (lambda w: quant.quantize_weights(w, granularity="row").scale, bn.QuantizationError, "per row"),
        (lambda w: bn.TernaryMatrix(np.ones((2, 3), np.int8), np.ones(3)), bn.ShapeError, "expected 2"),
        (lambda w: bn.TernaryMatrix(np.ones((2, 3), np.int8), np.ones((2, 2))), bn.OptionError, "group="),
    ],
)
def test_what_means_nothing_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(np.ones((2, 3), np.float32))
