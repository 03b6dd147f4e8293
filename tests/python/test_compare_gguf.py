"""The ternary blocks that the comparison writes for llama.cpp."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import checkpoints
import numpy as np
import numpy.typing as npt
import pytest
from compare import tq
from compare.checkpoint import Checkpoint

Bytes = npt.NDArray[np.uint8]
Encoder = Callable[[Bytes, float], Bytes]


def decode_tq2_0(block: Bytes) -> tuple[list[int], float]:
    codes = [int(block[32 * g + m]) >> 2 * k & 3 for g in range(2) for k in range(4) for m in range(32)]
    return codes, float(block[64:].view("<f2")[0])


def decode_tq1_0(block: Bytes) -> tuple[list[int], float]:
    """llama.cpp's arithmetic: multiply in 8 bits to bring a digit to the top, and read it off."""
    runs = [(0, 32, 5), (32, 16, 5), (48, 4, 4)]
    codes = [
        ((int(block[start + m]) * 3**k % 256) * 3) >> 8
        for start, width, digits in runs
        for k in range(digits)
        for m in range(width)
    ]
    return codes, float(block[52:].view("<f2")[0])


# Of the block below, as gguf-py's own encoder writes it.
DIGESTS = [(tq.tq1_0, 54, "c15393dbfd2076f1"), (tq.tq2_0, 66, "7b89cc896db200ee")]


@pytest.mark.parametrize(("encode", "size", "digest"), DIGESTS)
def test_the_block_of_gguf_py(encode: Encoder, size: int, digest: str) -> None:
    i = np.arange(256)
    codes = ((7 * i + i // 5) % 3).astype(np.uint8)
    block = encode(codes[None], 1.5)
    assert block.shape == (1, size)
    assert hashlib.sha256(block.tobytes()).hexdigest().startswith(digest)


@pytest.mark.parametrize(
    ("encode", "decode"), [(tq.tq1_0, decode_tq1_0), (tq.tq2_0, decode_tq2_0)], ids=["tq1_0", "tq2_0"]
)
def test_codes_and_scale_come_back(
    encode: Encoder, decode: Callable[[Bytes], tuple[list[int], float]]
) -> None:
    codes = np.random.default_rng(0).integers(0, 3, (3, 512)).astype(np.uint8)
    codes[1] = 1  # A row of zeros keeps the tensor's scale.
    blocks = encode(codes, 0.4375).reshape(6, -1)
    decoded = [decode(block) for block in blocks]
    assert [scale for _, scale in decoded] == [0.4375] * 6
    np.testing.assert_array_equal(np.array([block for block, _ in decoded]).reshape(3, 512), codes)


@pytest.mark.parametrize("encode", [tq.tq1_0, tq.tq2_0])
def test_rows_must_fill_their_blocks(encode: Encoder) -> None:
    with pytest.raises(ValueError, match="rows of 128 weights"):
        encode(np.ones((4, 128), np.uint8), 1.0)


def test_the_checkpoint_is_read_as_its_writer_meant(tmp_path: Path) -> None:
    config, tensors = checkpoints.build(tmp_path, shards=2)
    read = Checkpoint(tmp_path)
    assert read.config == config
    name = "model.layers.1.mlp.down_proj"
    packed = checkpoints.pack(read.codes(f"{name}.weight").astype(np.int8) - 1)
    np.testing.assert_array_equal(packed, tensors[f"{name}.weight"])
    for floats in (f"{name}.weight_scale", "model.embed_tokens.weight", "model.norm.weight"):
        np.testing.assert_array_equal(read.floats(floats), tensors[floats])


def test_another_dialect_is_refused(tmp_path: Path) -> None:
    checkpoints.build(tmp_path, checkpoints.LLAMA)
    with pytest.raises(ValueError, match=r"config\.json: a packed checkpoint"):
        Checkpoint(tmp_path)
