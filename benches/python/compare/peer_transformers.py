"""transformers on torch, on the CPU: weights are unpacked while loading and multiplied as dense floats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import transformers

from compare.checkpoint import Checkpoint
from compare.row import Request, Row, measure

MOST_GENERATED = 16
"""A token takes a second or so: fewer are generated, and the test is named by how many."""


def rows(request: Request, engine: str) -> Iterator[Row]:
    """The two tests."""
    check_memory(request)
    torch.set_num_threads(request.threads)
    dtype = getattr(torch, request.weights)
    model = transformers.AutoModelForCausalLM.from_pretrained(request.model, dtype=dtype).eval()
    # `dtype` does not reach every buffer of a packed checkpoint.
    model = model.to(dtype)
    generated = min(request.generated, MOST_GENERATED)
    ids = torch.randint(0, model.config.vocab_size, (1, max(request.prompt, generated)))

    def prompt() -> None:
        model(ids[:, : request.prompt], logits_to_keep=1)

    def generate() -> None:
        cache = None
        for i in range(generated):
            cache = model(ids[:, i : i + 1], past_key_values=cache, use_cache=True).past_key_values

    with torch.inference_mode():
        for test, step, tokens in (
            (f"pp{request.prompt}", prompt, request.prompt),
            (f"tg{generated}", generate, generated),
        ):
            speed = measure(step, tokens, request.repetitions)
            yield Row(engine, request.weights, request.weights, test, request.threads, speed)


def check_memory(request: Request) -> None:
    """Refuse what cannot be held, where the system says what is free (Linux)."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return
    (line,) = (line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:"))
    available_bytes = int(line.split()[1]) * 1024
    needed_bytes = Checkpoint(request.model).parameters() * getattr(torch, request.weights).itemsize
    if needed_bytes > 0.9 * available_bytes:
        raise MemoryError(
            f"{needed_bytes / 1e9:.1f} GB for the unpacked weights, {available_bytes / 1e9:.1f} GB available"
        )
