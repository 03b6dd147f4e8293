"""Activations in all their granularities, errors, statistics and recommendations, against NumPy."""

from __future__ import annotations

import math
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

ARRAYS = hnp.arrays(
    np.float32, hnp.array_shapes(max_dims=3, max_side=15), elements=st.floats(-1e3, 1e3, width=32)
)


@given(
    ARRAYS,
    st.sampled_from([None, 50.0, 99.9]),
    st.one_of(st.sampled_from(["tensor", "token"]), st.integers(1, 9)),
)
def test_activations_follow_the_formula(x: Floats, percentile: float | None, granularity: Any) -> None:
    codes, scales = quant.quantize_activations(x, granularity=granularity, percentile=percentile)
    width = granularity if isinstance(granularity, int) else x.shape[-1]
    rows = x.reshape(-1, x.shape[-1])
    spans = (
        [rows]
        if granularity == "tensor"
        else [r[i : i + width] for r in rows for i in range(0, len(r), width)]
    )
    f32, p = np.float32, 100 if percentile is None else percentile
    bounds = [f32(np.percentile(np.abs(span).astype(np.float64), p)) for span in spans]
    expected = np.array([f32(127) / max(bound, f32(1e-5)) for bound in bounds], f32)
    np.testing.assert_allclose(scales.reshape(-1), expected, rtol=1e-6)
    got = scales.reshape(-1)
    exact = np.concatenate(
        [
            np.clip(np.rint(span * scale), -128, 127).reshape(-1)
            for span, scale in zip(spans, got, strict=True)
        ]
    )
    np.testing.assert_array_equal(codes.reshape(-1), exact)
    groups = -(-x.shape[-1] // width)
    shape = {"tensor": (), "token": x.shape[:-1]}.get(granularity, (*x.shape[:-1], groups))
    assert scales.shape == shape
    assert codes.shape == x.shape


def test_clipping_saturates_what_lies_beyond() -> None:
    x = np.array([[1.0, -8.0, 0.5, 8.0]], np.float32)
    codes, scales = quant.quantize_activations(x, clip=1.0)
    assert (codes.tolist(), scales.tolist()) == ([[127, -128, 64, 127]], [127.0])


@given(ARRAYS, st.floats(0, 2, width=32))
def test_errors_follow_their_formulas(x: Floats, spread: float) -> None:
    y = (x + spread * np.sin(np.arange(x.size, dtype=np.float32)).reshape(x.shape)).astype(np.float32)
    error = quant.measure_error(x, y)
    a, b = x.astype(np.float64).reshape(-1), y.astype(np.float64).reshape(-1)
    noise, signal = ((a - b) ** 2).sum(), (a**2).sum()
    assert error.mse == pytest.approx(noise / a.size, rel=1e-9)
    assert error.max_abs == np.abs(a - b).max()
    if noise > 0 and signal > 0:
        assert error.sqnr_db == pytest.approx(10 * math.log10(signal / noise), abs=1e-6)
    if noise == 0:
        assert error.sqnr_db == math.inf
    if signal > 0 and (b**2).sum() > 0:
        assert error.cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-9)


@given(st.lists(ARRAYS, min_size=1, max_size=4))
def test_statistics_of_pieces_are_those_of_all(pieces: list[Floats]) -> None:
    statistics = quant.Statistics()
    for piece in pieces:
        statistics.add(piece)
    x = np.concatenate([piece.reshape(-1) for piece in pieces]).astype(np.float64)
    assert statistics.count == x.size
    assert (statistics.min, statistics.max) == (x.min(), x.max())
    assert statistics.absmax == np.abs(x).max()
    assert statistics.absmean == pytest.approx(np.abs(x).mean(), rel=1e-9)
    assert statistics.mean == pytest.approx(x.mean(), rel=1e-9, abs=1e-9)
    assert statistics.std == pytest.approx(x.std(), rel=1e-6, abs=1e-6)
    assert statistics.zero_share == pytest.approx((x == 0).mean())
    starts, ends, counts = statistics.histogram()
    assert counts.sum() == x.size
    for start, end, count in zip(starts, ends, counts, strict=True):
        assert ((np.abs(x) >= start) & (np.abs(x) < end)).sum() == count
    for q in (0.5, 0.99):
        exact = np.quantile(np.abs(x), q, method="inverted_cdf")
        assert statistics.quantile(q) == pytest.approx(exact, rel=0.126, abs=1e-38)


def test_the_rule_gives_sensitive_layers_more_bits() -> None:
    rng = np.random.default_rng(0)
    ternary = (rng.integers(-1, 2, (64, 128)) * 0.02).astype(np.float32)
    normal = rng.standard_normal((64, 128)).astype(np.float32)
    heavy = (rng.standard_t(1.5, (64, 128)) * 0.1).astype(np.float32)
    x = rng.standard_normal((2, 5, 128)).astype(np.float32)
    layers = {"ternary": ternary, "normal": normal, "heavy": heavy}
    precisions: list[Any] = ["absmean", "threshold", "int4", "int8"]
    picked = quant.recommend(layers, {"normal": x}, min_sqnr_db=15, precisions=precisions)
    by_name = {one.name: one for one in picked}
    # Its scale is the mean of the magnitudes that are not zero, which threshold takes and absmean does not.
    assert by_name["ternary"].precision == "threshold"
    assert by_name["normal"].precision == "int4"
    errors = by_name["normal"].errors
    expected = quant.measure_error(x @ normal.T, x @ quant.quantize_weights(normal).dequantize().T)
    assert errors["absmean"].sqnr_db == pytest.approx(expected.sqnr_db, abs=1e-3)
    assert errors["absmean"].sqnr_db < 15 <= errors["int4"].sqnr_db < errors["int8"].sqnr_db
    ranked = [one.errors["absmean"].sqnr_db for one in picked]
    assert ranked == sorted(ranked)
    assert by_name["ternary"].bits == pytest.approx(math.log2(3))
    (nothing_does,) = quant.recommend({"normal": normal}, min_sqnr_db=200)
    assert nothing_does.precision == "float"
    (low,) = quant.recommend({"normal": normal}, min_cosine=0.5, precisions=["int8", "sign"])
    assert low.precision == "sign"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda w: quant.measure_error(w, w[:1]), bn.ShapeError, "approximation"),
        (lambda w: quant.Statistics().add(w * np.inf), bn.QuantizationError, "not finite"),
        (lambda w: quant.Statistics().quantile(2), bn.OptionError, "between 0 and 1"),
        (lambda w: quant.recommend({"w": w}), bn.OptionError, "min_sqnr_db"),
        (lambda w: quant.recommend({"w": w}, {"w": np.ones(4)}, min_cosine=1), bn.ShapeError, "4 columns"),
        (lambda w: quant.recommend({"w": w}, min_cosine=1, precisions=["int5"]), bn.OptionError, "int5"),  # type: ignore[list-item]
        (lambda w: quant.quantize_activations(w, granularity="row"), bn.OptionError, "token"),  # type: ignore[arg-type]
    ],
)
def test_what_means_nothing_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(np.ones((2, 3), np.float32))
