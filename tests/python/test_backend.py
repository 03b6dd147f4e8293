"""Python objects as backends."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bitnet_rust as bn
import numpy as np
import pytest
from numpy_backend import NumpyBackend, NumpySession


@pytest.fixture(scope="module")
def backend(tiny: Path) -> NumpyBackend:
    return NumpyBackend(tiny)


def test_a_numpy_backend_gives_the_golden_tokens(backend: NumpyBackend, golden: Path) -> None:
    model = bn.load()
    for prompt in json.loads((golden / "bitnet-tiny.json").read_text())["prompts"][:2]:
        assert bn.testing.greedy(backend, model, prompt["ids"], 6) == prompt["greedy_ids"][:6]


def test_an_engine_runs_on_a_numpy_backend(backend: NumpyBackend, golden: Path) -> None:
    prompts = json.loads((golden / "bitnet-tiny.json").read_text())["prompts"][:2]
    model = bn.load()
    with bn.Engine(model, backend=backend, kv_memory="8MiB", kv_dtype="f32", context=64) as engine:
        texts = engine.generate([prompt["ids"] for prompt in prompts], max_tokens=4)
    assert [text.token_ids for text in texts] == [prompt["greedy_ids"][:4] for prompt in prompts]


def test_a_numpy_backend_keeps_the_contract(backend: NumpyBackend) -> None:
    bn.testing.check_backend(backend, bn.load(), tolerance=1e-4)


class Changed(NumpySession):
    """A session whose logits go through `change`."""

    change: Callable[[Any], Any]

    def execute(self, batch: Sequence[bn.Work]) -> Any:
        return self.change(super().execute(batch))


def changed(backend: NumpyBackend, change: Callable[[Any], Any]) -> NumpyBackend:
    class Backend(NumpyBackend):
        def __init__(self) -> None:
            self.decoder, self.weight_bytes = backend.decoder, backend.weight_bytes

        def open(self, pages: int, positions: int, tokens: int, kv_type: str) -> Changed:
            super().open(pages, positions, tokens, kv_type)
            session = Changed(self.decoder, pages)
            session.change = change
            return session

    return Backend()


def fail(logits: Any) -> Any:
    raise ValueError("the cable\nis loose")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (fail, bn.DeviceError, r"^numpy: ValueError: the cable is loose \(.*test_backend.py, line \d+\)$"),
        (
            lambda logits: logits.astype(np.float64),
            bn.DeviceError,
            r"numpy: TypeError: execute must return float32 \[1, 2048\], not float64 \[1, 2048\]",
        ),
        (
            lambda logits: logits[:, :5],
            bn.DeviceError,
            r"must return float32 \[1, 2048\], not float32 \[1, 5\]",
        ),
        (lambda logits: None, bn.DeviceError, r"must return float32 \[1, 2048\], not .*NoneType"),
        (lambda logits: logits * np.nan, bn.CheckpointError, "a logit is not finite"),
    ],
)
def test_what_a_backend_does_wrong_is_one_clear_error(
    backend: NumpyBackend, change: Callable[[Any], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        bn.testing.greedy(changed(backend, change), bn.load(), [1, 2, 3], 2)


def test_the_check_names_the_rules_that_are_broken(backend: NumpyBackend) -> None:
    def reverse(logits: Any) -> Any:
        return logits[::-1]

    with pytest.raises(AssertionError) as raised:
        bn.testing.check_backend(changed(backend, reverse), bn.load(), tolerance=1e-4)
    assert "a sequence gives the same alone and among others (f32)" in str(raised.value)


def test_an_object_that_is_no_backend_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="backend must have a text name"):
        bn.testing.greedy(object(), bn.load(), [1], 1)  # type: ignore[arg-type]
