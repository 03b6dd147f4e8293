"""Keys and values in the pages of the engine, and attention to them.

A page holds 64 positions of one sequence; who holds which is decided by the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import mlx.core as mx
import numpy as np
import numpy.typing as npt

PAGE = 64
"""Positions of a page."""


class Entry(Protocol):
    """Tokens of one sequence in a batch, as a bn.Work says it."""

    @property
    def ids(self) -> npt.NDArray[np.uint32]:
        """The tokens."""
        ...

    @property
    def position(self) -> int:
        """Position of the first."""
        ...

    @property
    def pages(self) -> npt.NDArray[np.uint32]:
        """Pages of the sequence."""
        ...

    @property
    def outputs(self) -> int:
        """The last tokens, whose logits are asked for."""
        ...


class PageTable:
    """Where pages lie: in the order of their first use, so that a cache is as large as what is used of it."""

    def __init__(self, pages: int) -> None:
        self.used = 0
        self._places = np.full(pages, -1, np.int64)

    def places(self, pages: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the places of some pages."""
        for page in pages[self._places[pages] < 0].tolist():
            if self._places[page] < 0:
                self._places[page] = self.used
                self.used += 1
        return self._places[pages]


@dataclass(frozen=True)
class Piece:
    """Neighbouring tokens of one sequence."""

    rows: slice
    """Where they are in the batch."""
    position: int
    """Of the first."""
    pages: mx.array
    """Places of those of the sequence, up to the last token's."""


@dataclass(frozen=True)
class Layout:
    """Which token of a batch is where."""

    positions: mx.array
    slots: mx.array
    """Where the keys and values of each token go: place of the page * PAGE + position in it."""
    pieces: list[Piece]
    outputs: mx.array
    """Rows whose logits are asked for."""

    @staticmethod
    def of(batch: Sequence[Entry], table: PageTable) -> Layout:
        """Lay a batch out, its entries one behind another."""
        positions, slots, pieces, outputs = [], [], [], []
        row = 0
        for work in batch:
            places = np.arange(work.position, work.position + len(work.ids))
            pages = table.places(work.pages[: -(-int(places[-1] + 1) // PAGE)])
            positions.append(places)
            slots.append(pages[places // PAGE] * PAGE + places % PAGE)
            pieces.append(Piece(slice(row, row + len(places)), work.position, mx.array(pages)))
            row += len(places)
            outputs.append(np.arange(row - work.outputs, row))
        as_array = [mx.array(np.concatenate(part).astype(np.int32)) for part in (positions, slots, outputs)]
        return Layout(as_array[0], as_array[1], pieces, as_array[2])


class PagedCache:
    """Keys and values of a layer, [kv_heads, places * PAGE, head_dim], and attention to them.

    The model sees a batch as sequences of one token each; `layout` says whose they are.
    """

    layout: Layout

    def __init__(self, heads: int, dim: int, dtype: mx.Dtype, exact: bool) -> None:
        self.keys = mx.zeros((heads, 0, dim), dtype)
        self.values = mx.zeros((heads, 0, dim), dtype)
        self.exact = exact

    def enter(self, layout: Layout, pages: int) -> None:
        """Take a batch, which uses so many pages."""
        self.layout = layout
        self.reserve(pages)

    def reserve(self, pages: int) -> None:
        """Have room for so many pages; doubled when it is short, so that it is copied seldom."""
        heads, size, dim = self.keys.shape
        if pages * PAGE > size:
            new = mx.zeros((heads, max(pages * PAGE - size, size), dim), self.keys.dtype)
            self.keys, self.values = (
                mx.concatenate([kept, new], axis=1) for kept in (self.keys, self.values)
            )

    @property
    def offset(self) -> mx.array:
        """The position of each token."""
        return self.layout.positions

    def attend(self, q: mx.array, k: mx.array, v: mx.array, scale: float) -> mx.array:
        """Keep k and v, [tokens, kv_heads, 1, head_dim]; return what q attends to, the same for its heads."""
        slots = self.layout.slots
        self.keys[:, slots] = k[:, :, 0].swapaxes(0, 1).astype(self.keys.dtype)
        self.values[:, slots] = v[:, :, 0].swapaxes(0, 1).astype(self.values.dtype)
        attend = self._token_by_token if self.exact else self._at_once
        return mx.concatenate([attend(q[piece.rows], piece, scale) for piece in self.layout.pieces])

    def copy_page(self, source: int, target: int) -> None:
        """Copy a page, by its place."""
        for kept in (self.keys, self.values):
            kept[:, target * PAGE : (target + 1) * PAGE] = kept[:, source * PAGE : (source + 1) * PAGE]

    def _at_once(self, q: mx.array, piece: Piece, scale: float) -> mx.array:
        """Compute one product for all tokens of a piece."""
        tokens = q.shape[0]
        end = piece.position + tokens
        keys, values = (
            _pages_of(kept, piece.pages)[:, :, :end].astype(q.dtype) for kept in (self.keys, self.values)
        )
        y = mx.fast.scaled_dot_product_attention(
            q[:, :, 0].swapaxes(0, 1)[None], keys, values, scale=scale, mask="causal" if tokens > 1 else None
        )
        return y[0].swapaxes(0, 1)[:, :, None]

    def _token_by_token(self, q: mx.array, piece: Piece, scale: float) -> mx.array:
        """Compute a product for each token, all pages up to its own beside it, later positions hidden.

        Its shape depends on the page of the token, not on what else is in the piece; those of one page share
        a call.
        """
        start, end = piece.position, piece.position + q.shape[0]
        keys, values = (_pages_of(kept, piece.pages).astype(q.dtype) for kept in (self.keys, self.values))
        parts = []
        for page in range(start // PAGE, -(-end // PAGE)):
            first, last = max(start, page * PAGE), min(end, (page + 1) * PAGE)
            tokens, seen = last - first, (page + 1) * PAGE
            mask = mx.arange(seen)[None] <= mx.arange(first, last)[:, None]
            parts.append(
                mx.fast.scaled_dot_product_attention(
                    q[first - start : last - start],
                    mx.broadcast_to(keys[:, :, :seen], (tokens, keys.shape[1], seen, keys.shape[3])),
                    mx.broadcast_to(values[:, :, :seen], (tokens, values.shape[1], seen, values.shape[3])),
                    scale=scale,
                    mask=mask[:, None, None],
                )
            )
        return mx.concatenate(parts)


def _pages_of(kept: mx.array, pages: mx.array) -> mx.array:
    """Return the keys or values of a sequence, [1, kv_heads, positions, head_dim]."""
    heads, _, dim = kept.shape
    return kept.reshape(heads, -1, PAGE, dim)[:, pages].reshape(1, heads, -1, dim)
