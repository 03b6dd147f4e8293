"""Models split over sets of threads: the same results as in one piece."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import bitnet_rust as bn
import numpy as np
import pytest

PROMPT = "My fellow citizens, today we"
IDS = [5, 77, 300, 12, 12, 250, 9]


@pytest.fixture(scope="module")
def isas() -> list[str]:
    """The instruction sets of this CPU, the best one last."""
    command = [sys.executable, "-c", "from bitnet_rust._cli import main; raise SystemExit(main())", "doctor"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    isas: list[str] = json.loads(done.stdout)["isas"]
    return isas


def test_an_engine_on_parts_gives_the_same_tokens(isas: list[str]) -> None:
    whole = bn.load(kv_cache="f16")
    expected = [whole.generate(prompt, max_tokens=20).token_ids for prompt in (PROMPT, "It is time")]
    parts = [bn.ModelPart(1, threads=2), bn.ModelPart(threads=1, isa=isas[0]), bn.ModelPart(1, isa=isas[-1])]
    model = bn.load(kv_cache="f16", threads=3, parts=parts)
    with bn.Engine(model, kv_memory="64MiB") as engine:
        texts = engine.generate([PROMPT, "It is time"], max_tokens=20)
    assert [text.token_ids for text in texts] == expected
    shown = repr(model)
    for where in (
        "layers 0 on cpu (",
        f"), 1-2 on cpu ({isas[0]}, ",
        ", 1 thread), 3 on cpu (",
        ", 3 threads)",
    ):
        assert where in shown


def test_a_split_model_does_what_one_in_one_piece_does(tiny: Path) -> None:
    whole, split = bn.load(tiny), bn.load(tiny, parts=[bn.ModelPart(3), bn.ModelPart(1, threads=1)])
    np.testing.assert_array_equal(split.logits(IDS), whole.logits(IDS))
    np.testing.assert_array_equal(split.embed(PROMPT), whole.embed(PROMPT))
    options: Any = {"max_tokens": 20, "temperature": 0.8, "seed": 3, "speculate": "lookup"}
    assert split.generate(PROMPT, **options).token_ids == whole.generate(PROMPT, **options).token_ids
    (alone,) = [bn.load(tiny, parts=[part]) for part in [bn.ModelPart()]]
    np.testing.assert_array_equal(alone.logits(IDS), whole.logits(IDS))


@pytest.mark.parametrize(
    "layers", [[], [0, 4], [2, 3], [2, 1], [None, None], [4, None], [2**62, 2**62, None]]
)
def test_parts_have_all_layers_of_the_model(layers: list[int | None]) -> None:
    with pytest.raises(bn.OptionError, match=r"parts must be all layers of the model.*, not \[.*\] of 4$"):
        bn.load(parts=[bn.ModelPart(count) for count in layers])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layers": -1}, bn.OptionError, "layers must be at least 0, not -1"),
        ({"threads": -1}, bn.OptionError, "threads"),
        ({"isa": "avx9"}, bn.DeviceError, "avx9"),
        ({"packing": "tq1"}, bn.OptionError, "bits2, base3"),
        ({"layers": "two"}, TypeError, "layers"),
    ],
)
def test_a_part_that_cannot_be(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bn.ModelPart(**options)


def test_parts_show_what_they_are() -> None:
    assert repr(bn.ModelPart(2, isa="scalar")) == 'ModelPart(2, threads=None, isa="scalar", packing=None)'
    with pytest.raises(TypeError, match="parts"):
        bn.load(parts=[2])  # type: ignore[list-item]
