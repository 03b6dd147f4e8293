"""What engines and their texts do in asyncio. Nothing here blocks the event loop."""

import asyncio
from collections.abc import Iterable

from bitnet_rust._native import Chunk, Engine, Generation, GenerationFuture


async def next_chunk(text: GenerationFuture) -> Chunk:
    """Return the next chunk. Raises StopAsyncIteration behind the last one, and what the request raised."""
    while (chunk := text._take()) is None:
        await _change(text, at_end=False)
    return chunk


async def result(text: GenerationFuture) -> Generation:
    """Return the whole text. Raises what the request raised."""
    while not text.done():
        await _change(text, at_end=True)
    return text.result()


async def _change(text: GenerationFuture, *, at_end: bool) -> None:
    """Wait for the end, or for the next chunk."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    if text._wake(loop, future, at_end):
        await future


def wake(futures: Iterable[asyncio.Future[None]]) -> None:
    """Let those go on who wait; some may have given up."""
    for future in futures:
        if not future.done():
            future.set_result(None)


async def enter(engine: Engine) -> Engine:
    """Begin an async with block."""
    return engine


async def close(engine: Engine, cancel: bool) -> None:
    """End it."""
    await asyncio.to_thread(engine.close, cancel=cancel)
