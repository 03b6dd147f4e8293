"""Models on MLX's CPU device against the golden files, the oracle and the engine; mlx-lm runs them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bitnet_rust as bn
import numpy as np
import pytest

pytest.importorskip("mlx.core", reason="needs the extra mlx")

import mlx.core as mx
from arrays import Array
from bitnet_rust.mlx import Model, load, load_model
from checkpoints import (
    DIALECTS,
    GEMMA3,
    LLAMA,
    QWEN3,
    TRILM,
    Spec,
    Stored,
    build,
    read_safetensors,
    write_safetensors,
)
from conftest import FIXTURES
from mlx_arrays import assert_golden_text, to_numpy
from reference import assert_agreement, forward

NAMES = ["bitnet-tiny", "bitnet-tiny-bf16", "bitnet-mini", "bitnet-mini-bf16"]

# What MLX refuses: weights that are ternary by their values, sliding windows.
ABSENT = ("trilm", "groups", "gemma3")


def logits_of(model: Model, ids: list[int]) -> Array:
    return to_numpy(model(mx.array([ids]))[0])


@pytest.fixture(params=NAMES)
def named(request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """A checkpoint and the stem of its golden files."""
    name: str = request.param
    if name == "bitnet-tiny":
        return FIXTURES / name, FIXTURES / "golden" / name
    shared: Path = request.getfixturevalue("shared")
    return shared / "models" / name, shared / "golden" / name


def test_logits_are_golden(named: tuple[Path, Path]) -> None:
    path, golden = named
    prompts = json.loads(golden.with_suffix(".json").read_text())["prompts"]
    stored = read_safetensors(golden.with_suffix(".safetensors"))
    expected = {int(name[7:]): stored[name].array for name in stored if name.startswith("logits.")}
    model = load_model(path)
    ours = [logits_of(model, prompts[index]["ids"]) for index in expected]
    assert_agreement(ours, list(expected.values()), tolerance=1e-5, share=0.4)


@pytest.mark.parametrize(
    "spec", [pytest.param(spec, id=name) for name, spec in DIALECTS if not name.startswith(ABSENT)]
)
def test_dialects_match_the_reference(tmp_path: Path, spec: Spec) -> None:
    config, tensors = build(tmp_path, spec)
    prompts = np.random.default_rng(0).integers(0, spec.vocab_size, (8, 8)).tolist()
    model = load_model(tmp_path)
    expected = [forward(config, tensors, ids) for ids in prompts]
    assert_agreement([logits_of(model, ids) for ids in prompts], expected, tolerance=2e-3)


def test_a_cache_of_mlx_lm_gives_the_logits_of_the_whole(tiny: Path) -> None:
    cache = pytest.importorskip("mlx_lm.models.cache", reason="needs mlx-lm")
    model, ids = load_model(tiny), list(range(40, 60))
    kept = cache.make_prompt_cache(model)
    pieces = [model(mx.array([piece]), cache=kept)[0] for piece in (ids[:7], ids[7:8], ids[8:])]
    assert_agreement([to_numpy(mx.concatenate(pieces))], [logits_of(model, ids)], tolerance=1e-5)


def test_mlx_lm_generates_the_golden_text(named: tuple[Path, Path]) -> None:
    mlx_lm = pytest.importorskip("mlx_lm", reason="needs mlx-lm")
    path, golden = named
    prompts = json.loads(golden.with_suffix(".json").read_text())["prompts"]
    model, tokenizer = load(path)
    for prompt in prompts[:3]:
        assert tokenizer.encode(prompt["text"]) == prompt["ids"]
        pieces = list(mlx_lm.stream_generate(model, tokenizer, prompt["ids"], max_tokens=12))
        assert_golden_text(path, prompt, [piece.token for piece in pieces])


def test_quantized_caches_of_mlx_lm_are_refused(tiny: Path) -> None:
    cache = pytest.importorskip("mlx_lm.models.cache", reason="needs mlx-lm")
    model = load_model(tiny)
    with pytest.raises(ValueError, match="kv_bits"):
        model(mx.array([[1, 2]]), cache=[cache.QuantizedKVCache() for _ in model.layers])


def test_a_batch_gives_the_logits_of_its_rows(tiny: Path) -> None:
    model = load_model(tiny)
    rows = [list(range(40, 60)), list(range(300, 320))]
    together = to_numpy(model(mx.array(rows)))
    assert_agreement(list(together), [logits_of(model, row) for row in rows], tolerance=1e-5)


def test_gguf_files_are_converted(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    bn.convert(tiny, path, to="gguf-i2_s")
    ids = list(range(40, 60))
    np.testing.assert_array_equal(logits_of(load_model(path), ids), logits_of(load_model(tiny), ids))


def test_codes_and_scales_are_those_of_the_engine(tmp_path: Path) -> None:
    """A master is ternarised by the same function, so packing it first changes no bit."""
    build(tmp_path / "master", mode="online", tokenizer=FIXTURES / "bitnet-tiny", vocab_size=2048)
    bn.convert(tmp_path / "master", tmp_path / "packed", to="hf")
    ids = list(range(40, 60))
    one, other = (logits_of(load_model(tmp_path / name), ids) for name in ("master", "packed"))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (TRILM, "has no quantization_config"),
        (GEMMA3, "model_type 'gemma3_text' does not run on MLX; these do: bitnet, llama, qwen3"),
        (replace(QWEN3, extra={"use_sliding_window": True}), "sliding windows"),
        (
            replace(LLAMA, rope={"rope_scaling": {"rope_type": "yarn", "factor": 2}}),
            "rope_type 'yarn' is unknown",
        ),
        (replace(LLAMA, rope={"rope_scaling": {"rope_type": "linear"}}), "factor of rope_scaling is missing"),
        (replace(LLAMA, hidden_act="tanh"), "hidden_act 'tanh' is unknown"),
        (Spec(hidden_size=0), "hidden_size"),
        (Spec(heads=3, kv_heads=2, hidden_size=96), "3 heads of 32 over 2"),
        (Spec(extra={"quantization_config": {"quant_method": "gptq"}}), "quant_method is 'gptq'"),
        (Spec(extra={"quantization_config": {"linear_class": "x"}}), "linear_class 'x' is unknown"),
    ],
)
def test_configs_that_do_not_run_say_why(tmp_path: Path, spec: Spec, message: str) -> None:
    build(tmp_path, replace(spec, hidden_size=64 if not spec.hidden_size else spec.hidden_size))
    if not spec.hidden_size:
        change_config(tmp_path, lambda config: config.pop("hidden_size"))
    with pytest.raises(bn.ConfigError, match=re.escape(message)):
        load_model(tmp_path)


def change_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def damaged(name: str, change: Callable[[Array], Array | None]) -> Callable[[dict[str, Stored]], None]:
    def damage(tensors: dict[str, Stored]) -> None:
        stored = tensors.pop(name)
        array = change(stored.array.copy())
        if array is not None:
            tensors[name] = Stored(stored.dtype, array)

    return damage


GATE = "model.layers.1.mlp.gate_proj"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            damaged(f"{GATE}.weight", lambda array: np.full_like(array, 0xFF)),
            f"tensor {GATE}.weight: has the code 3",
        ),
        (damaged(f"{GATE}.weight", lambda array: array[:-1]), f"tensor {GATE}.weight: has shape [23, 64]"),
        (damaged(f"{GATE}.weight", lambda array: array[:, :32].copy()), f"{GATE}.weight"),
        (damaged(f"{GATE}.weight", lambda array: None), f"{GATE}.weight"),
        (damaged(f"{GATE}.weight_scale", lambda array: None), f"tensor {GATE}.weight_scale: is missing"),
        (
            damaged(f"{GATE}.weight_scale", lambda array: array * 0),
            f"tensor {GATE}.weight_scale: 0.0 is no scale",
        ),
        (damaged("model.norm.weight", lambda array: array[:3]), "model.norm.weight"),
    ],
)
def test_damaged_checkpoints_are_refused(
    tmp_path: Path, damage: Callable[[dict[str, Stored]], None], message: str
) -> None:
    build(tmp_path)
    tensors = read_safetensors(tmp_path / "model.safetensors")
    damage(tensors)
    write_safetensors(tmp_path / "model.safetensors", tensors)
    with pytest.raises(bn.CheckpointError, match=re.escape(message)):
        load_model(tmp_path)


def test_folders_without_a_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(bn.CheckpointError, match=r"config\.json: is missing"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(bn.CheckpointError, match="has no safetensors"):
        load_model(tmp_path)
    with pytest.raises(bn.ModelNotFoundError):
        load_model(tmp_path / "nothing/here/at/all")
