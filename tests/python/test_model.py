"""Real checkpoints against what transformers computed: ids, chat, logits, greedy text, perplexity."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bitnet_rust as bn
import numpy as np
import pytest
from checkpoints import Array, load, read_safetensors
from conftest import FIXTURES
from reference import assert_agreement, forward

NAMES = ["bitnet-tiny", "bitnet-tiny-bf16", "bitnet-mini", "bitnet-mini-bf16"]


@dataclass(frozen=True)
class Case:
    """A checkpoint, the model loaded from it, and its golden files."""

    path: Path
    model: bn.Model
    golden: dict[str, Any]
    logits: dict[int, Array]

    @property
    def prompts(self) -> list[dict[str, Any]]:
        """The golden prompts."""
        prompts: list[dict[str, Any]] = self.golden["prompts"]
        return prompts


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest) -> Case:
    """Every model there is: bitnet-tiny always, the others where the shared folder is."""
    name: str = request.param
    path, golden = FIXTURES / name, FIXTURES / "golden"
    if name != "bitnet-tiny":
        shared: Path = request.getfixturevalue("shared")
        path, golden = shared / "models" / name, shared / "golden"
    stored = read_safetensors(golden / f"{name}.safetensors")
    logits = {int(key[7:]): stored[key].array for key in stored if key.startswith("logits.")}
    return Case(path, bn.load(path), json.loads((golden / f"{name}.json").read_text()), logits)


def test_token_ids_and_chat_are_equal(case: Case) -> None:
    tokenizer = case.model.tokenizer
    for prompt in case.prompts:
        assert tokenizer.encode(prompt["text"]) == prompt["ids"]
        assert tokenizer.decode(prompt["ids"]) == prompt["text"]
        assert tokenizer.encode(prompt["text"], add_special_tokens=False) == prompt["ids"][1:]
    chat = case.golden["chat"]
    assert case.model.apply_chat_template(chat["messages"]) == chat["rendered"]
    without = case.model.apply_chat_template(chat["messages"], add_generation_prompt=False)
    assert chat["rendered"].startswith(without)
    assert without != chat["rendered"]


def test_logits_agree_with_the_golden_ones(case: Case) -> None:
    ours = [case.model.logits(case.prompts[index]["ids"]) for index in case.logits]
    golden = list(case.logits.values())
    assert_agreement(ours, golden, tolerance=1e-5, share=0.4)
    same = np.concatenate([a.argmax(-1) == b.argmax(-1) for a, b in zip(ours, golden, strict=True)])
    assert same.mean() >= 0.995


def test_logits_agree_with_exact_arithmetic(case: Case) -> None:
    """Against float64, where the oracle itself rounds nothing but the activations to int8."""
    config, tensors = load(case.path)
    prompts = [prompt["ids"] for prompt in case.prompts]
    exact = [forward(config, tensors, ids) for ids in prompts]
    assert_agreement([case.model.logits(ids) for ids in prompts], exact, tolerance=1e-5, share=0.4)


def test_greedy_text_begins_as_the_golden_one(case: Case) -> None:
    """tests/rust/golden.rs compares the whole and names the near ties where it parts."""
    for prompt in case.prompts:
        generation = case.model.generate(prompt["text"], max_tokens=12)
        assert generation.token_ids == prompt["greedy_ids"][: len(generation.token_ids)]
        assert str(generation) == case.model.tokenizer.decode(generation.token_ids)


def test_perplexity_agrees(golden: Path, shared: Path) -> None:
    """For bitnet-tiny; tests/rust/golden.rs has the others."""
    expected = json.loads((golden / "bitnet-tiny.json").read_text())["perplexity"]
    text = (shared / expected["file"]).read_text()
    got = bn.load().perplexity(text, window=expected["window"], max_windows=expected["windows"])
    assert got == pytest.approx(expected["ppl"], rel=1e-3)


def test_the_embedded_model_is_the_fixture() -> None:
    embedded, fixture = bn.load(), bn.load(FIXTURES / "bitnet-tiny")
    ids = [2043, 555, 695]
    np.testing.assert_array_equal(embedded.logits(ids), fixture.logits(ids))
    packaged = Path(__file__).parents[2] / "crates/bitnet-inference/models/bitnet-tiny"
    for file in packaged.iterdir():
        assert file.read_bytes() == (FIXTURES / "bitnet-tiny" / file.name).read_bytes()


def test_threads_do_not_change_a_bit() -> None:
    ids = list(range(40, 120))
    one, two = bn.load(threads=1), bn.load(threads=2)
    np.testing.assert_array_equal(one.logits(ids), two.logits(ids))


def test_config_and_summary_say_what_the_checkpoint_is() -> None:
    model = bn.load()
    config = model.config
    assert (config.architecture, config.hidden_act, config.scale_sense) == ("bitnet", "relu2", "multiply")
    assert (config.hidden_size, config.intermediate_size, config.num_hidden_layers) == (256, 768, 4)
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (4, 2, 64)
    assert (config.vocab_size, config.max_position_embeddings) == (2048, 2048)
    assert (config.bos_token_id, config.eos_token_ids) == (2043, [2044, 2047])
    assert config.tie_word_embeddings
    assert config.rope_theta == 500_000.0
    assert config.rms_norm_eps == pytest.approx(1e-5)
    summary = model.summary()
    ternary = 4 * (2 * 256 * 256 + 2 * 128 * 256 + 3 * 256 * 768)
    assert summary["ternary_parameters"] == ternary
    assert summary["parameters"] == ternary + 2048 * 256 + 4 * (3 * 256 + 768) + 256
    assert "bitnet-tiny" in repr(model)
    assert "BPE" in repr(model.tokenizer)
    assert model.tokenizer.vocab_size == 2048


def test_logits_take_any_sequence_of_integers() -> None:
    model = bn.load()
    expected = model.logits([1, 2, 3])
    assert expected.shape == (3, 2048)
    assert expected.dtype == np.float32
    for ids in ((1, 2, 3), np.array([1, 2, 3]), range(1, 4)):
        np.testing.assert_array_equal(model.logits(ids), expected)
