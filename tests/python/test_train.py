"""Training from Python: results, callbacks, interruption, resumption, refusals."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import bitnet_rust as bn
import pytest

CONFIG: dict[str, Any] = {
    "model_type": "bitnet",
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "hidden_act": "relu2",
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}
SMALL: dict[str, Any] = {"batch_tokens": 128, "seq_len": 32, "threads": 2, "lr": 1e-2}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Texts to learn, and to evaluate."""
    line = "Number {} follows {}, and comes before {}.\n"
    for name, numbers in (("train.txt", range(1, 90)), ("eval.txt", range(90, 110))):
        (tmp_path / name).write_text("".join(line.format(i, i - 1, i + 1) for i in numbers))
    return tmp_path / "train.txt", tmp_path / "eval.txt"


def test_a_model_is_trained_and_loaded(files: tuple[Path, Path], tmp_path: Path) -> None:
    data, held_out = files
    steps: list[bn.TrainStep] = []
    result = bn.train(
        CONFIG, data, eval=[held_out], output=tmp_path / "run", steps=8, callbacks=[steps.append], **SMALL
    )
    assert (result.output, result.model) == (tmp_path / "run", tmp_path / "run" / "model")
    assert (result.steps, result.rolled_back) == (8, [])
    assert [step.step for step in steps] == [step.step for step in result.history] == [*range(1, 9)]
    assert result.losses == [step.loss for step in steps]
    assert result.loss == result.losses[-1] < result.losses[0]
    assert all(step.steps == 8 and step.lr > 0 and step.grad_norm > 0 for step in steps)
    assert all(step.tokens_per_s > 0 for step in steps)
    evaluated = {step.step: step.eval_loss for step in steps if step.eval_loss is not None}
    assert result.eval_loss == evaluated[result.model_step] == min(evaluated.values())
    assert result.eval_loss < math.log(259) - 0.5
    assert result.eval_perplexity == pytest.approx(math.exp(result.eval_loss))
    lines = (result.output / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == result.losses
    model = result.load(threads=1)
    assert isinstance(model, bn.Model)
    perplexity = model.perplexity(held_out.read_text(), window=32)
    assert perplexity == pytest.approx(result.eval_perplexity, rel=0.1)
    assert repr(result).startswith("TrainResult(")
    assert repr(steps[0]).startswith("TrainStep(1 of 8, loss=")
    # And trained on, as a float master.
    tuned = bn.train(
        str(result.model),
        data,
        output=tmp_path / "tuned",
        recipe="finetune",
        optimizer="adamw-8bit",
        activation_dtype="bf16",
        accumulate=2,
        sample_every=1,
        sample_prompt="Number",
        interpolate=0.5,
        steps=2,
        **SMALL,
    )
    assert [step for step, _ in tuned.samples] == [1, 2]
    assert tuned.eval_loss is None
    assert tuned.losses[0] < result.losses[0]


def test_what_a_callback_raises_stops_the_run_which_goes_on(files: tuple[Path, Path], tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIG))
    whole = bn.train(config, files[0], output=tmp_path / "whole", steps=6, **SMALL)

    def stop(step: bn.TrainStep) -> None:
        if step.step == 3:
            raise LookupError("enough")

    run: dict[str, Any] = {"output": tmp_path / "run", "steps": 6, **SMALL}
    with pytest.raises(LookupError, match="enough"):
        bn.train(config, files[0], callbacks=[stop], **run)
    with pytest.raises(bn.CheckpointError, match="has a run already"):
        bn.train(config, files[0], **run)
    with pytest.raises(bn.CheckpointError, match="seed"):
        bn.train(config, files[0], resume=True, **(run | {"seed": 1}))
    seen: list[int] = []
    again = bn.train(config, files[0], resume=True, callbacks=[lambda step: seen.append(step.step)], **run)
    assert seen == [4, 5, 6]
    assert again.losses == whole.losses
    for name in ("model.safetensors", "config.json"):
        assert (again.model / name).read_bytes() == (whole.model / name).read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one child")
def test_ctrl_c_stops_the_run_with_a_checkpoint(files: tuple[Path, Path], tmp_path: Path) -> None:
    config, run = tmp_path / "config.json", tmp_path / "run"
    config.write_text(json.dumps(CONFIG))
    code = (
        "import sys, bitnet_rust as bn\n"
        "bn.train(sys.argv[1], sys.argv[2], output=sys.argv[3], steps=1000000, batch_tokens=128,\n"
        "         seq_len=32, callbacks=[lambda step: print(step.step, flush=True)])\n"
    )
    args: list[str | Path] = [sys.executable, "-c", code, config, files[0], run]
    with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "1\n"
        child.send_signal(signal.SIGINT)
        output, errors = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGINT
    assert errors.strip().endswith("KeyboardInterrupt")
    told = int(("1 " + output).split()[-1])
    saved = max(int(path.name[-8:]) for path in (run / "checkpoints").iterdir() if path.is_dir())
    # The step at which it stopped may have been told, or not.
    assert saved in (told, told + 1)


def test_the_gil_is_free_meanwhile(files: tuple[Path, Path], tmp_path: Path) -> None:
    counted, done = 0, threading.Event()

    def count() -> None:
        nonlocal counted
        while not done.is_set():
            counted += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    bn.train(CONFIG, files[0], output=tmp_path / "run", steps=2, **SMALL)
    done.set()
    thread.join()
    assert counted > 10


