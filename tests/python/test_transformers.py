"""Folders that conversion and training write, in transformers: `make test-torch` installs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import bitnet_rust as bn
import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["hf", "hf-bitlinear", "bf16"])
@pytest.mark.parametrize("through_gguf", [False, True])
def test_transformers_loads_what_is_written(
    tmp_path: Path, tiny: Path, golden: Path, form: str, through_gguf: bool
) -> None:
    source = tiny
    if through_gguf:
        source = tmp_path / "tiny.gguf"
        bitnet("convert", tiny, source)
    bitnet("convert", source, tmp_path / form, "--to", form)
    text = json.loads((golden / "bitnet-tiny.json").read_text())["prompts"][0]["text"]
    ids = tokenizer_ids(tmp_path / form, text)
    assert ids == tokenizer_ids(tiny, text)
    ours, theirs = logits(tmp_path / form, ids), logits(tiny, ids)
    assert np.abs(ours - theirs).mean() < 1e-3 * theirs.std()
    np.testing.assert_array_equal(ours.argmax(-1), theirs.argmax(-1))


@pytest.mark.filterwarnings("ignore")
def test_transformers_gives_the_logits_of_a_trained_model(tmp_path: Path, tiny: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text("The people of the United States, in order to form a more perfect union.\n" * 40)
    trained = bn.train(
        tiny, data, output=tmp_path / "run", recipe="finetune", steps=4, seq_len=32, batch_tokens=128, lr=1e-3
    )
    packed = tmp_path / "packed"
    bitnet("convert", trained.model, packed, "--to", "hf")
    ids = tokenizer_ids(trained.model, "The people of the United States")
    ours = bn.load(trained.model).logits(ids)
    np.testing.assert_array_equal(ours, bn.load(packed).logits(ids))
    for folder in (trained.model, packed):
        theirs = logits(folder, ids)
        assert np.abs(ours - theirs).mean() < 1e-3 * theirs.std(), folder
        np.testing.assert_array_equal(ours.argmax(-1), theirs.argmax(-1))
    # Many times the tolerance away from where it began.
    assert np.abs(ours - bn.load(tiny).logits(ids)).mean() > 0.02 * ours.std()


def bitnet(*args: str | Path) -> None:
    """Run a command, which must succeed."""
    command = ["-c", "from bitnet_rust._cli import main; raise SystemExit(main())", *map(str, args)]
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
