"""Generating: sampling, seeds, stop strings, streams, limits, interrupts."""

from __future__ import annotations

import json
import re
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitnet_rust as bn
import numpy as np
import pytest

PROMPT = "My fellow citizens, today we"


@pytest.fixture(scope="module")
def model() -> bn.Model:
    """The embedded model."""
    return bn.load()


def test_a_generation_counts_itself(model: bn.Model) -> None:
    generation = model.generate(PROMPT, max_tokens=10)
    assert str(generation) == generation.text
    assert generation.completion_tokens == len(generation.token_ids) == 10
    assert generation.prompt_tokens == len(model.tokenizer.encode(PROMPT))
    assert generation.finish_reason == "length"
    timings = generation.timings
    assert timings.prefill_s > 0
    assert timings.decode_tokens_per_s == pytest.approx(9 / timings.decode_s)
    assert timings.prefill_tokens_per_s == pytest.approx(generation.prompt_tokens / timings.prefill_s)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.8},
        {"temperature": 1.2, "top_k": 20},
        {"temperature": 1.0, "top_p": 0.9},
        {"temperature": 1.0, "min_p": 0.05},
        {"temperature": 0.7, "repetition_penalty": 1.3, "top_k": 50, "top_p": 0.95, "min_p": 0.02},
    ],
)
def test_the_same_seed_gives_the_same_text_on_any_number_of_threads(
    model: bn.Model, options: dict[str, Any]
) -> None:
    first = model.generate(PROMPT, seed=7, max_tokens=40, **options)
    assert model.generate(PROMPT, seed=7, max_tokens=40, **options).token_ids == first.token_ids
    assert bn.load(threads=1).generate(PROMPT, seed=7, max_tokens=40, **options).token_ids == first.token_ids
    assert model.generate(PROMPT, seed=8, max_tokens=40, **options).token_ids != first.token_ids
    assert first.seed == 7


def test_a_seed_that_was_drawn_reproduces_the_text(model: bn.Model) -> None:
    first = model.generate(PROMPT, temperature=1.0, max_tokens=20)
    assert model.generate(PROMPT, temperature=1.0, max_tokens=20, seed=first.seed).text == first.text


def test_top_k_1_is_greedy(model: bn.Model) -> None:
    greedy = model.generate(PROMPT, max_tokens=20)
    assert model.generate(PROMPT, temperature=1.0, top_k=1, max_tokens=20).token_ids == greedy.token_ids


def test_the_first_token_follows_the_softmax(model: bn.Model) -> None:
    """Frequencies of 2,000 draws against probabilities, by the largest difference of the cumulative sums."""
    ids = model.tokenizer.encode("a")
    logits = model.logits(ids)[-1].astype(np.float64)
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    counts = np.zeros_like(probabilities)
    for seed in range(2000):
        counts[model.generate(ids, temperature=1.0, seed=seed, max_tokens=1).token_ids] += 1
    # The order of ids is arbitrary, so this is a Kolmogorov-Smirnov test; 1.95 / sqrt(n) fails once in 1,000.
    assert np.abs(np.cumsum(counts / counts.sum() - probabilities)).max() < 1.95 / np.sqrt(2000)


def test_a_penalty_breaks_repetition(model: bn.Model) -> None:
    plain = model.generate(PROMPT, max_tokens=60).token_ids
    penalised = model.generate(PROMPT, max_tokens=60, repetition_penalty=1.5).token_ids
    assert len(set(penalised)) > len(set(plain))


def test_guesses_change_nothing_but_the_steps(model: bn.Model) -> None:
    prompt = model.tokenizer.encode(PROMPT) * 3
    samplings: list[dict[str, Any]] = [{}, {"temperature": 0.8, "seed": 5, "repetition_penalty": 1.1}]
    sources: list[dict[str, Any]] = [{"speculate": "lookup"}, {"draft": model}]
    for options in samplings:
        expected = model.generate(prompt, max_tokens=40, **options)
        assert (expected.guesses_proposed, expected.guesses_accepted) == (0, 0)
        for source in sources:
            guessed = model.generate(prompt, max_tokens=40, guesses=4, **source, **options)
            assert guessed.token_ids == expected.token_ids
            assert guessed.guesses_accepted <= guessed.guesses_proposed
            # The model knows what it says itself when nothing is drawn.
            assert guessed.guesses_accepted > 0 or "speculate" in source or options
            stream = model.stream(prompt, max_tokens=40, **source, **options)
            assert [chunk.token_id for chunk in stream] == expected.token_ids