def test_refusals_are_one_clear_line(files: tuple[Path, Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    data, out = files[0], tmp_path / "run"
    calls: list[tuple[Any, type[Exception], str]] = [
        (lambda: bn.train(CONFIG, empty, output=out), bn.DataError, "is empty"),
        (lambda: bn.train(CONFIG, [], output=out), bn.DataError, "no file"),
        (lambda: bn.train(CONFIG, tmp_path / "absent", output=out), FileNotFoundError, "absent"),
        (lambda: bn.train(CONFIG, 3, output=out), TypeError, "data must be a path"),  # type: ignore[arg-type]
        (lambda: bn.train(CONFIG, data, output=out, recipe="b1.59"), bn.OptionError, r"b1\.59"),  # type: ignore[arg-type]
        (lambda: bn.train(CONFIG, data, output=out, steps=0), bn.OptionError, "steps"),
        (lambda: bn.train(CONFIG, data, output=out, steps=-1), bn.OptionError, "steps"),
        (lambda: bn.train(CONFIG, data, output=out, steps=1, epochs=1), bn.OptionError, "epochs"),
        (lambda: bn.train(CONFIG, data, output=out, sample_every=1), bn.OptionError, "sample_prompt"),
        (lambda: bn.train(CONFIG, data, output=out, accumulate=0), bn.OptionError, "accumulate"),
        (lambda: bn.train(CONFIG, data, output=out, interpolate=1.5), bn.OptionError, "interpolate"),
        (lambda: bn.train(CONFIG, data, output=out, epochs=math.nan), bn.OptionError, "epochs"),
        (lambda: bn.train(CONFIG, data, output=out, lr=-1.0), bn.OptionError, "lr"),
        (lambda: bn.train(CONFIG, data, output=out, seq_len=65), bn.OptionError, "context"),
        (lambda: bn.train(CONFIG, data, output=out, stepz=1), TypeError, "'stepz'"),  # type: ignore[call-arg]
        (lambda: bn.train(CONFIG, data, output=out, steps="1"), TypeError, "'steps'"),  # type: ignore[arg-type]
        (lambda: bn.train(CONFIG, data, output=out, callbacks=[1]), TypeError, "callable"),  # type: ignore[list-item]
        (lambda: bn.train(CONFIG, data, output=out, threads=-1), bn.OptionError, "threads"),
        (lambda: bn.train("no/such/model", data, output=out), bn.ModelNotFoundError, "no such model"),
        (lambda: bn.train(CONFIG | {"vocab_size": 9}, data, output=out), bn.ConfigError, "vocab_size"),
    ]
    for call, error, message in calls:
        with pytest.raises(error, match=message) as raised:
            call()
        assert "\n" not in str(raised.value)
    assert not (out / "model").exists()


def test_adapters_are_trained_beside_a_model(files: tuple[Path, Path], tmp_path: Path) -> None:
    data, held_out = files
    base = bn.train(CONFIG, data, output=tmp_path / "base", steps=2, **SMALL)
    assert base.base is None
    assert base.trained_parameters == base.parameters
    result = bn.train(
        base.model, data, eval=held_out, output=tmp_path / "run", steps=2, recipe="finetune", lora=2, **SMALL
    )
    assert (result.model, result.base) == (tmp_path / "run" / "adapter", str(base.model))
    assert 0 < result.trained_parameters < result.parameters
    assert result.eval_perplexity is not None
    text = held_out.read_text()
    with_adapter = result.load().perplexity(text, window=32)
    assert with_adapter == bn.load(base.model, adapter=result.model).perplexity(text, window=32)
    assert with_adapter != base.load().perplexity(text, window=32)
    with pytest.raises(bn.OptionError, match="lora must be None for a new model, not 2"):
        bn.train(CONFIG, data, output=tmp_path / "new", steps=1, lora=2, **SMALL)
    with pytest.raises(bn.OptionError, match="lora_alpha must be None without lora"):
        bn.train(CONFIG, data, output=tmp_path / "new", steps=1, lora_alpha=2, **SMALL)


def test_a_model_learns_from_a_teacher(files: tuple[Path, Path], tmp_path: Path) -> None:
    data, _ = files
    teacher = bn.train(CONFIG, data, output=tmp_path / "teacher", steps=2, **SMALL).model
    run = tmp_path / "run"
    distill: dict[str, Any] = {"recipe": "distill", "steps": 2, "temperature": 1.5, **SMALL}
    result = bn.train(teacher, data, output=run, teacher=teacher, **distill)
    first, second = result.history
    # It begins as the teacher itself.
    assert (first.logit_kl, first.relation_kl) == (0.0, 0.0)
    assert second.logit_kl is not None
    assert second.logit_kl > 0.0
    with pytest.raises(bn.OptionError, match="the teacher is missing"):
        bn.train(CONFIG, data, output=tmp_path / "none", **distill)
    with pytest.raises(bn.OptionError, match="the teacher is of no use"):
        bn.train(CONFIG, data, output=tmp_path / "none", steps=1, teacher=teacher, **SMALL)
