"""Softmax, norms and matrix products of tensors against NumPy in float64."""

from __future__ import annotations

import bitnet_rust as bn
import numpy as np
import pytest
from arrays import FLOATS, INTEGERS, Array, arrays, check, close, tensor
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

# Infinities and NaN are what the tests are about.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@given(arrays(["float32", "float16", "int8"]), st.data())
def test_softmax(a: Array, data: st.DataObject) -> None:
    if a.ndim == 0:
        with pytest.raises(bn.ShapeError):
            tensor(a).softmax()
        return
    axis = data.draw(st.integers(-a.ndim, a.ndim - 1))
    # Further apart than that, every element but one is 0.
    x = np.asarray(np.clip(a.astype(np.float32), -80, 80), a.dtype)
    wide = x.astype(np.float64)
    shifted = wide - (wide.max(axis=axis, keepdims=True) if a.shape[axis] else 0)
    logs = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
    close(tensor(x).softmax(axis), np.exp(logs), ulps=4, atol=1e-38)
    close(tensor(x).log_softmax(axis), logs, ulps=8, atol=1e-6)


def test_softmax_of_masks_and_infinities() -> None:
    masked = np.array(
        [[0, -np.inf, 1], [-np.inf, -np.inf, -np.inf], [np.inf, 0, 0], [np.nan, 0, 0]], np.float32
    )
    got = np.asarray(tensor(masked).softmax())
    assert got[0, 1] == 0
    assert got[0].sum() == pytest.approx(1)
    assert np.isnan(got[1:]).all()


@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=40), elements=st.floats(-100, 100, width=32))
)
def test_norms(a: Array) -> None:
    wide = a.astype(np.float64)
    weight, bias = (np.linspace(low, 2, a.shape[-1], dtype=np.float32) for low in (-1, 0.5))
    rms = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5)
    close(tensor(a).rms_norm(), rms, ulps=16)
    close(tensor(a).rms_norm(tensor(weight)), rms * weight, ulps=16)
    centred = wide - wide.mean(-1, keepdims=True)
    norm = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    close(tensor(a).layer_norm(tensor(weight), tensor(bias)), norm * weight + bias, ulps=8, atol=1e-6)
    close(
        tensor(a[..., ::-1]).rms_norm(eps=0.5),
        wide[..., ::-1] / np.sqrt((wide**2).mean(-1, keepdims=True) + 0.5),
        ulps=16,
    )


@st.composite
def products(draw: st.DrawFn) -> tuple[Array, Array]:
    """Two arrays that have a matrix product."""
    shapes = draw(
        hnp.mutually_broadcastable_shapes(
            signature="(m?,k),(k,n?)->(m?,n?)", max_dims=2, max_side=5, min_side=0
        )
    )
    dtype = draw(st.sampled_from([*FLOATS, *INTEGERS, "bool"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    a, b = (
        (rng.integers(0, 2, shape) if dtype in ("bool", "uint8") else rng.integers(-9, 9, shape)).astype(
            dtype
        )
        for shape in shapes.input_shapes
    )
    if draw(st.booleans()) and a.ndim > 1:
        a = a.swapaxes(-1, -2).copy().swapaxes(-1, -2)
    if draw(st.booleans()) and b.ndim > 1:
        b = b[..., ::-1]
    return a, b


@given(products())
def test_products(both: tuple[Array, Array]) -> None:
    a, b = both
    check(tensor(a) @ tensor(b), a @ b)
    check(tensor(a).matmul(tensor(b)), np.matmul(a, b))


@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 700, 300), (300, 700, 1), (130, 257, 270), (3, 64, 2000), (64, 3, 64)]
)
@pytest.mark.parametrize("dtype", FLOATS)
def test_large_products(m: int, k: int, n: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    # What rounding every sum to float32 adds up to, but for one case in thousands (Higham and Mary, 2019).
    size = np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64))
    atol = 4 * np.sqrt(k) * 2.0**-24 * float(size.max())
    for x, y in [(a, b), (np.asfortranarray(a), b), (a, np.asfortranarray(b)), (a[::-1][::-1], b)]:
        close(tensor(x) @ tensor(y), exact, ulps=1, atol=atol)


def test_batches_of_products() -> None:
    rng = np.random.default_rng(1)
    a = rng.standard_normal((4, 3, 70, 50)).astype(np.float32)
    for b in (
        rng.standard_normal((50, 60)),
        rng.standard_normal((3, 50, 60)),
        rng.standard_normal((4, 1, 50, 60)),
    ):
        b = b.astype(np.float32)
        exact = a.astype(np.float64) @ b.astype(np.float64)
        close(tensor(a) @ tensor(b), exact, ulps=4, atol=2e-5)
        strided = a[::-1, :, ::2]
        if b.ndim < 4:
            close(
                tensor(strided) @ tensor(b),
                strided.astype(np.float64) @ b.astype(np.float64),
                ulps=4,
                atol=2e-5,
            )


@given(st.integers(1, 9), st.integers(1, 70), st.integers(0, 4), st.integers(0, 2**32))
def test_ternary_products_are_exact(m: int, k: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    w, x = rng.integers(-1, 2, (m, k), np.int8), rng.integers(-128, 128, (k, n), np.int8)
    packed = bn.Tensor(w).to("ternary")
    assert (packed.shape, packed.dtype, packed.nbytes) == ((m, k), "ternary", -(-m // 4) * k)
    check(packed.to("i8"), w)
    check(packed.to("f32"), w.astype(np.float32))
    exact = w.astype(np.int32) @ x.astype(np.int32)
    check(packed @ tensor(x), exact)
    check(packed.matmul(tensor(x.T.copy()).T), exact)
    if n:
        check(packed @ x[:, 0], exact[:, 0])


def test_large_ternary_products_are_exact() -> None:
    rng = np.random.default_rng(5)
    w, x = rng.integers(-1, 2, (700, 2560), np.int8), rng.integers(-128, 128, (2560, 70), np.int8)
    check(bn.Tensor(w, "ternary") @ tensor(x), w.astype(np.int32) @ x.astype(np.int32))
