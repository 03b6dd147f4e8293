"""docs/formats.md is true: its decoders run, its tables hold."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import bitnet_rust as bn
import gguf
import numpy as np
import pytest
from bitnet_rust import quant

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
#: Columns that share a scale; all of a row where there is no number.
GROUPS = {"tq1_0": 256, "tq2_0": 256, "q2_0": 64, "iq1_bn": None, "iq2_bn": None}
ONE_SCALE = ("i2_s", "i2_s_arm")


def rows_of(first_column: str) -> list[list[str]]:
    """The cells of the table whose header starts so, without code marks."""
    table = PAGE.split(f"\n| {first_column} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table]


SIZES = dict(rows_of("format | bytes"))
GOLDEN = rows_of("format | shape | bytes")


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """What the Python blocks of the page define, run from top to bottom as a reader would."""
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block, "docs/formats.md", "exec"), names)
    return names


def decoded(page: dict[str, Any], name: str, data: Any, shape: tuple[int, int]) -> tuple[Any, Any]:
    result = page[name](data, *shape)
    return result if isinstance(result, tuple) else (result, None)


def test_every_format_has_a_decoder_a_size_and_a_golden_vector(page: dict[str, Any]) -> None:
    assert set(quant.FORMATS) <= page.keys()
    assert set(SIZES) == set(quant.FORMATS) == {row[0] for row in GOLDEN}


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row[0])
def test_golden_vectors(page: dict[str, Any], row: list[str]) -> None:
    name, shape_text, size, start, digest, _ = row
    rows, cols = map(int, shape_text.split(" x "))
    i = np.arange(256)
    codes = ((7 * i + i // 5) % 3 - 1).astype(np.int8).reshape(rows, cols)
    data = quant.pack(bn.TernaryMatrix(codes, 1.5), name)  # type: ignore[arg-type]
    assert len(data) == int(size)
    payload = data
    if name in ONE_SCALE:
        payload = data[:-32]
        assert data[-32:].tobytes().hex() == "0000c03f" + 28 * "00"
    assert payload[:16].tobytes().hex() == start
    assert hashlib.sha256(payload.tobytes()).hexdigest()[:16] == digest
    again, scales = decoded(page, name, data, (rows, cols))
    np.testing.assert_array_equal(again, codes)
    assert scales is None or np.all(scales == 1.5)


@pytest.mark.parametrize("name", quant.FORMATS)
@pytest.mark.parametrize("shape", [(1, 256), (5, 512), (32, 1024)])
def test_decoders_and_sizes(page: dict[str, Any], name: Any, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape)
    codes = rng.integers(-1, 2, shape, np.int8)
    scales: Any = 0.375
    if name in GROUPS:
        width = GROUPS[name] or shape[1]
        scales = rng.integers(1, 64, (shape[0], shape[1] // width)).astype(np.float32) / 8
    one_a_row = name in GROUPS and GROUPS[name] is None
    data = quant.pack(bn.TernaryMatrix(codes, scales[:, 0] if one_a_row else scales), name)
    sizes = {"rows": shape[0], "cols": shape[1], "nonzeros": int(np.count_nonzero(codes))}
    assert len(data) == eval(SIZES[name], sizes)
    again, stored = decoded(page, name, data, shape)
    np.testing.assert_array_equal(again, codes)
    known = quant.unpack(data, shape, name, scale=1.0 if stored is None else None)
    np.testing.assert_array_equal(again, known.codes)
    if stored is not None:
        width = shape[1] // np.size(stored[0]) if np.ndim(stored) else shape[1]
        weights = codes * np.repeat(np.broadcast_to(stored, (shape[0], shape[1] // width)), width, 1)
        np.testing.assert_array_equal(weights.astype(np.float32), known.dequantize())
        np.testing.assert_array_equal(stored, scales)


@pytest.mark.parametrize("name", ["hf", "base3", "bitmap"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (6, 33), (9, 101)])
def test_decoders_of_ragged_shapes(page: dict[str, Any], name: Any, shape: tuple[int, int]) -> None:
    codes = np.random.default_rng(shape).integers(-1, 2, shape, np.int8)
    data = quant.pack(bn.TernaryMatrix(codes, 1.0), name)
    sizes = {"rows": shape[0], "cols": shape[1], "nonzeros": int(np.count_nonzero(codes))}
    assert len(data) == eval(SIZES[name], sizes)
    np.testing.assert_array_equal(page[name](data, *shape), codes)


@pytest.mark.parametrize(("name", "shape"), [("i2_s", (32, 100)), ("i2_s_arm", (16, 100))])
def test_blocks_of_i2_s_run_on(page: dict[str, Any], name: Any, shape: tuple[int, int]) -> None:
    codes = np.random.default_rng(1).integers(-1, 2, shape, np.int8)
    again, scale = page[name](quant.pack(bn.TernaryMatrix(codes, 0.3), name), *shape)
    np.testing.assert_array_equal(again, codes)
    assert scale == np.float32(0.3)


def test_bytes_in_base_3(page: dict[str, Any]) -> None:
    n = np.arange(243)
    byte = -(-256 * n // 243)
    for k in range(5):
        np.testing.assert_array_equal(page["trit"](byte.astype(np.uint8), k) + 1, n // 3 ** (4 - k) % 3)
    no_code = [b for b in range(256) if 243 * b % 256 >= 243]
    assert len(no_code) == 13
    assert set(no_code) == set(range(256)) - set(byte.tolist())


@pytest.mark.parametrize("size", [1.0, 0.02, 1e-7])
def test_absmean_and_absmax(page: dict[str, Any], size: float) -> None:
    w = np.random.default_rng(2).standard_normal((48, 96)).astype(np.float32) * np.float32(size)
    codes, scale = page["absmean"](w)
    known = quant.quantize_weights(w)
    np.testing.assert_array_equal(codes, known.codes)
    np.testing.assert_allclose(scale, known.scale, rtol=1e-6)
    x_codes, x_scales = page["absmax"](w)
    known_codes, known_scales = quant.quantize_activations(w)
    np.testing.assert_array_equal(x_codes, known_codes)
    np.testing.assert_array_equal(x_scales.reshape(-1), np.reshape(known_scales, -1))


def test_both_senses_of_a_scale_mean_the_same_weights(page: dict[str, Any]) -> None:
    assert page["scale_of"](0.25, "autobitlinear") == page["scale_of"](4.0, "bitlinear") == 0.25
    assert page["scale_of"](4.0) == 0.25


def test_q6_k_is_that_of_gguf_py(page: dict[str, Any]) -> None:
    data = np.random.default_rng(3).integers(0, 256, (6, 210), np.uint8)
    data[:, 208:] = np.linspace(-1, 1, 6, dtype="<f2")[:, None].view(np.uint8)
    expected = gguf.dequantize(data.reshape(3, 420), gguf.GGMLQuantizationType.Q6_K)
    np.testing.assert_array_equal(page["q6_k"](data.reshape(-1), 3, 512), expected)


def anchors(text: str) -> set[str]:
    """What links can point to, as GitHub names headings; comments in code are none."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_go_somewhere() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "gguf.md").read_text(encoding="utf-8")
    pages = {"": anchors(PAGE), "gguf.md": anchors(guide), "formats.md": anchors(PAGE)}
    links = re.findall(r"\]\(([\w.]*)#([\w-]+)\)", PAGE + guide)
    assert links
    for file, anchor in links:
        assert anchor in pages[file], anchor
