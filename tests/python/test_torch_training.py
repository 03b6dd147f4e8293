"""The parts of the PyTorch reference that need no PyTorch: the order of the data, and the recipe."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch_training.order import chacha8, order
from torch_training.recipe import Recipe

BITNET = Path(sys.executable).with_name("bitnet.exe" if sys.platform == "win32" else "bitnet")


def test_numbers_are_those_of_chacha8() -> None:
    """The first words of key 0: draft-strombergson-chacha-test-vectors-01, TC1, 256 bits, 8 rounds."""
    numbers = chacha8(bytes(32))
    stream = b"".join(next(numbers).to_bytes(8, "little") for _ in range(4))
    assert stream.hex() == "3e00ef2f895f40d67f5bb8e81f09a5a12c840ec3ce9a7f3b181be188ef711a1e"


def test_the_order_is_that_of_the_trainer() -> None:
    """As data/tests/batches.rs has it."""
    assert order(42, 0, 10) == [2, 1, 4, 3, 7, 0, 5, 8, 6, 9]
    assert order(42, 1, 10) == [2, 6, 1, 5, 4, 3, 0, 9, 8, 7]
    assert order(1, 2, 1000)[:5] == [700, 172, 981, 52, 317]


def test_rates_are_those_of_the_trainer(tmp_path: Path) -> None:
    config = {
        "model_type": "bitnet",
        "vocab_size": 259,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "hidden_act": "relu2",
        "max_position_embeddings": 16,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    np.save(tmp_path / "data.npy", np.arange(200, dtype=np.uint8))
    paths = {"--data": "data.npy", "--config": "config.json", "-o": "run"}
    options = [part for name, path in paths.items() for part in (name, str(tmp_path / path))]
    numbers = ["--steps", "41", "--batch-tokens", "16", "--save-every", "41"]
    subprocess.run([BITNET, "train", *options, *numbers], check=True, timeout=60)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rates = [json.loads(line)["lr"] for line in lines]
    assert rates == pytest.approx([Recipe(41).learning_rate(step) for step in range(41)], rel=1e-6)
