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
    # What other tests gave back counts as kept, too.
    bn.memory_trim()
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


def test_texts_count_as_long_as_they_are_written() -> None:
    model = bn.load()
    config = model.config
    head_dim = config.hidden_size // config.num_attention_heads
    # Keys and values of a token, float32.
    token = 2 * 4 * config.num_hidden_layers * config.num_key_value_heads * head_dim
    before = bn.memory_stats()
    stream = model.stream([5] * 500, max_tokens=500)
    during = bn.memory_stats().live_bytes - before.live_bytes
    activations = 4 * 500 * config.intermediate_size
    assert 1000 * token + activations < during
    del stream
    assert bn.memory_stats().live_blocks == before.live_blocks
    with bn.Engine(model, kv_memory="48MiB"):
        assert bn.memory_stats().live_bytes - before.live_bytes > 47 * MIB
    assert bn.memory_stats().live_blocks == before.live_blocks
