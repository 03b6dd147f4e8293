"""mlx-lm with MLX on the CPU. Its product with packed ternary weights is a Metal kernel."""

from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model

from compare.row import Request, Row, measure


def rows(request: Request, engine: str) -> Iterator[Row]:
    """The two tests. MLX has no setting for its threads: `child` gives the process that many CPUs."""
    mx.set_default_device(mx.cpu)
    model, config = load_model(request.model)
    ids = mx.random.randint(0, config["vocab_size"], (1, max(request.prompt, request.generated)))

    def prompt() -> None:
        """As mlx-lm does: the logits of the last token alone."""
        cache = make_prompt_cache(model)
        model(ids[:, : request.prompt - 1], cache=cache)
        mx.eval([layer.state for layer in cache])
        mx.eval(model(ids[:, request.prompt - 1 : request.prompt], cache=cache))

    def generate() -> None:
        cache = make_prompt_cache(model)
        for i in range(request.generated):
            mx.eval(model(ids[:, i : i + 1], cache=cache))

    for test, step, tokens in (
        (f"pp{request.prompt}", prompt, request.prompt),
        (f"tg{request.generated}", generate, request.generated),
    ):
        speed = measure(step, tokens, request.repetitions)
        yield Row(engine, request.weights, "as stored", test, request.threads, speed)
