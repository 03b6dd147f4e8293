"""A backend on the oracle of the tests: its pages keep tokens, and every batch computes all of them again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import bitnet_rust as bn
import numpy as np
import numpy.typing as npt
from checkpoints import load
from reference import Decoder

PAGE = 64


class NumpyBackend:
    name = "numpy"

    def __init__(self, folder: Path) -> None:
        self.decoder = Decoder(*load(folder))
        self.weight_bytes = sum(tensor.nbytes for tensor in self.decoder.tensors.values())

    def open(self, pages: int, positions: int, tokens: int, kv_type: str) -> NumpySession:
        if kv_type != "f32":
            raise ValueError(f"keys and values are not kept as {kv_type}")
        return NumpySession(self.decoder, pages)


class NumpySession:
    def __init__(self, decoder: Decoder, pages: int) -> None:
        self.decoder = decoder
        self.tokens = np.zeros((pages, PAGE), np.uint32)

    def execute(self, batch: Sequence[bn.Work]) -> npt.NDArray[np.float32]:
        return np.concatenate([self.logits(work) for work in batch])

    def logits(self, work: bn.Work) -> npt.NDArray[np.float32]:
        end = work.position + len(work.ids)
        places = np.arange(work.position, end)
        self.tokens[work.pages[places // PAGE], places % PAGE] = work.ids
        text = self.tokens[work.pages].reshape(-1)[:end]
        states = self.decoder.hidden_states([int(token) for token in text])[-1]
        return self.decoder.head(states[end - work.outputs :]).astype(np.float32)

    def copy_page(self, source: int, target: int) -> None:
        self.tokens[target] = self.tokens[source]
