"""Both trained on a text: from the same weights, with the same batches in the same order."""

from __future__ import annotations

import json
import subprocess
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch

from torch_training.recipe import Recipe
from torch_training.shape import ROWS, SEQ_LEN
from torch_training.training import train

TRAIN_SHARE = 0.9
"""Of the text; the rest is held out."""


def compare_curves(options: Namespace) -> None:
    """Leave `bitnet` and `pytorch`, runs with a `metrics.jsonl` each, in the folder of the comparison."""
    ours, theirs = options.work / "bitnet", options.work / "pytorch"
    theirs.mkdir(parents=True, exist_ok=True)
    names = split(options.text, options.work)
    # A run of one step keeps the weights that every run of this seed begins with.
    first = options.work / "first"
    run_bitnet(options, names, first, 1)
    run_bitnet(options, names, ours, options.steps)
    torch.set_num_threads(options.threads)
    every = -(-options.steps // 10)
    train(first, Recipe(options.steps), options.seed, every, theirs / "metrics.jsonl")
    report(ours, theirs)


def split(text: Path, folder: Path) -> list[str]:
    """The options that name both parts of a text."""
    characters = text.read_text(encoding="utf-8")
    middle = int(len(characters) * TRAIN_SHARE)
    (folder / "train.txt").write_text(characters[:middle], encoding="utf-8")
    (folder / "eval.txt").write_text(characters[middle:], encoding="utf-8")
    return ["--data", str(folder / "train.txt"), "--eval", str(folder / "eval.txt")]


def run_bitnet(options: Namespace, names: list[str], run: Path, steps: int) -> None:
    """`bitnet train`, which goes on where it was stopped."""
    numbers = {
        "--steps": steps,
        "--batch-tokens": ROWS * SEQ_LEN,
        "--seq-len": SEQ_LEN,
        "--seed": options.seed,
        "--threads": options.threads,
    }
    values = [str(value) for option in numbers.items() for value in option]
    command = [options.bitnet, "train", *names, "--preset", "tiny", "-o", str(run), "--resume", *values]
    subprocess.run(command, check=True)


def report(ours: Path, theirs: Path) -> None:
    losses = [[line for line in read(run) if "eval_loss" in line] for run in (ours, theirs)]
    print(f"{'step':>6} {'bitnet-rust':>12} {'PyTorch':>9}   held-out loss, nats per token")
    for a, b in zip(*losses, strict=True):
        print(f"{a['step']:6} {a['eval_loss']:12.4f} {b['eval_loss']:9.4f}   {ratio(a, b):+.2%}")
    best = [min(lines, key=lambda line: float(line["eval_loss"])) for lines in losses]
    print(f"  best {best[0]['eval_loss']:12.4f} {best[1]['eval_loss']:9.4f}   {ratio(*best):+.2%}")


def ratio(a: dict[str, Any], b: dict[str, Any]) -> float:
    return float(a["eval_loss"] / b["eval_loss"] - 1)


def read(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