def test_guesses_that_cannot_be(model: bn.Model, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(bn.OptionError, match="speculate must be lookup, not ngram"):
        model.generate(PROMPT, speculate="ngram")  # type: ignore[arg-type]
    with pytest.raises(bn.OptionError, match="guesses must be at least 1, not 0"):
        model.generate(PROMPT, speculate="lookup", guesses=0)
    with pytest.raises(bn.OptionError, match="draft must be None where speculate is given, not a model"):
        model.generate(PROMPT, speculate="lookup", draft=model)
    shutil.copytree(tiny, tmp_path / "other")
    path = tmp_path / "other" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocab = tokenizer["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(bn.OptionError, match="draft must be a model with the same tokens, not "):
        model.generate(PROMPT, draft=bn.load(tmp_path / "other"))


def test_stop_strings_end_the_text_and_are_not_part_of_it(model: bn.Model) -> None:
    whole = model.generate(PROMPT, max_tokens=40).text
    for stop in ("people", "American people", "of the"):
        generation = model.generate(PROMPT, max_tokens=40, stop=stop)
        assert generation.text == whole[: whole.index(stop)]
        assert generation.finish_reason == "stop"
    several = model.generate(PROMPT, max_tokens=40, stop=["never there", "people"])
    assert several.text == whole[: whole.index("people")]


def test_the_end_of_text_ends_the_generation(model: bn.Model) -> None:
    reasons = set()
    for seed in range(40):
        generation = model.generate("The end.", temperature=1.3, seed=seed, max_tokens=120)
        reasons.add(generation.finish_reason)
        assert not set(generation.token_ids) & set(model.config.eos_token_ids)
    assert "stop" in reasons


@pytest.mark.parametrize("temperature", [0.0, 1.4])
def test_chunks_concatenate_to_the_text(model: bn.Model, temperature: float) -> None:
    for seed in range(5):
        options: dict[str, Any] = {"temperature": temperature, "seed": seed, "max_tokens": 60}
        expected = model.generate("naïve 日本語 🙂", **options)
        stream = model.stream("naïve 日本語 🙂", **options)
        chunks = list(stream)
        assert "".join(chunk.text for chunk in chunks) == expected.text
        assert [chunk.token_id for chunk in chunks if chunk.token_id is not None] == expected.token_ids
        assert stream.generation.text == expected.text
        assert stream.generation.finish_reason == expected.finish_reason


def test_a_stream_ends_for_good_and_shows_what_it_has(model: bn.Model) -> None:
    stream = model.stream(PROMPT, max_tokens=3)
    assert iter(stream) is stream
    first = next(stream)
    assert stream.generation.text == first.text == str(first)
    assert stream.generation.finish_reason == "cancelled"
    assert len(list(stream)) == 2
    assert next(stream, None) is None
    assert "Stream" in repr(stream)


def test_a_prompt_of_ids_is_used_as_it_is(model: bn.Model) -> None:
    ids = model.tokenizer.encode(PROMPT)
    assert model.generate(ids, max_tokens=10).token_ids == model.generate(PROMPT, max_tokens=10).token_ids


def test_a_rendered_chat_gets_no_second_bos(model: bn.Model) -> None:
    text = model.apply_chat_template([{"role": "user", "content": "Hi"}])
    ids = model.tokenizer.encode(text, add_special_tokens=False)
    assert ids[0] == model.config.bos_token_id
    assert model.generate(text, max_tokens=5).prompt_tokens == len(ids)


def test_the_context_is_respected(model: bn.Model) -> None:
    length = model.config.max_position_embeddings
    generation = model.generate([5] * (length - 4), max_tokens=100, temperature=1.0, seed=1)
    assert len(generation.token_ids) <= 4
    with pytest.raises(bn.ContextLengthError, match=f"{length} tokens.*{length}"):
        model.generate([5] * length)
    with pytest.raises(bn.ContextLengthError, match=str(length + 1)):
        model.logits([5] * (length + 1))


def test_threads_share_a_model(model: bn.Model) -> None:
    expected = [model.generate(PROMPT, temperature=1.0, seed=seed, max_tokens=30).text for seed in range(6)]
    got: dict[int, str] = {}

    def work(seed: int) -> None:
        got[seed] = model.generate(PROMPT, temperature=1.0, seed=seed, max_tokens=30).text

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[seed] for seed in range(6)] == expected


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals to a thread need POSIX")
def test_ctrl_c_interrupts_long_work(model: bn.Model) -> None:
    def interrupt() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    work: list[Callable[[], object]] = [
        lambda: [model.generate(PROMPT, max_tokens=2000) for _ in range(1000)],
        lambda: [list(model.stream(PROMPT, max_tokens=2000)) for _ in range(1000)],
        lambda: [model.logits([7] * 2000) for _ in range(1000)],
        lambda: model.perplexity("some words " * 200_000, window=64),
    ]
    for run in work:
        timer = threading.Timer(0.3, interrupt)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            run()
        timer.join()


def test_logprobs_are_the_log_softmax_of_the_logits(model: bn.Model) -> None:
    generation = model.generate(PROMPT, max_tokens=12, temperature=1.5, top_k=50, seed=3, logprobs=4)
    prompt = model.tokenizer.encode(PROMPT)
    logits = model.logits([*prompt, *generation.token_ids])[len(prompt) - 1 : -1].astype(np.float64)
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert generation.logprobs is not None
    assert len(generation.logprobs) == len(generation.token_ids)
    for token_id, got, row in zip(generation.token_ids, generation.logprobs, expected, strict=True):
        assert got.logprob == pytest.approx(row[token_id], abs=1e-5)
        assert [token for token, _ in got.top] == np.argsort(-row, kind="stable")[:4].tolist()
        assert [logprob for _, logprob in got.top] == pytest.approx(np.sort(row)[::-1][:4], abs=1e-5)
    assert model.generate(PROMPT, max_tokens=2).logprobs is None


def test_a_text_matches_what_constrains_it(model: bn.Model) -> None:
    pattern = r"[A-Z][a-z]{2,8}(, [a-z]{2,8}){2}\."
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    for seed in range(5):
        options: dict[str, Any] = {"temperature": 1.5, "seed": seed}
        text = model.generate(PROMPT, regex=pattern, **options).text
        assert re.fullmatch(pattern, text)
        generation = model.generate(PROMPT, json_schema={**schema, "additionalProperties": False}, **options)
        if generation.finish_reason == "stop":
            value = json.loads(generation.text)
            assert isinstance(value["n"], int)
    as_text = json.dumps(schema)
    assert model.generate(PROMPT, json_schema=as_text).text == model.generate(PROMPT, json_schema=schema).text


@pytest.mark.parametrize(
    "options",
    [
        {"dynatemp_range": 0.5, "dynatemp_exponent": 2.0},
        {"temperature_last": True, "typical_p": 0.6, "top_n_sigma": 1.5},
        {"xtc_probability": 1.0, "xtc_threshold": 0.05},
        {"mirostat": 2, "mirostat_tau": 3.0, "mirostat_eta": 0.2},
        {"presence_penalty": 1.0, "frequency_penalty": 0.5, "repeat_last_n": 16},
        {"dry_multiplier": 2.0, "dry_base": 2.0, "dry_allowed_length": 1, "dry_sequence_breakers": []},
        {"logit_bias": {11: 20.0, 5: float("-inf")}},
    ],
)
def test_every_option_changes_the_text(model: bn.Model, options: dict[str, Any]) -> None:
    # Cold enough to repeat itself.
    plain: dict[str, Any] = {"temperature": 0.5, "seed": 5, "max_tokens": 80}
    assert model.generate(PROMPT, **plain, **options).text != model.generate(PROMPT, **plain).text
