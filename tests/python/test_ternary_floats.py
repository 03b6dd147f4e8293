"""Checkpoints whose floats are ternary already: how they are known, and what their activations are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import bitnet_rust as bn
import numpy as np
import pytest
from checkpoints import LLAMA_ONLINE, ONE_BIT_LLM, TRILM, Spec, build
from reference import absmax_quantize, forward

IDS = list(range(3, 40))


def activations(model: bn.Model) -> list[dict[str, Any]]:
    """What was decided of the activations."""
    return [decision for decision in model.summary()["decisions"] if decision["about"] == "activations"]


@pytest.mark.parametrize(
    ("spec", "scales"),
    [
        pytest.param(TRILM, "a scale per 64 columns, a scale per 96 columns, a scale per row", id="parts"),
        pytest.param(replace(TRILM, parts=1), "one scale", id="one"),
        pytest.param(replace(TRILM, parts=0, group=64), "a scale per 64 columns", id="groups"),
    ],
)
def test_the_decision_is_told(tmp_path: Path, spec: Spec, scales: str) -> None:
    build(tmp_path, spec)
    model = bn.load(tmp_path)
    summary = model.summary()
    assert (summary["weights"], summary["activations"]) == ("ternary", "float")
    (decision,) = activations(model)
    assert decision["chosen"] == "not quantized"
    assert decision["reason"] == f"since the floats stored are ternary ({scales}) and nothing asks for int8"
    assert decision["option"] == "--activations int8|float"


def test_logits_are_exact_without_rounding(tmp_path: Path) -> None:
    """Nothing is rounded to int8, so every position agrees to float32's precision."""
    config, tensors = build(tmp_path, TRILM)
    np.testing.assert_allclose(bn.load(tmp_path).logits(IDS), forward(config, tensors, IDS), atol=2e-5)


def test_int8_can_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, tensors = build(tmp_path, TRILM)
    model = bn.load(tmp_path, activations="int8")
    assert activations(model)[0]["reason"] == "as asked for"
    exact = forward(config, tensors, IDS)

    def rounded(x: Any, weight: Any, bias: Any) -> Any:
        codes, scale = absmax_quantize(x)
        return codes @ weight.T / scale + bias

    # The weights as they are, with rounded activations.
    monkeypatch.setattr("reference.online_linear", rounded)
    section = {"quantization_mode": "online"}
    expected = forward({**config, "quantization_config": section}, tensors, IDS)
    logits = model.logits(IDS)
    error = np.abs(logits - expected).mean(-1)
    assert np.quantile(error, 0.25) <= 1e-4
    assert error.max() <= 0.05
    assert np.abs(exact - expected).mean() > 0.005


def test_float_can_be_asked_for_of_a_bitnet_model(tmp_path: Path) -> None:
    build(tmp_path, LLAMA_ONLINE)
    model = bn.load(tmp_path, activations="float")
    assert model.summary()["activations"] == "float"
    assert not activations(bn.load(tmp_path))
    assert 0 < np.abs(model.logits(IDS) - bn.load(tmp_path).logits(IDS)).mean() < 0.2


def test_plain_models_are_refused(tmp_path: Path) -> None:
    build(tmp_path, replace(LLAMA_ONLINE, has_section=False))
    with pytest.raises(
        bn.ConfigError, match=r"config\.json: has no quantization_config, and tensor .* a plain llama"
    ):
        bn.load(tmp_path)


def test_unknown_modes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(bn.OptionError, match="activations must be int8 or float, not none"):
        bn.load(activations="none")  # type: ignore[call-overload]


def test_decoding_equals_reading_at_once(tmp_path: Path, tiny: Path) -> None:
    build(tmp_path, TRILM, tokenizer=tiny, vocab_size=2048)
    model = bn.load(tmp_path)
    ids = model.generate(IDS, max_tokens=8).token_ids
    logits = model.logits([*IDS, *ids])
    assert logits[len(IDS) - 1 : -1].argmax(-1).tolist() == ids


def test_one_bit_llm_without_a_fast_tokenizer_says_what_to_do(tmp_path: Path) -> None:
    build(tmp_path, ONE_BIT_LLM)
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a")
    with pytest.raises(bn.TokenizerError, match=r"tokenizer\.model alone is not read; .*save_pretrained"):
        bn.load(tmp_path).generate("a")


def test_one_bit_llm_is_known_by_its_norms(tmp_path: Path) -> None:
    build(tmp_path, ONE_BIT_LLM)
    config = bn.load(tmp_path).config
    assert (config.architecture, config.hidden_act, config.head_dim) == ("bitnet", "silu", 100)
