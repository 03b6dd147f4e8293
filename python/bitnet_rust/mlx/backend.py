"""The engine's backend on MLX: pages of keys and values, batches of several sequences, logits.

A token's logits are the same bits whatever shares its batch, and in however many pieces its prompt came,
where `exact` is true: products with ternary weights are sums of whole numbers, each token is attended for in
a product of its own whose shape depends on its position alone, and so is the head. On an Apple GPU a piece
of a prompt is attended for at once instead, and logits differ by roundings.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Literal

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx.utils import tree_flatten

from bitnet_rust.mlx.loading import HeadBits, load_model
from bitnet_rust.mlx.model import Model
from bitnet_rust.mlx.paged_cache import Entry, Layout, PagedCache, PageTable

_KV_TYPES = {"f32": mx.float32, "f16": mx.float16}


class MlxBackend:
    """A model on MLX arrays, for bn.Engine(model, backend=MlxBackend(path)).

    source is what load_model() takes, or a model of it. device is by default MLX's, an Apple GPU where there
    is one. exact is by default true on the CPU, false on a GPU. head_bits is that of load_model(), for a
    path alone. Raises as load_model(), ValueError.
    """

    name = "mlx"

    def __init__(
        self,
        source: str | PathLike[str] | Model,
        *,
        device: mx.Device | None = None,
        exact: bool | None = None,
        head_bits: HeadBits | None = None,
    ) -> None:
        if isinstance(source, Model) and head_bits is not None:
            raise ValueError("the model has its head: head_bits belongs to load_model()")
        self.device = mx.default_device() if device is None else device
        self.exact = self.device.type == mx.DeviceType.cpu if exact is None else exact
        with mx.stream(self.device):
            self.model = source if isinstance(source, Model) else load_model(source, head_bits=head_bits)
            mx.eval(self.model.parameters())
        self.weight_bytes = sum(array.nbytes for _, array in tree_flatten(self.model.parameters()))

    def open(
        self, pages: int, _positions: int, _tokens: int, kv_type: Literal["f32", "f16", "int8"], /
    ) -> MlxSession:
        """Start a session. Raises ValueError for keys and values as int8, MemoryError."""
        if kv_type not in _KV_TYPES:
            raise ValueError(f"keys and values are kept as f32 or f16 on MLX, not as {kv_type}")
        return MlxSession(self, pages, _KV_TYPES[kv_type])


class MlxSession:
    """Runs batches with a cache of its own, which grows as pages are used."""

    def __init__(self, backend: MlxBackend, pages: int, dtype: mx.Dtype) -> None:
        self.backend = backend
        self.pages = PageTable(pages)
        args = backend.model.args
        heads, dim = args.num_key_value_heads, args.head_dim
        with mx.stream(backend.device):
            self.caches = [PagedCache(heads, dim, dtype, backend.exact) for _ in backend.model.layers]
            # The engine runs in a thread of its own, and what is not computed yet belongs to the thread that
            # asked.
            self._run()

    def execute(self, batch: Sequence[Entry], /) -> npt.NDArray[np.float32]:
        """Run a batch in one evaluation, and return the logits of its outputs."""
        model = self.backend.model
        with mx.stream(self.backend.device):
            layout = Layout.of(batch, self.pages)
            for cache in self.caches:
                cache.enter(layout, self.pages.used)
            ids = mx.array(np.concatenate([work.ids for work in batch]))
            hidden = model.model(ids[:, None], self.caches)[:, 0]
            outputs = layout.outputs
            logits = self._logits(hidden[outputs]) if outputs.size else mx.zeros((0, model.args.vocab_size))
            self._run(logits)
            return np.array(logits)

    def copy_page(self, source: int, target: int, /) -> None:
        """Copy keys and values of a page."""
        with mx.stream(self.backend.device):
            first, second = self.pages.places(np.array([source, target])).tolist()
            for cache in self.caches:
                cache.reserve(self.pages.used)
                cache.copy_page(first, second)
            self._run()

    def _logits(self, hidden: mx.array) -> mx.array:
        head = self.backend.model.head
        if not self.backend.exact:
            return head(hidden)
        return mx.concatenate([head(hidden[row : row + 1]) for row in range(hidden.shape[0])])

    def _run(self, *arrays: mx.array) -> None:
        """Compute everything at once: the one time a step waits for the device."""
        try:
            mx.eval(*arrays, *(kept for cache in self.caches for kept in (cache.keys, cache.values)))
        except RuntimeError as error:
            if "alloc" in str(error):
                raise MemoryError(str(error)) from error
            raise
