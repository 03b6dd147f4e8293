"""Tokens per second of a training step and peak memory, ours and PyTorch's in turns."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from compare.child import THREAD_VARIABLES
from compare.report import machine

from torch_training.shape import ROWS, SEQ_LEN

if TYPE_CHECKING:
    from argparse import Namespace
    from resource import struct_rusage

WARM_UP = 3
"""Steps that are not counted: memory is new, and the compiler at work."""
ORDINARY_TOKENS = 2000
"""Those of the tiny preset that end no document lie below."""
VARIANTS = ("eager", "compiled")


@dataclass(frozen=True)
class Speed:
    """One process."""

    tokens_per_s: float
    """Median of its steps."""
    peak_bytes: int
    """Resident, at most."""
    loss: float
    """Of the last step: to see that all train the same."""

    @staticmethod
    def of(speeds: list[float], peak_bytes: int, loss: float) -> Speed:
        return Speed(statistics.median(speeds), peak_bytes, loss)


def compare_speed(options: Namespace) -> None:
    """Print a table of all rounds, and the ratios to the better variant of PyTorch."""
    print(machine())
    speeds: dict[str, list[Speed]] = {name: [] for name in ("bitnet-rust", *VARIANTS)}
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.npy"
        tokens = options.steps * ROWS * SEQ_LEN + 1
        np.save(data, np.random.default_rng(0).integers(0, ORDINARY_TOKENS, tokens).astype(np.uint16))
        for i in range(options.rounds):
            run = Path(folder) / f"run-{i}"
            peaks.append(fma_peak_gflop_s(options))
            speeds["bitnet-rust"].append(of_bitnet(options, data, run))
            for variant in VARIANTS:
                speeds[variant].append(of_torch(options, variant, run))
        flop = flop_per_token(run)
    report(speeds, statistics.median(peaks), flop)


def report(speeds: dict[str, list[Speed]], peak_gflop_s: float, flop_per_token: float) -> None:
    print(f"{peak_gflop_s:.0f} GFLOP/s of float32 FMA; {flop_per_token / 1e6:.1f} MFLOP per token")
    print(f"{'':12} {'tokens/s':>9} {'min':>7} {'max':>7} {'MFU':>6} {'peak MB':>8} {'loss':>8}")
    for name, runs in speeds.items():
        rates = [run.tokens_per_s for run in runs]
        median, memory = statistics.median(rates), max(run.peak_bytes for run in runs)
        share = median * flop_per_token / (peak_gflop_s * 1e9)
        print(
            f"{name:12} {median:9.0f} {min(rates):7.0f} {max(rates):7.0f} {share:6.1%}"
            f" {memory / 1e6:8.0f} {runs[-1].loss:8.4f}"
        )
    best = max(VARIANTS, key=lambda name: statistics.median(run.tokens_per_s for run in speeds[name]))
    pairs = list(zip(speeds["bitnet-rust"], speeds[best], strict=True))
    faster = statistics.median(ours.tokens_per_s / theirs.tokens_per_s for ours, theirs in pairs)
    smaller = statistics.median(ours.peak_bytes / theirs.peak_bytes for ours, theirs in pairs)
    print(f"{faster:.2f} times the speed of PyTorch, {best}, in {smaller:.2f} times its memory")


def of_bitnet(options: Namespace, data: Path, run: Path) -> Speed:
    """`bitnet train` as users run it; the run stays, for PyTorch to begin with the same weights."""
    command = [options.bitnet, "train", "--data", str(data), "--preset", "tiny", "-o", str(run)]
    numbers = {
        "--steps": options.steps,
        "--save-every": options.steps,
        "--batch-tokens": ROWS * SEQ_LEN,
        "--seq-len": SEQ_LEN,
        "--threads": options.threads,
    }
    command += [str(value) for option in numbers.items() for value in option]
    with subprocess.Popen([*command, "--json"], stdout=subprocess.DEVNULL) as process:
        # The figures of this process alone, not of all children.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{options.bitnet} ended with status {process.returncode}")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    speeds = [line["tokens_per_s"] for line in lines[WARM_UP:]]
    return Speed.of(speeds, peak_bytes(usage), lines[-1]["loss"])


def of_torch(options: Namespace, variant: str, run: Path) -> Speed:
    arguments = [str(run), variant, str(options.steps), str(options.threads)]
    done = subprocess.run(
        [sys.executable, "-m", "torch_training.child", *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(options.threads))},
    )
    return Speed(**json.loads(done.stdout.splitlines()[-1]))


def fma_peak_gflop_s(options: Namespace) -> float:
    command = [options.fma_peak, str(options.threads)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def flop_per_token(run: Path) -> float:
    """6 for each weight that a token is multiplied by; attention is not counted, as is usual."""
    config = json.loads((run / "model" / "config.json").read_text(encoding="utf-8"))
    hidden, head_dim = config["hidden_size"], config["hidden_size"] // config["num_attention_heads"]
    attention = 2 * hidden * head_dim * (config["num_attention_heads"] + config["num_key_value_heads"])
    block = attention + 3 * hidden * config["intermediate_size"]
    return float(6 * (config["num_hidden_layers"] * block + config["vocab_size"] * hidden))


def peak_bytes(usage: struct_rusage) -> int:
    """`ru_maxrss` is in KiB, on macOS in bytes."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
