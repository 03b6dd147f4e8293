"""`bitnet quantize --json` against NumPy: what linears multiply, their errors, what the model predicts."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import bitnet_rust as bn
import numpy as np
import pytest
from bitnet_rust import quant
from checkpoints import LLAMA_ONLINE, ONE_BIT_LLM, ONLINE, Array, Spec, build
from checkpoints import load as load_checkpoint
from reference import Config, Decoder, absmax_quantize, absmean_quantize

TEXT = (
    "In the town the people were already at work, and the children were on their way to school. One of them, "
    "a small boy with a red hat, stopped and asked the old man what he was doing. " * 3
)
FLOATS = {"modules_to_not_convert": [""]}
"""Names every module: all linears are plain ones."""
SAMPLE = 64

SIZES: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 192, "vocab_size": 2048}
MASTERS = {
    "bitnet": replace(ONLINE, **SIZES),
    "llama": replace(LLAMA_ONLINE, **SIZES, attention_bias=True, mlp_bias=True),
    "1bitllm": replace(ONE_BIT_LLM, **SIZES),
    # Nothing says that it is to be ternary.
    "plain": replace(LLAMA_ONLINE, **SIZES, has_section=False),
    "plain-tied-f32": replace(LLAMA_ONLINE, **SIZES, has_section=False, tied=True, dtype="F32"),
}


class FloatDecoder(Decoder):
    """The float model, which keeps what each linear multiplies."""

    def __init__(self, config: Config, tensors: dict[str, Array]) -> None:
        super().__init__({**config, "quantization_config": FLOATS}, tensors)
        self.inputs: dict[str, Array] = {}

    def linear(self, x: Array, name: str, rows: int) -> Array:
        self.inputs[name] = x
        return super().linear(x, name, rows)


@pytest.mark.parametrize("spec", [pytest.param(spec, id=name) for name, spec in MASTERS.items()])
def test_a_master_is_measured_as_numpy_does(tmp_path: Path, tiny: Path, spec: Spec) -> None:
    config, tensors = build(tmp_path / "master", spec, tokenizer=tiny)
    check(tmp_path / "master", config, tensors, tiny)


def test_a_trained_master_is_measured_as_numpy_does(shared: Path) -> None:
    master = shared / "models/bitnet-tiny-bf16"
    check(master, *load_checkpoint(master), master)


def test_python_has_the_figures_of_the_command(tmp_path: Path, tiny: Path) -> None:
    build(tmp_path / "master", MASTERS["bitnet"], tokenizer=tiny)
    expected = quantize(tmp_path / "master")
    precisions: list[Any] = ["absmean", "int2", "int4", "int8"]
    report = quant.report(tmp_path / "master", text=TEXT, precisions=precisions, threads=1)
    for name in ("model", "quantized", "reference", "tokens", "sampled_tokens", "recommended_bits"):
        assert getattr(report, name) == expected[name]
    for name, figure in expected["end_to_end"].items():
        assert getattr(report, name) == figure
    for ours, theirs in zip(report.layers, expected["layers"], strict=True):
        found = expected["inputs"][theirs["input"]]
        assert (ours.name, list(ours.shape)) == (theirs["name"], [theirs["rows"], theirs["cols"]])
        assert (ours.recommended, ours.quantized) == (theirs["recommended"], None)
        assert (ours.input.count, ours.input.std) == (found["count"], found["std"])
        assert ours.input_int8.sqnr_db == found["int8"]["sqnr_db"]
        assert {name: error.sqnr_db for name, error in ours.errors.items()} == {
            name: error["sqnr_db"] for name, error in theirs["errors"].items()
        }
    report.save(tmp_path / "out.html")
    assert report.layers[0].name.removeprefix("model.") in (tmp_path / "out.html").read_text()
    with pytest.raises(bn.FileError, match="is there already"):
        report.save(tmp_path / "out.html")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda tiny, master: quant.report(tiny), bn.CheckpointError, "its weights are packed"),
        (lambda tiny, master: quant.report(tiny, "/no/such"), bn.ModelNotFoundError, "no such model"),
        (lambda tiny, master: quant.report(master, text=""), bn.PromptError, "the text has"),
        (lambda tiny, master: quant.report(master, tokens=0), bn.OptionError, "tokens"),
        (lambda tiny, master: quant.report(master, precisions=["int5"]), bn.OptionError, "int5"),  # type: ignore[list-item]
        (lambda tiny, master: quant.report(master).save("a.pdf"), bn.OptionError, r"\.html or \.png"),
        (lambda tiny, master: quant.report(tiny, master), bn.CheckpointError, "another shape"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    tmp_path: Path, tiny: Path, call: Any, error: type[Exception], message: str
) -> None:
    build(tmp_path / "master", MASTERS["llama"], tokenizer=tiny)
    with pytest.raises(error, match=message):
        call(tiny, tmp_path / "master")


def check(master: Path, config: Config, tensors: dict[str, Array], tokenizer: Path) -> None:
    report = quantize(master)
    ids = bn.load(tokenizer).tokenizer.encode(TEXT)
    inputs, targets = ids[:-1], np.array(ids[1:])
    assert report["tokens"] == len(inputs)
    floats = FloatDecoder(config, tensors)
    float_logits = floats.logits(inputs)
    layers = {layer["name"]: layer for layer in report["layers"]}
    assert set(layers) == {name for name in floats.inputs if name != "lm_head"}
    sample = sampled(len(inputs))
    for name, layer in layers.items():
        x = floats.inputs[name]
        check_input(report["inputs"][layer["input"]], name, x, x[sample])
        weight = tensors[f"{name}.weight"].astype(np.float64)
        assert (layer["rows"], layer["cols"]) == weight.shape
        for precision, error in layer["errors"].items():
            check_error(error, x[sample] @ weight.T, x[sample] @ quantized(weight, precision).T)
    online = {"quantization_config": {"quant_method": "bitnet", "quantization_mode": "online"}}
    quantized_logits = Decoder({**config, **online}, tensors).logits(inputs)
    check_end_to_end(report["end_to_end"], float_logits, quantized_logits, targets)


def check_error(error: dict[str, float], expected: Array, got: Array) -> None:
    """The float32 of the engine moves a signal to noise by less than this; a mistake by more."""
    noise, signal = np.square(expected - got).sum(), np.square(expected).sum()
    assert error["sqnr_db"] == pytest.approx(10 * math.log10(signal / noise), abs=2e-3)
    assert error["mse"] == pytest.approx(noise / expected.size, rel=1e-3)
    cosine = (expected * got).sum() / np.sqrt(signal * np.square(got).sum())
    assert error["cosine"] == pytest.approx(cosine, abs=1e-4)
    assert error["max_abs"] == pytest.approx(np.abs(expected - got).max(), rel=1e-3)


def check_input(found: dict[str, Any], name: str, x: Array, sample: Array) -> None:
    assert name in found["linears"]
    assert found["count"] == x.size
    assert found["mean"] == pytest.approx(x.mean(), abs=1e-5 * x.std())
    assert found["std"] == pytest.approx(x.std(), rel=1e-5)
    assert found["absmean"] == pytest.approx(np.abs(x).mean(), rel=1e-5)
    assert (found["min"], found["max"]) == pytest.approx((x.min(), x.max()), rel=1e-4)
    assert sum(count for _, _, count in found["histogram"]) == x.size
    codes, scale = absmax_quantize(sample)
    noise = np.square(sample - codes / scale).sum()
    assert found["int8"]["sqnr_db"] == pytest.approx(
        10 * math.log10(np.square(sample).sum() / noise), abs=0.02
    )


def check_end_to_end(found: dict[str, float], p: Array, q: Array, targets: Array) -> None:
    """Int8 activations close to a tie round differently in float32: that moves the quantized model by 1 %."""
    p, q = log_softmax(p), log_softmax(q)
    rows = np.arange(len(targets))
    assert found["reference_perplexity"] == pytest.approx(np.exp(-p[rows, targets].mean()), rel=1e-4)
    assert found["quantized_perplexity"] == pytest.approx(np.exp(-q[rows, targets].mean()), rel=1e-2)
    kl = (np.exp(p) * (p - q)).sum(axis=-1)
    assert found["kl_mean"] == pytest.approx(kl.mean(), rel=1e-2)
    assert found["kl_max"] == pytest.approx(kl.max(), rel=5e-2)
    same = (p.argmax(axis=-1) == q.argmax(axis=-1)).mean()
    assert found["top1_agreement"] == pytest.approx(same, abs=2 / len(targets))


def quantized(weight: Array, precision: str) -> Array:
    """What is stored, as floats again: a scale per matrix for ternary weights, per row for whole numbers."""
    if precision == "absmean":
        codes, scale = absmean_quantize(weight)
        ternary: Array = codes / scale
        return ternary
    # Of weights in bfloat16 many are ties, which only float32 rounds as float32 does.
    most = np.float32(2 ** (int(precision.removeprefix("int")) - 1) - 1)
    weight = weight.astype(np.float32)
    step = np.abs(weight).max(axis=1, keepdims=True) / most
    whole: Array = np.clip(np.rint(weight * (np.float32(1) / step)), -most, most) * step
    return whole.astype(np.float64)


def sampled(tokens: int) -> list[int]:
    """The last token of each of so many parts, as long as each other."""
    parts = min(SAMPLE, tokens)
    return [t for t in range(tokens) if (t + 1) * parts // tokens > t * parts // tokens]


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    y: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return y


def quantize(model: Path) -> dict[str, Any]:
    """`bitnet quantize --json`, which must succeed."""
    command = ["-c", "from bitnet_rust._cli import main; main()", "quantize", str(model)]
    options = ["--json", "--text", "-", "--precisions", "absmean,int2,int4,int8"]
    done = subprocess.run(
        [sys.executable, *command, *options], input=TEXT.encode(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    report: dict[str, Any] = json.loads(done.stdout)
    return report
