"""llama.cpp as llama-cpp-python builds it, timed through its C interface as llama-bench does.

The prompt is one batch of which only the last token's logits are asked for; generation decodes one token at a
time from an empty context. The cache is float16, the default.
"""

from __future__ import annotations

import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from compare.checkpoint import Checkpoint
from compare.row import Request, Row, measure

NOTE = "SiLU in place of the squared ReLU, activations in int8 blocks of 256"


def rows(request: Request, engine: str) -> Iterator[Row]:
    """The two tests."""
    session = Session(ensure_gguf(request), request)
    tests = {
        f"pp{request.prompt}": (session.prompt, request.prompt),
        f"tg{request.generated}": (session.generate, request.generated),
    }
    for test, (step, tokens) in tests.items():
        speed = measure(step, tokens, request.repetitions)
        yield Row(engine, request.weights, "Q6_K", test, request.threads, speed, NOTE)


def ensure_gguf(request: Request) -> Path:
    """The converted file; written by a process of its own unless one newer than the checkpoint is there."""
    folder = request.model.resolve()
    # Folders of one name are told apart.
    place = zlib.crc32(str(folder).encode())
    file = request.work / f"{folder.name}-{place:08x}.{request.weights}.gguf"
    newest = max(shard.stat().st_mtime for shard in Checkpoint(request.model).files)
    if not file.exists() or file.stat().st_mtime < newest:
        command = [sys.executable, "-m", "compare.gguf_file", str(request.model), request.weights, str(file)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return file


class Session:
    """A model and a context on the CPU."""

    def __init__(self, file: Path, request: Request) -> None:
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(str(file).encode(), model_params)
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {file}")
        self.context = llama_cpp.llama_init_from_model(self.model, context_params(request))
        if not self.context:
            raise RuntimeError(f"llama.cpp makes no context for {file}")
        vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        ids = np.random.default_rng(0).integers(0, vocabulary, max(request.prompt, request.generated))
        self.ids = [int(i) for i in ids]
        self.request = request

    def prompt(self) -> None:
        self.clear()
        self.decode(self.ids[: self.request.prompt])

    def generate(self) -> None:
        self.clear()
        for token in self.ids[: self.request.generated]:
            self.decode([token])

    def clear(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def decode(self, ids: list[int]) -> None:
        """Add tokens to the context; the logits of the last are computed."""
        tokens = (llama_cpp.llama_token * len(ids))(*ids)
        status = llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(tokens, len(ids)))
        llama_cpp.llama_synchronize(self.context)
        if status != 0:
            raise RuntimeError(f"llama_decode ended with status {status}")

    def logits(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The last token's logits."""
        vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        pointer = llama_cpp.llama_get_logits_ith(self.context, -1)
        return np.ctypeslib.as_array(pointer, (vocabulary,)).copy()


def context_params(request: Request) -> Any:
    """Threads, room for the longer test, and nothing on a GPU."""
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = max(request.prompt, request.generated)
    params.n_batch = params.n_ubatch = request.prompt
    params.n_threads = params.n_threads_batch = request.threads
    params.offload_kqv = False
    params.op_offload = False
    return params
