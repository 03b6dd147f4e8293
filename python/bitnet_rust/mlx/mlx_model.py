"""A model whose texts MLX computes: bn.load(path, device="mlx")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np
import numpy.typing as npt

import bitnet_rust as bn
from bitnet_rust import _native
from bitnet_rust._errors import ContextLengthError, OptionError, OutOfRangeError
from bitnet_rust.mlx.backend import MlxBackend
from bitnet_rust.mlx.paged_cache import PAGE

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from bitnet_rust._native import _GenerateOptions

_PIECE = 256
"""Tokens of a prompt whose logits are computed at once."""


class MlxModel:
    """Generates as bn.Model does, by an engine on an MlxBackend.

    Tokenizer, template and sampling are the engine's, and the weights MLX's alone. kv_cache is the type of
    keys and values. Raises the errors of bn.load() and load_model(), OptionError.
    """

    def __init__(
        self, path_or_id: str | PathLike[str] | None, *, kv_cache: Literal["f32", "f16", "int8"] = "f32"
    ) -> None:
        if path_or_id is None:
            raise OptionError(
                "the embedded model has no files for MLX; name a folder, a GGUF file or a hub id"
            )
        if kv_cache == "int8":
            raise OptionError("kv_cache is f32 or f16 on MLX, not int8")
        # On MLX alone.
        self._model = _native.load(path_or_id, prepare=False)
        # Where a hub id was downloaded to.
        self.backend = MlxBackend(self._model.summary()["model"])
        self._kv_cache = kv_cache
        self._engine = bn.Engine(self._model, backend=self.backend, kv_dtype=kv_cache)

    @property
    def config(self) -> bn.ModelConfig:
        """What the checkpoint says of the model."""
        return self._model.config

    @property
    def tokenizer(self) -> bn.Tokenizer:
        """The tokenizer. Raises TokenizerError when the checkpoint has none."""
        return self._model.tokenizer

    def summary(self) -> dict[str, Any]:
        """Return what the model is and what it costs to run on the CPU: the figures of `bitnet inspect`."""
        return self._model.summary()

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return the text of a conversation as the model was trained on it. Raises ChatTemplateError."""
        return self._model.apply_chat_template(messages, add_generation_prompt)

    def generate(
        self, prompt: str | Iterable[SupportsIndex], **options: Unpack[_GenerateOptions]
    ) -> bn.Generation:
        """Generate the text behind a prompt. Options and errors are those of bn.Engine.submit()."""
        return self._engine.submit(prompt, **options).result()

    def stream(
        self, prompt: str | Iterable[SupportsIndex], **options: Unpack[_GenerateOptions]
    ) -> bn.GenerationFuture:
        """Return the text behind a prompt as it comes: an iterator of chunks, whose result() is the whole."""
        return self._engine.submit(prompt, **options)

    def logits(self, ids: Iterable[SupportsIndex]) -> npt.NDArray[np.float32]:
        """Return the logits behind every token, [len(ids), vocab_size].

        Raises OutOfRangeError, ContextLengthError.
        """
        tokens = np.array([int(id) for id in ids], np.int64)
        config = self.config
        if tokens.size == 0:
            return np.zeros((0, config.vocab_size), np.float32)
        if tokens.size > config.max_position_embeddings:
            raise ContextLengthError(f"{tokens.size} tokens in a context of {config.max_position_embeddings}")
        if tokens.min() < 0 or tokens.max() >= config.vocab_size:
            raise OutOfRangeError(f"a token id is outside the vocabulary of {config.vocab_size}")
        pages = np.arange(-(-tokens.size // PAGE), dtype=np.uint32)
        session = self.backend.open(len(pages), tokens.size, _PIECE, self._kv_cache)
        starts = range(0, tokens.size, _PIECE)
        return np.concatenate(
            [session.execute([_Piece(tokens[start : start + _PIECE], start, pages)]) for start in starts]
        )

    def close(self) -> None:
        """End the engine; what still runs ends first."""
        self._engine.close()

    def __enter__(self) -> MlxModel:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class _Piece:
    """Tokens whose logits are all asked for."""

    def __init__(self, ids: npt.NDArray[np.int64], position: int, pages: npt.NDArray[np.uint32]) -> None:
        self.ids = ids.astype(np.uint32)
        self.position = position
        self.pages = pages
        self.outputs = len(ids)
