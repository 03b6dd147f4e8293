"""A comparison as text, Markdown and JSON."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from compare.row import Comparison, Row

COLUMNS: tuple[str, ...] = ("engine", "weights", "head", "test", "threads", "tokens/s", "min to max")


def to_table(comparison: Comparison) -> str:
    """Aligned columns for a terminal."""
    lines = [COLUMNS, *(cells(row) for row in in_order(comparison.rows))]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join(line.rstrip() for line in [*facts(comparison), "", *table, "", *remarks(comparison)])


def to_markdown(comparison: Comparison) -> str:
    """The same as a Markdown section."""
    lines: list[tuple[str, ...]] = [COLUMNS, ("---", "---", "---", "---", "--:", "--:", "--:")]
    lines += [cells(row) for row in in_order(comparison.rows)]
    table = [f"| {' | '.join(line)} |" for line in lines]
    parts = [*facts(comparison), *(f"- {remark}" for remark in remarks(comparison))]
    return "\n".join([parts[0] + ".", parts[1] + ".", "", *table, "", *parts[2:]]).rstrip() + "\n"


def to_json(comparison: Comparison) -> str:
    """Every number as it was measured."""
    return json.dumps(asdict(comparison), indent=2) + "\n"


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Prompts first, then by threads; within that the fastest first."""
    return sorted(
        rows, key=lambda row: (not row.test.startswith("pp"), row.threads, -row.tokens_per_s.median)
    )


def cells(row: Row) -> tuple[str, ...]:
    speed = row.tokens_per_s
    spread = f"{figure(speed.min)} to {figure(speed.max)}"
    return (row.engine, row.weights, row.head, row.test, str(row.threads), figure(speed.median), spread)


def figure(value: float) -> str:
    """Three significant digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def facts(comparison: Comparison) -> list[str]:
    return [f"Model: {comparison.model}", f"Machine: {comparison.machine}"]


def remarks(comparison: Comparison) -> list[str]:
    """What differs between the engines, and which did not run."""
    notes = dict.fromkeys(f"{row.engine}: {row.note}" for row in comparison.rows if row.note)
    skipped = dict.fromkeys(f"{s.engine}, {s.weights}: {s.reason}" for s in comparison.skipped)
    return [*notes, *skipped]


def machine() -> str:
    """The CPU, how many of them, the system, and how busy others keep it (not on Windows)."""
    text = f"{cpu_name()}, {os.cpu_count()} CPUs, {platform.system()} {platform.machine()}"
    if sys.platform == "win32":
        return text
    return f"{text}, load average {os.getloadavg()[0]:.2f} before the run"


def cpu_name() -> str:
    """Linux names it in /proc/cpuinfo, others in `platform`."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "an unnamed CPU"
