"""Texts as vectors, against the oracle, and the oracle against transformers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import bitnet_rust as bn
import numpy as np
import pytest
from checkpoints import GEMMA3, QWEN3, TRILM, Spec, build, end_texts, write_json
from reference import embed, hidden_states

TEXTS = ["My fellow citizens", "", "the 1st of May\n", "union " * 120]
FAMILIES = [("qwen3", QWEN3), ("gemma3", GEMMA3), ("trilm", TRILM)]
EMBEDDERS = [
    pytest.param(QWEN3, id="qwen3"),
    pytest.param(GEMMA3, id="gemma3"),
    pytest.param(replace(GEMMA3, extra={**GEMMA3.extra, "sliding_window": 70}), id="gemma3-window-70"),
]


@pytest.mark.parametrize(("name", "spec"), FAMILIES)
def test_the_oracle_gives_what_transformers_gives(
    tmp_path: Path, golden: Path, name: str, spec: Spec
) -> None:
    """The golden file holds the last two hidden states of transformers 5.23 in float32 on these checkpoints.

    They come from its own Qwen3Model, Gemma3TextModel and LlamaModel; in the first two each linear was
    replaced by norm, int8 rounding and the product with the absmean codes of its weight.
    """
    stored = json.loads((golden / "families.json").read_text())
    config, tensors = build(tmp_path, spec)
    ours = hidden_states(config, tensors, stored["ids"])[-1][-2:]
    np.testing.assert_allclose(ours, stored[name], rtol=0, atol=1e-5)


def build_with_tokenizer(path: Path, tiny: Path, spec: Spec) -> bn.Model:
    """A model with the vocabulary of bitnet-tiny, whose tokenizer then ends every text with its EOS token."""
    build(path, spec, tokenizer=tiny, vocab_size=2048)
    end_texts(path)
    return bn.load(path)


@pytest.mark.parametrize("spec", EMBEDDERS)
def test_embeddings_are_those_of_the_oracle(tmp_path: Path, tiny: Path, spec: Spec) -> None:
    """A rounding tie may shift a text by about 1 %; most have none, and a mistake would show in all."""
    model = build_with_tokenizer(tmp_path, tiny, spec)
    config, tensors = build(tmp_path / "again", spec, tokenizer=tiny, vocab_size=2048)
    vectors = model.embed(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), spec.hidden_size)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    expected = [embed(config, tensors, model.tokenizer.encode(text)) for text in TEXTS]
    distances = np.linalg.norm(vectors - np.array(expected), axis=1)
    assert np.quantile(distances, 0.5, method="lower") <= 1e-4
    assert distances.max() <= 0.05


def test_one_text_is_one_vector(tmp_path: Path, tiny: Path) -> None:
    model = build_with_tokenizer(tmp_path, tiny, QWEN3)
    np.testing.assert_array_equal(model.embed(TEXTS[0]), model.embed(TEXTS)[0])
    assert model.embed(TEXTS[0]).shape == (QWEN3.hidden_size,)
    assert model.embed(iter(TEXTS)).shape == (4, QWEN3.hidden_size)
    assert model.embed([]).shape == (0, QWEN3.hidden_size)


def test_a_text_is_the_same_on_any_number_of_threads_and_beside_any_other(tmp_path: Path, tiny: Path) -> None:
    build_with_tokenizer(tmp_path, tiny, GEMMA3)
    one, two = (bn.load(tmp_path, threads=threads).embed(TEXTS) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one[::-1], bn.load(tmp_path).embed(TEXTS[::-1]))


def test_the_mean_is_that_of_the_oracle(tmp_path: Path, tiny: Path) -> None:
    model = build_with_tokenizer(tmp_path, tiny, QWEN3)
    config, tensors = build(tmp_path / "again", QWEN3, tokenizer=tiny, vocab_size=2048)
    # Few tokens, so that a rounding tie has little to spread to.
    texts = [text for text in TEXTS if len(text) < 100]
    means = [hidden_states(config, tensors, model.tokenizer.encode(text))[-1].mean(axis=0) for text in texts]
    vectors = model.embed(texts, pooling="mean", normalize=False)
    np.testing.assert_allclose(vectors, means, rtol=0, atol=0.05)
    assert np.quantile(np.abs(vectors - means), 0.5) <= 1e-4
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(model.embed(texts, pooling="mean"), vectors / lengths, atol=1e-6)
    pooling = tmp_path / "1_Pooling"
    pooling.mkdir()
    write_json(pooling / "config.json", {"pooling_mode_mean_tokens": True, "pooling_mode_lasttoken": False})
    asked = bn.load(tmp_path)
    np.testing.assert_array_equal(asked.embed(texts), model.embed(texts, pooling="mean"))
    np.testing.assert_array_equal(asked.embed(texts, pooling="last"), model.embed(texts))
    with pytest.raises(bn.OptionError, match="pooling must be last or mean, not max"):
        model.embed("a", pooling="max")  # type: ignore[arg-type]


def test_what_cannot_be_embedded(tmp_path: Path, tiny: Path) -> None:
    model = build_with_tokenizer(tmp_path, tiny, QWEN3)
    with pytest.raises(TypeError, match="texts must be a text or a sequence of texts"):
        model.embed([1])  # type: ignore[list-item]
    with pytest.raises(bn.ContextLengthError):
        model.embed("union " * 5000)
    pooling = tmp_path / "1_Pooling"
    pooling.mkdir()
    for modes in (
        {"pooling_mode_cls_token": True},
        {"pooling_mode_mean_tokens": True, "pooling_mode_lasttoken": True},
    ):
        write_json(pooling / "config.json", modes)
        with pytest.raises(bn.ConfigError, match="another pooling"):
            bn.load(tmp_path).embed("a")
    write_json(pooling / "config.json", {"pooling_mode_lasttoken": True})
    np.testing.assert_array_equal(bn.load(tmp_path).embed(TEXTS), model.embed(TEXTS))
    shutil.rmtree(pooling)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(bn.TokenizerError, match=r"tokenizer\.json: is missing"):
        bn.load(tmp_path).embed("a")
