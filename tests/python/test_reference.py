"""The oracle against the outputs of transformers, and the properties that make it fit to judge others."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import (
    DIALECTS,
    Array,
    Spec,
    build,
    decode,
    encode,
    load,
    pack,
    read_safetensors,
    write_safetensors,
)
from reference import (
    absmax_quantize,
    absmean_quantize,
    assert_agreement,
    forward,
    gelu,
    hidden_states,
    is_converted,
    offline_linear,
    online_linear,
    rope_frequencies,
    unpack,
)

PROMPTS: list[list[int]] = np.random.default_rng(1).integers(0, 300, (8, 8)).tolist()


def compare_with_golden(model: Path, golden: Path, *, argmax: float) -> None:
    """Every logits.* of the golden file: a quarter of all positions come before any rounding tie, and the
    argmax is the same at the share `argmax` of them.
    """
    config, tensors = load(model)
    prompts = json.loads(golden.with_suffix(".json").read_text())["prompts"]
    stored = read_safetensors(golden.with_suffix(".safetensors"))
    expected = [decode(stored[f"logits.{i}"]) for i in range(len(prompts))]
    logits = [forward(config, tensors, prompt["ids"]) for prompt in prompts]
    assert_agreement(logits, expected, tolerance=1e-6, share=0.25)
    same = [a.argmax(-1) == b.argmax(-1) for a, b in zip(logits, expected, strict=True)]
    assert np.concatenate(same).mean() >= argmax


def test_logits_match_transformers(tiny: Path, golden: Path) -> None:
    compare_with_golden(tiny, golden / "bitnet-tiny", argmax=0.995)


def test_hidden_states_match_transformers(tiny: Path, golden: Path) -> None:
    config, tensors = load(tiny)
    ids = json.loads((golden / "bitnet-tiny.json").read_text())["prompts"][0]["ids"]
    expected = read_safetensors(golden / "bitnet-tiny.safetensors")
    for i, state in enumerate(hidden_states(config, tensors, ids)):
        wanted = decode(expected[f"hidden.{i}"])
        assert np.abs(state - wanted).mean() <= 1e-6 * wanted.std()


@pytest.mark.parametrize(
    ("name", "argmax"), [("bitnet-tiny-bf16", 0.995), ("bitnet-mini", 0.98), ("bitnet-mini-bf16", 0.995)]
)
def test_logits_of_other_models_match_transformers(shared: Path, name: str, argmax: float) -> None:
    compare_with_golden(shared / "models" / name, shared / "golden" / name, argmax=argmax)


@pytest.mark.parametrize("spec", [pytest.param(spec, id=name) for name, spec in DIALECTS])
def test_dialects_are_well_conditioned(tmp_path: Path, spec: Spec) -> None:
    """Logits of about 1 that float32 hardly moves, so that a larger difference elsewhere is a mistake."""
    config, tensors = build(tmp_path, spec)
    exact = [forward(config, tensors, ids) for ids in PROMPTS]
    rounded = [forward(config, tensors, ids, dtype=np.float32) for ids in PROMPTS]
    assert all(logits.dtype == np.float32 for logits in rounded)
    assert 0.8 <= np.std(exact) <= 1.25
    assert_agreement(rounded, exact, tolerance=1e-6)


@pytest.mark.parametrize("spec", [pytest.param(spec, id=name) for name, spec in DIALECTS])
def test_checkpoints_read_back(tmp_path: Path, spec: Spec) -> None:
    config, tensors = build(tmp_path, spec)
    read_config, read_tensors = load(tmp_path)
    assert read_config == config
    assert read_tensors.keys() == tensors.keys()
    for name, values in tensors.items():
        assert values.dtype == read_tensors[name].dtype
        np.testing.assert_array_equal(values, read_tensors[name])


def test_a_position_sees_no_later_one(tmp_path: Path) -> None:
    config, tensors = build(tmp_path)
    whole = forward(config, tensors, PROMPTS[0])
    np.testing.assert_allclose(forward(config, tensors, PROMPTS[0][:5]), whole[:5], rtol=0, atol=1e-9)


def test_pack_golden_vector() -> None:
    codes = np.array([(7 * i + i // 5) % 3 - 1 for i in range(256)]).reshape(64, 4)
    packed = pack(codes)
    assert packed.shape == (16, 4)
    assert packed.tobytes()[:16].hex() == "84114618618411461861841146186184"
    assert hashlib.sha256(packed.tobytes()).hexdigest()[:16] == "58d5d93fb2c09009"
    np.testing.assert_array_equal(unpack(packed, 64), codes)


@pytest.mark.parametrize("rows", range(1, 14))
def test_unpack_inverts_pack(rows: int) -> None:
    codes = np.random.default_rng(rows).integers(-1, 2, (rows, 7))
    packed = pack(codes)
    assert packed.shape == (math.ceil(rows / 4), 7)
    np.testing.assert_array_equal(unpack(packed, rows), codes)


def test_absent_rows_leave_zero_bits() -> None:
    assert pack(np.ones((5, 1), np.int64)).ravel().tolist() == [0b00_10_10_10, 0b00_00_10_10]


def test_activations_round_half_to_even() -> None:
    x_q, scale = absmax_quantize(np.array([[127.0, 0.5, 1.5, -2.5, -127.0], [0.0] * 5]))
    assert x_q.tolist() == [[127, 0, 2, -2, -127], [0] * 5]
    np.testing.assert_allclose(scale, [[1.0], [127e5]])


def test_weights_round_half_to_even() -> None:
    w_q, scale = absmean_quantize(np.array([[0.5, -0.5, 1.5, -1.5]]))
    assert (w_q.tolist(), scale.tolist()) == ([[0, 0, 1, -1]], [1.0])


def test_scale_and_bias_of_each_linear_class() -> None:
    x, codes = np.array([[127.0, -127.0]]), np.array([[1.0, -1.0]])
    scale, bias = np.array([0.5]), np.array([3.0])
    assert offline_linear(x, codes, scale, bias, multiply=False).item() == 254 / 0.5 + 3
    assert offline_linear(x, codes, scale, bias, multiply=True).item() == (254 + 3) * 0.5
    assert online_linear(x, codes * 2, bias).item() == 254 * 2 + 3


@pytest.mark.parametrize(
    ("entry", "converted"),
    [
        ("lm_head", True),
        ("down_proj", False),
        ("proj", False),
        ("mlp", True),
        ("model.layers.1", False),
        ("model.layers.1.", False),
        ("model.layers", False),
        ("model.layers.1.mlp.down", True),
        ("layers.1", True),
        ("model.layers.11", True),
        ("model.layers.*.down_proj", False),
        ("model.layers.[02].mlp", True),
        ("model.layers.0|model.layers.1", False),
        ("model.layers.1.mlp.down_proj.weight", True),
    ],
)
def test_modules_to_not_convert(entry: str, converted: bool) -> None:
    assert is_converted("model.layers.1.mlp.down_proj", {"modules_to_not_convert": [entry]}) is converted


def test_without_a_list_only_the_head_stays_float() -> None:
    for quantization in ({}, {"modules_to_not_convert": None}):
        assert not is_converted("lm_head", quantization)
        assert is_converted("model.layers.0.mlp.down_proj", quantization)
    assert is_converted("lm_head", {"modules_to_not_convert": []})


def llama3_frequency(freq: float, factor: float, low: float, high: float, original: float) -> float:
    """One frequency by the three cases of its wavelength."""
    wavelength = 2 * math.pi / freq
    if wavelength < original / high:
        return freq
    if wavelength > original / low:
        return freq / factor
    smooth = (original / wavelength - low) / (high - low)
    return (1 - smooth) * freq / factor + smooth * freq


def test_llama3_frequencies() -> None:
    rope = {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    config = {
        "model_type": "llama",
        "head_dim": 128,
        "rope_theta": 500_000.0,
        "max_position_embeddings": 131_072,
    }
    plain = rope_frequencies(config)
    scaled = rope_frequencies({**config, "rope_scaling": {"rope_type": "llama3", **rope}})
    wanted = [llama3_frequency(f, 8.0, 1.0, 4.0, 8192) for f in plain]
    np.testing.assert_allclose(scaled, wanted, rtol=1e-12)
    assert 0 < np.sum(scaled == plain) < np.sum(scaled > plain / 8.0 * (1 + 1e-9)) < len(plain)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_theta": 700.0, "rope_scaling": {"type": "linear", "factor": 4.0}},
        {"rope_theta": 700.0, "rope_scaling": {"rope_type": "linear", "type": "dynamic", "factor": 4.0}},
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 700.0}},
        {"rope_theta": 700.0, "rope_parameters": {"rope_type": "linear", "factor": 4.0}},
        {"rope_theta": 1.0, "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 700.0}},
    ],
)
def test_spellings_of_rope(rope: dict[str, Any]) -> None:
    config = {"model_type": "llama", "head_dim": 4, **rope}
    np.testing.assert_allclose(rope_frequencies(config), [0.25, 0.25 / math.sqrt(700.0)])


def test_gelu_uses_the_exact_erf() -> None:
    np.testing.assert_allclose(
        gelu(np.array([-1.0, 0.0, 2.0])), [-0.158655253931, 0.0, 1.954499736104], rtol=1e-11
    )


def test_bf16_rounds_ties_to_even() -> None:
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -3.0e38, np.inf])
    rounded = decode(encode(values, "BF16"))
    assert rounded[:4].tolist() == [1.0, 1.0, 1 + 2**-6, 1 + 2**-7]
    assert (rounded[4] < -2.9e38, rounded[5]) == (True, np.inf)
    assert math.isnan(decode(encode(np.array([np.nan]), "BF16"))[0])


def test_safetensors_round_trip(tmp_path: Path) -> None:
    values: Array = np.arange(6.0).reshape(2, 3) / 4
    stored = {dtype: encode(values, dtype) for dtype in ("U8", "F16", "BF16", "F32")}
    write_safetensors(tmp_path / "a.safetensors", stored)
    for dtype, tensor in read_safetensors(tmp_path / "a.safetensors").items():
        assert tensor.dtype == dtype
        np.testing.assert_array_equal(decode(tensor), np.trunc(values) if dtype == "U8" else values)
