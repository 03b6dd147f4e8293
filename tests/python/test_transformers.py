"""Folders that `bitnet convert` writes, in transformers; runs where that is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["hf", "hf-bitlinear", "bf16"])
@pytest.mark.parametrize("through_gguf", [False, True])
def test_transformers_loads_what_is_written(
    tmp_path: Path, tiny: Path, golden: Path, form: str, through_gguf: bool
) -> None:
    source = tiny
    if through_gguf:
        source = tmp_path / "tiny.gguf"
        convert(tiny, source)
    convert(source, tmp_path / form, "--to", form)
    text = json.loads((golden / "bitnet-tiny.json").read_text())["prompts"][0]["text"]
    ids = tokenizer_ids(tmp_path / form, text)
    assert ids == tokenizer_ids(tiny, text)
    ours, theirs = logits(tmp_path / form, ids), logits(tiny, ids)
    assert np.abs(ours - theirs).mean() < 1e-3 * theirs.std()
    np.testing.assert_array_equal(ours.argmax(-1), theirs.argmax(-1))


def convert(*args: str | Path) -> None:
    """`bitnet convert`, which must succeed."""
    command = [
        "-c",
        "from bitnet_rust._cli import main; raise SystemExit(main())",
        "convert",
        *map(str, args),
    ]
    subprocess.run([sys.executable, *command], capture_output=True, check=True)


def tokenizer_ids(folder: Path, text: str) -> list[int]:
    ids: list[int] = transformers.AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    return ids


def logits(folder: Path, ids: list[int]) -> npt.NDArray[np.float32]:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    # `dtype` does not reach every buffer of a packed checkpoint.
    model = model.to(torch.float32)
    with torch.inference_mode():
        values: npt.NDArray[np.float32] = model(torch.tensor([ids])).logits[0].numpy()
    return values
