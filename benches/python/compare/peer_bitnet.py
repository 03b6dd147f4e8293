"""bitnet-rust, by its own `bitnet bench`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compare.checkpoint import Checkpoint
from compare.row import Request, Row, Speed


def rows(request: Request, engine: str) -> Iterator[Row]:
    """The rows that the command prints as a JSON list."""
    stored = Checkpoint(request.model).dtype("model.embed_tokens.weight").lower()
    # Its errors go to the stderr of this process, where `child` finds the reason.
    done = subprocess.run(command(request), check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(done.returncode)
    for row in json.loads(done.stdout):
        speed = Speed(**row["tokens_per_s"])
        yield Row(engine, request.weights, head(row, stored), row["test"], row["threads"], speed, note(row))


def command(request: Request) -> list[str]:
    """The program installed beside this Python, and its arguments."""
    program = Path(sys.executable).with_name("bitnet")
    options = {
        "--threads": request.threads,
        "--n-prompt": request.prompt,
        "--n-gen": request.generated,
        "--repetitions": request.repetitions,
    }
    values = [str(value) for option in options.items() for value in option]
    return [str(program), "bench", str(request.model), "--json", *values]


def head(row: dict[str, Any], stored: str) -> str:
    """Where a token is chosen by the four-bit copy of the head, the row counts what was computed again."""
    return f"3 bits, then {stored}" if "rescored_rows_per_token" in row else stored


def note(row: dict[str, Any]) -> str:
    """What the speed of decoding depends on, and trained weights may have otherwise than random ones."""
    share = row.get("positive_gate_share")
    return "" if share is None else f"{share:.0%} of the gates are positive; decoding skips the others"
