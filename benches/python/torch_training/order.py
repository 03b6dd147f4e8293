"""The order in which a run learns its sequences: that of `bitnet_training::data::Order`, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]
QUARTERS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
BLOCKS = 1024
"""Blocks of 16 words that are computed at once."""


def order(seed: int, epoch: int, sequences: int) -> list[int]:
    """The permutation of an epoch: Fisher and Yates' shuffle by the numbers of ChaCha8."""
    numbers = chacha8(seed.to_bytes(8, "little") + epoch.to_bytes(8, "little") + bytes(16))
    places = list(range(sequences))
    for place in range(sequences - 1, 0, -1):
        other = below(numbers, place + 1)
        places[place], places[other] = places[other], places[place]
    return places


def below(numbers: Iterator[int], bound: int) -> int:
    """A number below `bound`, all as likely."""
    fair = (2**64 - 1) // bound * bound
    return next(number for number in numbers if number < fair) % bound


def chacha8(key: bytes) -> Iterator[int]:
    """The 64-bit numbers of stream 0 (D. J. Bernstein, "ChaCha, a variant of Salsa20"; 8 rounds)."""
    first = 0
    while True:
        words = blocks(key, np.arange(first, first + BLOCKS, dtype=np.uint64))
        yield from words.astype("<u4").view("<u8").ravel().tolist()
        first += BLOCKS


def blocks(key: bytes, counters: npt.NDArray[np.uint64]) -> Words:
    """`[counters, 16]`."""
    fixed = np.frombuffer(b"expand 32-byte k" + key, "<u4").astype(np.uint32)
    start = np.zeros((16, len(counters)), np.uint32)
    start[:12] = fixed[:, None]
    start[12:14] = counters & np.uint64(0xFFFFFFFF), counters >> np.uint64(32)
    state = start.copy()
    for _ in range(4):
        for places in (*QUARTERS, *DIAGONALS):
            quarter_round(state, *places)
    return np.ascontiguousarray((state + start).T)


def quarter_round(state: Words, a: int, b: int, c: int, d: int) -> None:
    for left, right, other, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        state[left] += state[right]
        mixed = state[other] ^ state[left]
        state[other] = mixed << np.uint32(bits) | mixed >> np.uint32(32 - bits)
