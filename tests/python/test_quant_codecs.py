"""Packed formats: golden digests, round trips, sizes, and what is refused."""

from __future__ import annotations

import hashlib
from typing import Any

import bitnet_rust as bn
import numpy as np
import numpy.typing as npt
import pytest
from bitnet_rust import quant
from hypothesis import given
from hypothesis import strategies as st

Codes = npt.NDArray[np.int8]

#: Columns that each format stores blocks of.
BLOCKS = {"tq1_0": 256, "tq2_0": 256, "q2_0": 64, "iq1_bn": 64, "iq2_bn": 64, "i2_s": 128, "i2_s_arm": 64}
#: Bytes of a row of so many columns, without what belongs to the whole matrix.
ROW_BYTES: dict[str, Any] = {
    "i2_s": lambda n: n // 4,
    "i2_s_arm": lambda n: n // 4,
    "tq1_0": lambda n: n // 256 * 54,
    "tq2_0": lambda n: n // 256 * 66,
    "q2_0": lambda n: n // 64 * 18,
    "iq1_bn": lambda n: 2 + n // 64 * 13,
    "iq2_bn": lambda n: 4 + n // 64 * 16,
    "base3": lambda n: -(-n // 5),
}
WITHOUT_SCALE = {"hf", "base3", "bitmap"}


def pattern(rows: int, cols: int) -> bn.TernaryMatrix:
    i = np.arange(rows * cols)
    return bn.TernaryMatrix(((7 * i + i // 5) % 3 - 1).astype(np.int8).reshape(rows, cols), 1.5)


@pytest.mark.parametrize(
    ("name", "shape", "digest"),
    [
        ("i2_s", (1, 256), "86428007b13437d6"),
        ("hf", (64, 4), "58d5d93fb2c09009"),
        ("tq1_0", (1, 256), "c15393dbfd2076f1"),
        ("tq2_0", (1, 256), "7b89cc896db200ee"),
        ("iq1_bn", (1, 256), "565b0c44d98d50bf"),
        ("iq2_bn", (1, 256), "9bb1a99147b2cd22"),
        ("q2_0", (1, 256), "efb13183e5b41f16"),
    ],
)
def test_golden_bytes(name: Any, shape: tuple[int, int], digest: str) -> None:
    data = quant.pack(pattern(*shape), name)
    payload = data[:64] if name == "i2_s" else data
    assert hashlib.sha256(payload.tobytes()).hexdigest()[:16] == digest


@given(
    st.sampled_from(quant.FORMATS),
    st.integers(1, 9),
    st.integers(1, 40),
    st.integers(0, 2**32 - 1),
)
def test_every_format_round_trips(name: Any, rows: int, cols: int, seed: int) -> None:
    cols = -(-cols // BLOCKS.get(name, 1)) * BLOCKS.get(name, 1)
    codes = np.random.default_rng(seed).integers(-1, 2, (rows, cols), np.int8)
    data = quant.pack(bn.TernaryMatrix(codes, 0.375), name)
    again = quant.unpack(data, (rows, cols), name, scale=0.375 if name in WITHOUT_SCALE else None)
    np.testing.assert_array_equal(again.codes, codes)
    assert again.scale == 0.375
    size = quant.packed_size((rows, cols), name)
    if name == "bitmap":
        nonzeros = int(np.count_nonzero(codes))
        assert len(data) == -(-codes.size // 8) + -(-nonzeros // 8) <= size
    else:
        assert len(data) == size
    if name in ROW_BYTES:
        assert size == rows * ROW_BYTES[name](cols) + 32 * name.startswith("i2_s")


def i2_s(codes: Codes, block: int) -> npt.NDArray[np.uint8]:
    """I2_S by its definition: strided in a block, the first quarter in the highest bits."""
    quarters = (codes.reshape(-1, 4, block // 4) + 1).astype(np.uint8)
    packed: npt.NDArray[np.uint8] = (quarters << np.array([6, 4, 2, 0], np.uint8)[:, None]).sum(1, np.uint8)
    return packed.reshape(-1)


@pytest.mark.parametrize(("name", "block"), [("i2_s", 128), ("i2_s_arm", 64)])
@pytest.mark.parametrize("shape", [(3, 256), (32, 100), (128, 3)])
def test_i2_s_blocks_run_on_from_row_to_row(name: Any, block: int, shape: tuple[int, int]) -> None:
    matrix = pattern(*shape)
    data = quant.pack(matrix, name)
    np.testing.assert_array_equal(data[:-32], i2_s(matrix.codes, block))
    assert data[-32:].view(np.float32).tolist() == [1.5] + [0.0] * 7
    np.testing.assert_array_equal(quant.unpack(data, shape, name).codes, matrix.codes)


def test_blocks_that_disagree_have_scales_of_their_own() -> None:
    codes = np.ones((2, 512), np.int8)
    rows = bn.TernaryMatrix(codes, np.array([1.0, 2.0]))
    assert quant.unpack(quant.pack(rows, "tq2_0"), (2, 512), "tq2_0").scales.tolist() == [1.0, 2.0]
    groups = bn.TernaryMatrix(codes, np.array([[1.0, 2.0], [3.0, 4.0]]))
    again = quant.unpack(quant.pack(groups, "tq1_0"), (2, 512), "tq1_0")
    assert (again.granularity, again.scales.tolist()) == (256, [[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(again.dequantize(), groups.dequantize())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda data: quant.pack(pattern(1, 256), "q4_0"), bn.OptionError, "known: hf, i2_s"),  # type: ignore[arg-type]
        (lambda data: quant.pack(pattern(1, 100), "tq2_0"), bn.ShapeError, "blocks of 256"),
        (lambda data: quant.unpack(data[:-1], (1, 256), "tq2_0"), bn.ShapeError, "expected 66, got 65"),
        (lambda data: quant.unpack(data, (2**40, 2**40), "tq2_0"), bn.ShapeError, "more elements"),
        (lambda data: quant.unpack(data, (1, 256), "tq2_0", scale=1.0), bn.OptionError, "leave scale out"),
        (lambda data: quant.unpack(data, (1, 264), "hf"), bn.OptionError, "give scale"),
        (lambda data: quant.unpack(data | 0xC, (1, 256), "tq2_0"), bn.QuantizationError, "column 32: 3"),
        (
            lambda data: quant.pack(bn.TernaryMatrix(np.ones((2, 128), np.int8), np.ones(2)), "i2_s"),
            bn.QuantizationError,
            "i2_s takes one scale",
        ),
    ],
)
def test_what_cannot_be_packed_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(quant.pack(pattern(1, 256), "tq2_0"))
