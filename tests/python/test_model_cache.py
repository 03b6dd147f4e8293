"""ModelCache: one load for many callers, a budget, and models in use."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bitnet_rust as bn
import pytest


def resident(**options: Any) -> int:
    """Bytes that the embedded model counts for."""
    with bn.ModelCache("1GiB") as cache:
        cache.get(**options)
        return cache.stats()["resident_bytes"]


BYTES = resident()


def offers(packing: Any) -> bool:
    """Whether the best instruction set of this CPU has products for it."""
    try:
        bn.load(packing=packing)
    except bn.DeviceError:
        return False
    return True


@pytest.mark.parametrize("packing", ["bits2", "base3"])
def test_the_bytes_are_those_that_are_held(packing: Any) -> None:
    if not offers(packing):
        assert packing == "base3"
        with pytest.raises(bn.DeviceError, match="base3"), bn.ModelCache("1GiB") as cache:
            cache.get(packing=packing)
        return
    with bn.ModelCache("1GiB") as cache:
        before = bn.memory_stats().live_bytes
        summary = cache.get(packing=packing).summary()
        held = bn.memory_stats().live_bytes - before
        counted = cache.stats()["resident_bytes"]
    # What is repacked lies in the pool; beside it are the embedding as it was read, in bfloat16, and norms.
    embedding = summary["vocab_size"] * summary["hidden_size"]
    norms = summary["parameters"] - summary["ternary_parameters"] - embedding
    # The pool gives whole pages of 16 KiB for each linear and for the two parts of the compact head.
    pages = (7 * summary["layers"] + 2) * (16 << 10)
    assert -0.01 * counted <= held + 2 * embedding + 4 * norms - counted <= pages


def test_a_model_is_loaded_once(tiny: Path) -> None:
    cache = bn.ModelCache("1GiB")
    with ThreadPoolExecutor(8) as pool:
        models = list(pool.map(lambda _: cache.get(tiny, threads=1), range(8)))
    texts = {model.generate("In the beginning", max_tokens=4).text for model in models}
    assert texts == {bn.load().generate("In the beginning", max_tokens=4).text}
    assert cache.stats() == {
        "hits": 7,
        "misses": 1,
        "evictions": 0,
        "models": 1,
        "resident_bytes": BYTES,
        "budget_bytes": 2**30,
    }
    assert repr(cache).startswith("ModelCache(1 model, ")


def test_the_least_recently_used_gives_way_unless_it_is_in_use(tiny: Path) -> None:
    with bn.ModelCache(2 * BYTES) as cache:
        first = cache.get(tiny)
        cache.get()
        cache.get(tiny, kv_cache="int8")
        assert (cache.stats()["models"], cache.stats()["evictions"]) == (2, 1)
        assert cache.stats()["resident_bytes"] == 2 * BYTES
        second = cache.get(tiny, kv_cache="int8")
        with pytest.raises(bn.OutOfMemoryError, match=r"the embedded model takes .*MiB of them in use"):
            cache.get()
        del first, second
    assert cache.stats()["models"] == 0


@pytest.mark.parametrize(
    ("budget", "error", "message"),
    [
        ("much", bn.OptionError, "2GiB"),
        (-1, bn.OptionError, "budget must be a number of bytes between 0"),
        (1.5, TypeError, "budget"),
        (True, TypeError, "budget"),
    ],
)
def test_a_budget_is_a_number_of_bytes(budget: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bn.ModelCache(budget)


def test_what_cannot_be_loaded_raises_as_load_does(tmp_path: Path) -> None:
    cache = bn.ModelCache("1GiB")
    with pytest.raises(bn.ModelNotFoundError):
        cache.get(tmp_path / "nothing")
    with pytest.raises(bn.OptionError, match="threads"):
        cache.get(threads=-1)
    assert cache.stats()["models"] == 0
