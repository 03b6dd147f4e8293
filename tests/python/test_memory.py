"""The memory pool as Python sees it."""

from __future__ import annotations

import bitnet_rust as bn
import numpy as np

MIB = 1 << 20


def test_tensors_count_as_long_as_they_live() -> None:
    before = bn.memory_stats()
    x = bn.Tensor.ones((3, MIB), dtype="f32")
    y = x + x
    after = bn.memory_stats()
    assert after.live_blocks.get(12 * MIB, 0) - before.live_blocks.get(12 * MIB, 0) == 2
    assert after.live_bytes - before.live_bytes >= 24 * MIB
    assert after.peak_bytes >= after.live_bytes <= after.held_bytes
    assert after.fragmentation == (after.held_bytes - after.live_bytes) / after.held_bytes
    live, held, peak = after.live_bytes, after.held_bytes, after.peak_bytes
    assert repr(after) == f"MemoryStats(live {live} bytes, held {held} bytes, peak {peak} bytes)"
    view = np.asarray(y)
    del x, y
    assert view[2, -1] == 2
    del view
    assert bn.memory_stats().live_blocks.get(12 * MIB, 0) == before.live_blocks.get(12 * MIB, 0)


def test_memory_is_reused_and_then_given_back() -> None:
    for _ in range(3):
        bn.Tensor.ones((5, MIB), dtype="f32")
    before = bn.memory_stats()
    bn.Tensor.ones((5, MIB), dtype="f32")
    after = bn.memory_stats()
    assert (after.held_bytes, after.reused_blocks > before.reused_blocks) == (before.held_bytes, True)
    given = bn.memory_trim()
    trimmed = bn.memory_stats()
    assert given >= 20 * MIB
    assert (trimmed.held_bytes, trimmed.returned_bytes) == (
        after.held_bytes - given,
        after.returned_bytes + given,
    )
    assert trimmed.live_bytes == after.live_bytes


def test_weights_count_and_go_back_with_their_model() -> None:
    before = bn.memory_stats()
    model = bn.load()
    assert bn.memory_stats().live_bytes - before.live_bytes > MIB
    del model
    assert bn.memory_stats().live_bytes <= before.live_bytes
