"""Engine: the texts of the model, streamed, awaited, cancelled, turned away; and how it ends."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import bitnet_rust as bn
import pytest

PROMPT = "My fellow citizens, today we"
PROMPTS = [PROMPT, "In the beginning", "naïve 日本語 🙂", "It is time", PROMPT + " have"]
PAGE = (Path(__file__).parents[2] / "docs" / "engine.md").read_text(encoding="utf-8")
#: More than any test waits for.
LONG = 2000
#: For calls that a type checker refuses.
ENGINE: Any = bn.Engine


@pytest.fixture(scope="module")
def model() -> bn.Model:
    """The embedded model, with keys and values as the engine keeps them."""
    return bn.load(kv_cache="f16")


@pytest.fixture(scope="module")
def engine(model: bn.Model) -> Iterator[bn.Engine]:
    """An engine that all tests share which do not end it."""
    with bn.Engine(model, kv_memory="64MiB") as engine:
        yield engine


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never was")


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 1.0, "seed": 3, "top_k": 40}, {"stop": ["people", "the"]}]
)
def test_texts_are_those_of_the_model(model: bn.Model, engine: bn.Engine, options: Any) -> None:
    expected = [model.generate(prompt, max_tokens=40, **options) for prompt in PROMPTS]
    texts = engine.generate(PROMPTS, max_tokens=40, **options)
    assert [text.token_ids for text in texts] == [text.token_ids for text in expected]
    assert [text.text for text in texts] == [text.text for text in expected]
    assert [text.finish_reason for text in texts] == [text.finish_reason for text in expected]


def test_ids_are_a_prompt_and_results_stay(model: bn.Model, engine: bn.Engine) -> None:
    ids = model.tokenizer.encode(PROMPT)
    text = engine.submit(ids, max_tokens=5)
    assert text.result(timeout=60).token_ids == model.generate(ids, max_tokens=5).token_ids
    assert text.result() is text.result()
    assert text.exception() is None
    assert (text.done(), text.running(), text.cancelled(), text.cancel()) == (True, False, False, False)
    assert repr(text) == "GenerationFuture(done)"
    assert engine.generate([]) == []


def test_chunks_come_once_and_concatenate(engine: bn.Engine) -> None:
    text = engine.submit("naïve 日本語 🙂", temperature=1.4, seed=2, max_tokens=60)
    first = next(text)
    chunks = [first, *text]
    assert "".join(chunk.text for chunk in chunks) == text.result().text
    assert [chunk.token_id for chunk in chunks if chunk.token_id is not None] == text.result().token_ids
    assert list(text) == []


def test_samples_of_a_prompt_share_it_and_differ(model: bn.Model) -> None:
    ids = model.tokenizer.encode(PROMPT * 12)
    options: Any = {"max_tokens": 12, "temperature": 1.0}
    with bn.Engine(model, kv_memory="64MiB") as engine:
        texts = [text.result().token_ids for text in engine.submit(ids, n=4, seed=2**64 - 2, **options)]
        stats = engine.stats()
    seeds = [2**64 - 2, 2**64 - 1, 0, 1]
    assert texts == [model.generate(ids, seed=seed, **options).token_ids for seed in seeds]
    assert len({*map(tuple, texts)}) == 4
    # The first reads all of the prompt; each of the others computes its last token, for the output.
    phases = (stats.prefill, stats.decode, stats.mixed)
    assert sum(phase.prefill_tokens for phase in phases) == len(ids) > 64
    assert stats.prefix_cache.reused_tokens == 3 * (len(ids) - 1)


def test_one_sample_is_a_list_of_the_same_text(engine: bn.Engine) -> None:
    options: Any = {"max_tokens": 8, "temperature": 1.0, "seed": 3}
    expected = engine.submit(PROMPT, **options).result().token_ids
    (text,) = engine.submit(PROMPT, n=1, **options)
    assert text.result().token_ids == expected
    ((one,),) = engine.generate([PROMPT], n=1, **options)
    assert one.token_ids == expected


def test_samples_of_many_prompts_are_lists_in_their_order(model: bn.Model) -> None:
    prompts: list[Any] = [PROMPT, "", 7, "It is time"]
    options: Any = {"max_tokens": 8, "temperature": 1.0, "seed": 3}
    with bn.Engine(model, max_batch=2, queue=2, kv_memory="64MiB") as engine:
        lists = engine.generate(prompts, n=3, return_exceptions=True, **options)
        assert engine.generate([], n=3) == []
        with pytest.raises(bn.PromptError, match="empty"):
            engine.generate(prompts, n=3, **options)
    kinds = [bn.Generation, bn.PromptError, TypeError, bn.Generation]
    assert [[type(text) for text in texts] for texts in lists] == [[kind] * 3 for kind in kinds]
    for prompt, texts in zip(prompts, lists, strict=True):
        for seed, text in enumerate(texts, start=3):
            if isinstance(text, bn.Generation):
                alone = model.generate(prompt, max_tokens=8, temperature=1.0, seed=seed)
                assert (text.seed, text.token_ids) == (seed, alone.token_ids)


def test_seeds_of_samples_are_drawn_where_there_is_none(engine: bn.Engine) -> None:
    async def run() -> list[bn.Generation]:
        return await asyncio.gather(*engine.submit(PROMPT, n=3, temperature=1.5, max_tokens=20))

    texts = asyncio.run(run())
    assert len({text.seed for text in texts}) == len({text.text for text in texts}) == 3


def test_samples_that_the_queue_does_not_hold_are_none(model: bn.Model) -> None:
    with bn.Engine(model, max_batch=1, queue=2, kv_memory="64MiB") as engine:
        with pytest.raises(bn.QueueFullError):
            engine.submit(PROMPT, n=50, max_tokens=LONG)
        eventually(lambda: engine.stats().requests.active == 0)
        assert engine.stats().requests.finished["cancelled"] == engine.stats().requests.submitted


@pytest.mark.parametrize("options", [{}, {"temperature": 0.8, "seed": 5, "repetition_penalty": 1.1}])
def test_guesses_change_no_text(model: bn.Model, options: Any) -> None:
    prompts = [model.tokenizer.encode(prompt) * 3 for prompt in PROMPTS]
    sources: list[Any] = [{"speculate": "lookup"}, {"draft": model}]
    for source in sources:
        with bn.Engine(model, kv_memory="64MiB") as engine:
            expected = engine.generate(prompts, max_tokens=30, **options)
            assert engine.stats().speculation.proposed == 0
            texts = engine.generate(prompts, max_tokens=30, guesses=4, **source, **options)
            speculation = engine.stats().speculation
            chosen = engine.generate(prompts, max_tokens=30, **source, **options)
        assert [text.token_ids for text in texts] == [text.token_ids for text in expected]
        assert [text.token_ids for text in chosen] == [text.token_ids for text in expected]
        assert speculation.proposed == sum(text.guesses_proposed for text in texts) > 0
        assert speculation.accepted == sum(text.guesses_accepted for text in texts)
        # The model knows what it says itself; a text that is drawn need not repeat itself.
        assert speculation.accepted > 0 or "speculate" in source


def test_tasks_share_a_loop(model: bn.Model, engine: bn.Engine) -> None:
    async def streamed(prompt: str) -> str:
        return "".join([chunk.text async for chunk in engine.submit(prompt, max_tokens=30)])

    async def run() -> tuple[list[str], list[bn.Generation], bn.Generation]:
        texts = await asyncio.gather(*map(streamed, PROMPTS))
        awaited = await asyncio.gather(*[engine.submit(prompt, max_tokens=30) for prompt in PROMPTS])
        return texts, awaited, await engine.submit(PROMPT, max_tokens=30)

    texts, awaited, one = asyncio.run(run())
    expected = [model.generate(prompt, max_tokens=30).text for prompt in PROMPTS]
    assert texts == [text.text for text in awaited] == expected
    assert one.text == expected[0]


def test_a_task_that_gives_up_loses_no_chunk(engine: bn.Engine) -> None:
    async def run() -> str:
        text, chunks = engine.submit(PROMPT, max_tokens=60), []
        while True:
            try:
                chunks.append(await asyncio.wait_for(anext(text), 0.0005))
            except asyncio.TimeoutError:
                continue
            except StopAsyncIteration:
                return "".join(chunk.text for chunk in chunks)

    assert asyncio.run(run()) == engine.submit(PROMPT, max_tokens=60).result().text


def test_an_async_block_waits_without_blocking(model: bn.Model) -> None:
    async def run() -> tuple[int, bool]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        async with bn.Engine(model, kv_memory="64MiB") as engine:
            text = engine.submit(PROMPT, max_tokens=200)
        ticking.cancel()
        return ticks, text.done()

    ticks, done = asyncio.run(run())
    assert done
    assert ticks > 5


def test_a_cancelled_text_is_as_long_as_it_got(model: bn.Model, engine: bn.Engine) -> None:
    text = engine.submit(PROMPT, max_tokens=LONG)
    first = next(text)
    assert text.running()
    assert text.cancel()
    result = text.result(timeout=60)
    assert result.finish_reason == "cancelled"
    assert text.cancelled()
    assert first.text + "".join(chunk.text for chunk in text) == result.text
    assert model.generate(PROMPT, max_tokens=len(result.token_ids)).token_ids == result.token_ids


def test_a_text_nobody_reads_is_ended(engine: bn.Engine) -> None:
    before = engine.stats().requests.finished["cancelled"]
    engine.submit(PROMPT, max_tokens=LONG)
    gc.collect()
    eventually(lambda: engine.stats().requests.finished["cancelled"] == before + 1)


def test_a_deadline_ends_a_text(engine: bn.Engine) -> None:
    assert engine.submit(PROMPT, deadline=0).result(timeout=60).finish_reason == "deadline"
    some = engine.submit(PROMPT, deadline=0.05, max_tokens=LONG).result(timeout=60)
    assert some.finish_reason == "deadline"
    assert engine.submit(PROMPT, deadline=1e30, max_tokens=2).result(timeout=60).finish_reason == "length"


def test_a_wait_may_time_out(engine: bn.Engine) -> None:
    text = engine.submit(PROMPT, max_tokens=LONG)
    for wait in (text.result, text.exception):
        with pytest.raises(TimeoutError):
            wait(0)
        with pytest.raises(TimeoutError):
            wait(timeout=0.01)
    assert not text.done()


def test_priorities_go_first(model: bn.Model) -> None:
    order: list[str] = []
    with bn.Engine(model, max_batch=1, kv_memory="64MiB") as engine:
        running = engine.submit(PROMPT, max_tokens=100)
        next(running)
        for name, priority in [("low", -1), ("first", 0), ("second", 0), ("high", 5)]:
            text = engine.submit(PROMPT, priority=priority, max_tokens=2)
            text.add_done_callback(partial(lambda name, _: order.append(name), name))
    assert order == ["high", "first", "second", "low"]


def test_a_full_queue_turns_away_and_generate_waits(model: bn.Model) -> None:
    with bn.Engine(model, max_batch=1, queue=1, kv_memory="64MiB") as engine:
        running = engine.submit(PROMPT, max_tokens=LONG)
        # It counts as waiting until the end of its first step.
        assert [next(running) for _ in range(2)]
        waiting = engine.submit(PROMPT, max_tokens=1)
        with pytest.raises(bn.QueueFullError, match="1 requests are waiting"):
            engine.submit(PROMPT)
        running.cancel()
        assert waiting.result(timeout=60).completion_tokens == 1
        texts = engine.generate([PROMPT] * 5, max_tokens=3)
        assert [text.completion_tokens for text in texts] == [3] * 5
        assert engine.stats().requests.rejected == 1


def test_one_request_fails_and_the_engine_lives_on(engine: bn.Engine) -> None:
    prompts: list[Any] = [PROMPT, "", [10**6], [5] * 5000, 7, PROMPT]
    results = engine.generate(prompts, max_tokens=3, return_exceptions=True)
    kinds = [bn.Generation, bn.PromptError, bn.PromptError, bn.ContextLengthError, TypeError, bn.Generation]
    assert [type(result) for result in results] == kinds
    with pytest.raises(bn.PromptError, match="empty"):
        engine.generate(["", PROMPT])
    with pytest.raises(bn.PromptError, match="empty"):
        engine.submit("")
    assert len(engine.generate([PROMPT], max_tokens=3)) == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda e: e.submit("a", deadline=-1), bn.OptionError, "deadline"),
        (lambda e: e.submit("a", deadline=float("nan")), bn.OptionError, "deadline"),
        (lambda e: e.submit("a", priority=2**40), bn.OptionError, "priority"),
        (lambda e: e.submit("a", max_tokens=0), bn.OptionError, "max_tokens"),
        (lambda e: e.submit("a", n=0), bn.OptionError, "n must be at least 1, not 0"),
        (lambda e: e.generate(["a"], n=-2, return_exceptions=True), bn.OptionError, "n must be at least 1"),
        (lambda e: e.submit("a", n="two"), TypeError, "'n'"),
        (lambda e: e.submit("a", speculate="ngram"), bn.OptionError, "speculate must be lookup, not ngram"),
        (lambda e: e.submit("a", guesses=2), bn.OptionError, "guesses must be used with speculate or draft"),
        (lambda e: e.submit("a", guesses=0, speculate="lookup"), bn.OptionError, "at least 1, not 0"),
        (lambda e: e.submit("a", draft="a/model"), TypeError, "'draft': must be a Model or None"),
        (lambda e: e.submit("a", draft=bn.load(), speculate="lookup"), bn.OptionError, "draft must be None"),
        (lambda e: e.submit("a", temperature="hot"), TypeError, "temperature"),
        (lambda e: e.submit("a", warmth=1), TypeError, "warmth"),
        (lambda e: e.submit(None), TypeError, "prompt"),
        (lambda e: e.generate("a text"), TypeError, "prompts"),
        (lambda e: e.generate(["a"], temperature=-1, return_exceptions=True), bn.OptionError, "temperature"),
        (lambda _: ENGINE(max_batch=0), bn.OptionError, "max_batch"),
        (lambda _: ENGINE(queue=-1), bn.OptionError, "queue"),
        (lambda _: ENGINE(step_tokens=1), bn.OptionError, "step_tokens"),
        (lambda _: ENGINE(context=10**6), bn.OptionError, "context"),
        (lambda _: ENGINE(kv_memory="much"), bn.OptionError, "much"),
        (lambda _: ENGINE(kv_memory=1), bn.OptionError, "kv_memory"),
        (lambda _: ENGINE(kv_memory=1.5), TypeError, "kv_memory"),
        (lambda _: ENGINE(kv_dtype="f8"), bn.OptionError, "kv_dtype"),
        (lambda _: ENGINE("no/such/model/here"), bn.ModelNotFoundError, "no such model"),
        (lambda _: ENGINE(5), TypeError, "model"),
    ],
)
def test_wrong_calls_raise_one_clear_line(
    engine: bn.Engine, call: Callable[[Any], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        call(engine)
    assert len(str(caught.value).splitlines()) == 1


def test_stats_are_the_json_and_count(model: bn.Model) -> None:
    with bn.Engine(model, max_batch=4, kv_memory="64MiB") as engine:
        assert engine.stats().decode.tokens_per_s is None
        engine.generate([PROMPT] * 3, max_tokens=5)
        eventually(lambda: engine.stats().requests.active == 0)
        stats = engine.stats()
    assert (stats.requests.submitted, stats.requests.failed, stats.queue_depth) == (3, 0, 0)
    assert stats.requests.finished["length"] == 3
    assert stats.time_to_first_token_s.count == 3
    assert stats.batch.capacity == 4
    # How many of them meet in a step is up to the threads.
    assert stats.batch.sequences.max in (1, 2, 3)
    assert stats.prefix_cache.lookups == 3
    figures = json.loads(stats.to_json())
    for name, value in figures.items():
        if isinstance(value, dict) and not isinstance(own := getattr(stats, name), dict):
            nested = {key: getattr(own, key) for key, figure in value.items() if not isinstance(figure, dict)}
            assert nested == {key: figure for key, figure in value.items() if key in nested}
        elif name != "layers":
            assert getattr(stats, name) == value
    assert "# TYPE bitnet_requests_submitted_total counter" in stats.to_prometheus()
    assert "3 requests" in repr(stats)
    assert stats.inter_token_latency_s.quantile(1.0) is not None


def test_callbacks_get_the_text_and_may_fail(engine: bn.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", failures.append)
    called: list[tuple[str, str]] = []
    text = engine.submit(PROMPT, max_tokens=3)
    text.add_done_callback(lambda _: 1 / 0)
    text.add_done_callback(lambda text: called.append((text.result().text, threading.current_thread().name)))
    expected = text.result().text
    eventually(lambda: len(called) == 1 and len(failures) == 1)
    assert called[0][0] == expected
    assert isinstance(failures[0].exc_value, ZeroDivisionError)
    text.add_done_callback(lambda text: called.append((text.result().text, threading.current_thread().name)))
    assert called[1] == (expected, threading.current_thread().name)


def test_the_engine_does_not_wait_for_the_interpreter(engine: bn.Engine) -> None:
    called: list[bn.GenerationFuture] = []
    first = engine.submit(PROMPT, max_tokens=1)
    first.add_done_callback(called.append)
    other = engine.submit(PROMPT, max_tokens=20)
    # Nobody else gets the lock while this runs.
    sum(range(20_000_000))
    assert other.done()
    eventually(lambda: called == [first])


def test_a_block_waits_or_ends_what_was_submitted(model: bn.Model) -> None:
    with bn.Engine(model, kv_memory="64MiB") as engine:
        text = engine.submit(PROMPT, max_tokens=50)
        assert "closed" not in repr(engine)
    assert text.done()
    assert text.result().finish_reason == "length"
    assert engine.closed
    assert "closed" in repr(engine)
    engine.close()
    for call in (lambda: engine.submit(PROMPT), lambda: engine.generate([PROMPT]), engine.stats):
        with pytest.raises(bn.EngineClosedError, match="the engine is closed"):
            call()

    def leave() -> None:
        with bn.Engine(model, kv_memory="64MiB") as engine:
            texts.append(engine.submit(PROMPT, max_tokens=LONG))
            raise KeyError

    texts: list[bn.GenerationFuture] = []
    with pytest.raises(KeyError):
        leave()
    assert texts[0].result(timeout=0).finish_reason == "cancelled"


def test_threads_share_an_engine(model: bn.Model, engine: bn.Engine) -> None:
    def text(seed: int) -> str:
        chunks = engine.submit(PROMPT, temperature=1.0, seed=seed, max_tokens=20)
        return "".join(chunk.text for chunk in chunks)

    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(text, range(16)))
    assert texts == [model.generate(PROMPT, temperature=1.0, seed=s, max_tokens=20).text for s in range(16)]


def test_neither_travels(engine: bn.Engine) -> None:
    for thing in (engine, engine.submit(PROMPT, max_tokens=1)):
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(thing)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals to a thread need POSIX")
@pytest.mark.parametrize("wait", ["result", "stream", "generate", "close"])
def test_ctrl_c_interrupts_a_wait(model: bn.Model, wait: str) -> None:
    engine = bn.Engine(model, max_batch=1, queue=2, kv_memory="64MiB")
    text = engine.submit(PROMPT, max_tokens=LONG)
    waits: dict[str, Callable[[], object]] = {
        "result": text.result,
        "stream": lambda: list(engine.submit(PROMPT)),
        "generate": lambda: engine.generate([PROMPT] * 10, max_tokens=LONG),
        "close": engine.close,
    }
    interrupt = threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        waits[wait]()
    interrupt.join()
    assert engine.closed == (wait == "close")
    engine.close(cancel=True)
    assert text.result(timeout=0).finish_reason == "cancelled"


#: Each runs in an interpreter of its own, which must end in time, with status 0 and without a word.
SCRIPTS = {
    "the engine is left running": "texts = [engine.submit('a', max_tokens=2000) for _ in range(40)]",
    "a thread waits": """
        import threading, time
        text = engine.submit('a', max_tokens=2000)
        waits = [text.result, lambda: list(text), lambda: engine.generate(['b'] * 99, max_tokens=2000)]
        for wait in waits:
            threading.Thread(target=wait, daemon=True).start()
        time.sleep(0.1)
    """,
    "a loop is left waiting": """
        import asyncio
        async def wait():
            tasks = [asyncio.create_task(anext(engine.submit('a', max_tokens=2000))) for _ in range(9)]
            await asyncio.sleep(0.05)
        asyncio.run(wait())
    """,
    "callbacks are left, one of which closes the engine": """
        import threading
        closed = threading.Event()
        text = engine.submit('a', max_tokens=2)
        text.add_done_callback(lambda _: (engine.close(cancel=True), closed.set()))
        assert closed.wait(30)
        text = bn.Engine(kv_memory='64MiB').submit('a', max_tokens=2000)
        text.add_done_callback(print)
        assert text.result().finish_reason == 'cancelled'
    """,
    "the last thing that holds the engine is a callback": """
        text = engine.submit('a', max_tokens=20)
        text.add_done_callback(lambda _, engine=engine: None)
        del engine
        assert text.result(30).finish_reason == 'length'
    """,
    "an exit while others wait for the end": """
        import atexit
        text = engine.submit('a', max_tokens=50)
        atexit.register(text.result)
    """,
    "a fork": """
        import os
        text = engine.submit('a', max_tokens=2000)
        child = os.fork()
        if child == 0:
            submit = lambda: engine.submit('b')
            for call in (text.result, text.done, lambda: next(text), submit, engine.stats):
                try:
                    call()
                except bn.EngineClosedError as error:
                    assert 'fork' in str(error)
                else:
                    os._exit(1)
            engine.close()
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        engine.generate(['b'], max_tokens=2)
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_interpreter_ends(name: str) -> None:
    if name == "a fork" and not hasattr(os, "fork"):
        pytest.skip("there is no fork")
    begin = "import sys, bitnet_rust as bn\nengine = bn.Engine(kv_memory='64MiB')\n"
    lines = SCRIPTS[name].splitlines()
    code = begin + "\n".join(line.removeprefix("        ") for line in lines)
    # Since Python 3.12 os.fork() warns of threads.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_examples_of_the_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "docs/engine.md", "exec"), {})
        assert capsys.readouterr().out
