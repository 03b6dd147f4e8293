"""The exceptions: a tree, builtins beside it, one line each."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitnet_rust as bn
import pytest

BUILTINS = {
    bn.ModelNotFoundError: FileNotFoundError,
    bn.CheckpointError: ValueError,
    bn.ConfigError: ValueError,
    bn.TokenizerError: ValueError,
    bn.ChatTemplateError: ValueError,
    bn.PromptError: ValueError,
    bn.ContextLengthError: ValueError,
    bn.OptionError: ValueError,
    bn.ShapeError: ValueError,
    bn.DTypeError: TypeError,
    bn.OutOfRangeError: IndexError,
    bn.QuantizationError: ValueError,
    bn.GradientError: RuntimeError,
    bn.DataError: ValueError,
    bn.DivergedError: ArithmeticError,
    bn.DeviceError: RuntimeError,
    bn.HubError: ConnectionError,
    bn.QueueFullError: RuntimeError,
    bn.EngineClosedError: RuntimeError,
    bn.OutOfMemoryError: MemoryError,
    bn.FileError: OSError,
    bn.MissingFileError: FileNotFoundError,
    bn.FilePermissionError: PermissionError,
}


def test_every_exception_is_a_bitnet_error_and_a_builtin() -> None:
    classes = [value for value in vars(bn).values() if isinstance(value, type)]
    exported = {value for value in classes if issubclass(value, Exception)}
    assert exported == {*BUILTINS, bn.BitNetError}
    for error, builtin in BUILTINS.items():
        assert issubclass(error, bn.BitNetError)
        assert issubclass(error, builtin)
        assert error.__module__ == "bitnet_rust"
        assert error.__doc__


def test_exceptions_travel() -> None:
    for error in BUILTINS:
        original = error("a line")
        for other in (pickle.loads(pickle.dumps(original)), copy.copy(original)):
            assert type(other) is error
            assert str(other) == "a line"


@pytest.fixture(scope="module")
def model() -> bn.Model:
    """The embedded model."""
    return bn.load()


CALLS: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "no such model": (lambda _: bn.load("no/such/folder/here"), bn.ModelNotFoundError, "no such model"),
    "no such path": (lambda _: bn.load(Path("/no/such/folder")), bn.ModelNotFoundError, "no such model"),
    "a device that is not there": (lambda _: bn.load(device="abacus"), bn.OptionError, "abacus"),
    "a cache of no known type": (
        lambda _: bn.load(kv_cache="f8"),  # type: ignore[call-overload]
        bn.OptionError,
        "f32, f16 or int8, not f8",
    ),
    "a packing of no known name": (lambda _: bn.load(packing="tq1"), bn.OptionError, "bits2, base3"),  # type: ignore[call-overload]
    "no threads": (lambda _: bn.load(threads=0), bn.OptionError, "threads"),
    "negative threads": (lambda _: bn.load(threads=-1), bn.OptionError, "threads"),
    "an empty prompt": (lambda m: m.generate(""), bn.PromptError, "empty"),
    "an empty list": (lambda m: m.generate([]), bn.PromptError, "empty"),
    "no ids": (lambda m: m.logits([]), bn.PromptError, "empty"),
    "an id too large": (lambda m: m.logits([2048]), bn.PromptError, "2048"),
    "a negative id": (lambda m: m.generate([-1]), bn.PromptError, "-1"),
    "no tokens": (lambda m: m.generate("a", max_tokens=0), bn.OptionError, "max_tokens"),
    "negative tokens": (lambda m: m.generate("a", max_tokens=-1), bn.OptionError, "max_tokens"),
    "a negative temperature": (lambda m: m.generate("a", temperature=-0.1), bn.OptionError, "temperature"),
    "a temperature that is no number": (
        lambda m: m.generate("a", temperature=float("nan")),
        bn.OptionError,
        "temperature",
    ),
    "top_p of 0": (lambda m: m.generate("a", top_p=0.0), bn.OptionError, "top_p"),
    "negative top_k": (lambda m: m.generate("a", top_k=-3), bn.OptionError, "top_k"),
    "min_p above 1": (lambda m: m.generate("a", min_p=1.1), bn.OptionError, "min_p"),
    "a penalty of 0": (
        lambda m: m.generate("a", repetition_penalty=0.0),
        bn.OptionError,
        "penalty",
    ),
    "a Mirostat that is not there": (lambda m: m.generate("a", mirostat=1), bn.OptionError, "0 or 2"),
    "an option of no known name": (lambda m: m.generate("a", top_q=1), TypeError, "top_q"),
    "an option of the wrong type": (lambda m: m.generate("a", top_p="x"), TypeError, "top_p"),
    "an expression that is none": (lambda m: m.generate("a", regex="("), bn.OptionError, "regex: "),
    "a schema that is none": (
        lambda m: m.generate("a", json_schema={"type": "whole"}),
        bn.OptionError,
        "json_schema: ",
    ),
    "two constraints": (
        lambda m: m.generate("a", regex="a", json_schema={}),
        bn.OptionError,
        "without json_schema",
    ),
    "an empty stop string": (lambda m: m.generate("a", stop=""), bn.OptionError, "stop"),
    "a prompt of the wrong type": (lambda m: m.generate(5), TypeError, "prompt"),
    "ids as text": (lambda m: m.logits("abc"), TypeError, "ids"),
    "a stop of the wrong type": (lambda m: m.generate("a", stop=[1]), TypeError, "stop"),
    "messages of the wrong type": (lambda m: m.apply_chat_template(["hi"]), TypeError, "messages"),
    "a text too short": (lambda m: m.perplexity("short"), bn.PromptError, "513"),
    "a window of 0": (lambda m: m.perplexity("short", window=0), bn.OptionError, "window"),
    "a window beyond the context": (lambda m: m.perplexity("x", window=4096), bn.OptionError, "4096"),
}


@pytest.mark.parametrize("name", CALLS)
def test_wrong_calls_raise_one_clear_line(model: bn.Model, name: str) -> None:
    call, error, message = CALLS[name]
    with pytest.raises(error, match=message) as caught:
        call(model)
    assert len(str(caught.value).splitlines()) == 1


def test_a_checkpoint_without_a_tokenizer_computes_logits_only(tmp_path: Path, tiny: Path) -> None:
    shutil.copytree(tiny, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").unlink()
    model = bn.load(tmp_path / "model")
    assert model.logits([1, 2]).shape == (2, 2048)
    for call in (lambda: model.tokenizer, lambda: model.generate("a"), lambda: model.perplexity("a")):
        with pytest.raises(bn.TokenizerError, match=r"tokenizer\.json: is missing"):
            call()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": {"type": "BPE"}}'])
def test_a_damaged_tokenizer_is_named(tmp_path: Path, tiny: Path, content: str) -> None:
    shutil.copytree(tiny, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text(content)
    with pytest.raises(bn.TokenizerError, match=r"tokenizer\.json"):
        bn.load(tmp_path / "model")


def test_a_chat_template_that_refuses_is_heard(tmp_path: Path, tiny: Path) -> None:
    shutil.copytree(tiny, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(bn.ChatTemplateError, match="roles must alternate"):
        bn.load(tmp_path / "model").apply_chat_template([])
    (tmp_path / "model" / "chat_template.jinja").unlink()
    (tmp_path / "model" / "tokenizer_config.json").unlink()
    with pytest.raises(bn.ChatTemplateError, match="none"):
        bn.load(tmp_path / "model").apply_chat_template([])


@pytest.mark.skipif(sys.platform == "darwin", reason="there may be a Metal device")
def test_metal_off_macos_is_a_clear_no() -> None:
    for load in (bn.load, bn.ModelCache("1GB").get):
        with pytest.raises(bn.DeviceError, match=r"^no Metal device: Metal exists on macOS only$"):
            load(device="metal")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs rights that bind")
def test_a_file_that_may_not_be_read_is_a_permission_error(tmp_path: Path, tiny: Path) -> None:
    shutil.copytree(tiny, tmp_path / "model")
    (tmp_path / "model" / "config.json").chmod(0)
    with pytest.raises(PermissionError) as caught:
        bn.load(tmp_path / "model")
    assert isinstance(caught.value, bn.BitNetError)
    assert caught.value.filename == str(tmp_path / "model" / "config.json")
