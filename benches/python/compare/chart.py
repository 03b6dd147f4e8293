"""A comparison as bars: one panel for prompts, one for generation; a bar for each thread count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from compare.report import figure
from compare.row import Comparison, Row

COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#9d755d")
PANELS = {"pp": "Prompt", "tg": "Generation"}


def write_chart(comparison: Comparison, path: Path) -> None:
    """An image in the format that the path's suffix names."""
    threads = sorted({row.threads for row in comparison.rows})
    colours = dict(zip(threads, COLOURS, strict=False))
    if len(colours) < len(threads):
        raise ValueError(f"a chart shows at most {len(COLOURS)} thread counts, not {len(threads)}")
    panels = [[row for row in comparison.rows if row.test.startswith(kind)] for kind in PANELS]
    bars = max(len(panel) for panel in panels)
    drawing = Figure(figsize=(11, 1.6 + 0.36 * bars), layout="constrained")
    for axes, panel, title in zip(drawing.subplots(1, 2), panels, PANELS.values(), strict=True):
        draw(axes, panel, colours)
        axes.set_title(f"{title}, tokens per second", loc="left", fontsize=11)
    handles, labels = drawing.axes[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside upper right", ncols=len(threads), frameon=False)
    drawing.supxlabel(f"{comparison.machine}\n{comparison.model}", fontsize=8, color="#555555")
    drawing.savefig(path)


def draw(axes: Any, rows: Sequence[Row], colours: dict[int, str]) -> None:
    """The bars of one panel, the fastest engine on top; whiskers span the slowest and the fastest run."""
    best: dict[str, float] = {}
    for row in rows:
        best[label(row)] = max(best.get(label(row), 0.0), row.tokens_per_s.median)
    order = sorted(best, key=lambda name: -best[name])
    height = 0.8 / len(colours)
    for slot, (threads, colour) in enumerate(colours.items()):
        chosen = [row for row in rows if row.threads == threads]
        places = [order.index(label(row)) + (slot - (len(colours) - 1) / 2) * height for row in chosen]
        speeds = [row.tokens_per_s for row in chosen]
        whiskers = [[s.median - s.min for s in speeds], [s.max - s.median for s in speeds]]
        medians = [s.median for s in speeds]
        name = f"{threads} thread{'s' if threads > 1 else ''}"
        style = {"color": colour, "ecolor": "#333333", "capsize": 2, "label": name}
        drawn = axes.barh(places, medians, height, xerr=whiskers, **style)
        axes.bar_label(drawn, [figure(median) for median in medians], padding=4, fontsize=8)
    axes.set_yticks(range(len(order)), order, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)


def label(row: Row) -> str:
    """What a bar is named by."""
    return f"{row.engine}\n{row.weights}, head {row.head}, {row.test}"
