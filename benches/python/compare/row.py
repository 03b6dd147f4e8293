"""What one run reports: rows of tokens per second, and engines that gave none."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Speed:
    """Tokens per second over the repetitions of one test."""

    median: float
    min: float
    max: float


@dataclass(frozen=True)
class Row:
    """One engine, one form of the weights, one test, one thread count."""

    engine: str
    weights: str
    head: str
    """How the output matrix is stored while it is multiplied."""
    test: str
    """pp512: a prompt of 512 tokens in one piece; tg128: 128 tokens, one after the other."""
    threads: int
    tokens_per_s: Speed
    note: str = ""
    """What this engine computes otherwise than the checkpoint asks."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(line: str) -> Row:
        fields = json.loads(line)
        return Row(**{**fields, "tokens_per_s": Speed(**fields["tokens_per_s"])})


@dataclass(frozen=True)
class Skipped:
    """An engine without a row, and why."""

    engine: str
    weights: str
    threads: int
    reason: str


@dataclass(frozen=True)
class Comparison:
    """One run: where it ran, on what, and what came of it."""

    machine: str
    model: str
    rows: list[Row] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True)
class Request:
    """What one process is asked to measure."""

    model: Path
    weights: str
    threads: int
    prompt: int
    generated: int
    repetitions: int
    work: Path
    """A folder for converted files, kept between runs."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @staticmethod
    def from_json(text: str) -> Request:
        fields = json.loads(text)
        return Request(**{**fields, "model": Path(fields["model"]), "work": Path(fields["work"])})


def measure(step: Callable[[], None], tokens: int, repetitions: int) -> Speed:
    """Run `step`, which handles `tokens` tokens, once untimed and then `repetitions` times timed."""
    step()
    speeds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        step()
        speeds.append(tokens / (time.perf_counter() - start))
    return Speed(statistics.median(speeds), min(speeds), max(speeds))
