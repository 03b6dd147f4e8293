"""bitnet-rust, by its own `bitnet bench`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from compare.checkpoint import Checkpoint
from compare.row import Request, Row, Speed


def rows(request: Request, engine: str) -> Iterator[Row]:
    """The rows of one sequence (batch 1) that the command prints as JSON."""
    command = Path(sys.executable).with_name("bitnet")
    arguments = ["bench", str(request.model), "--json", "--threads", str(request.threads)]
    # Its errors go to the stderr of this process, whose last line is the reason that is reported.
    output = subprocess.run([command, *arguments], check=False, stdout=subprocess.PIPE, text=True)
    if output.returncode != 0:
        sys.exit(output.returncode)
    head = Checkpoint(request.model).dtype("model.embed_tokens.weight").lower()
    for row in json.loads(output.stdout)["rows"]:
        if row.get("batch", 1) == 1:
            speed = Speed(**row["tokens_per_s"])
            yield Row(engine, request.weights, row.get("head", head), row["test"], row["threads"], speed)
