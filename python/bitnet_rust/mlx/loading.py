"""Checkpoints as MLX models, by the conventions of mlx-lm.

```python
import mlx_lm
from bitnet_rust.mlx import load

model, tokenizer = load("path/or/hub-id")
print(mlx_lm.generate(model, tokenizer, prompt="It is time", max_tokens=32))
```
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
from mlx.utils import tree_flatten

import bitnet_rust as bn
from bitnet_rust._errors import CheckpointError, FileError
from bitnet_rust.mlx.config import ModelArgs
from bitnet_rust.mlx.model import Model

Source = str | PathLike[str]
HeadBits = Literal[4, 6, 8]

# What a folder has beside its weights and its config.
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


def load(
    path_or_id: Source, *, trainable: bool = False, head_bits: HeadBits | None = None
) -> tuple[Model, Any]:
    """Return a model and its tokenizer, which is mlx-lm's: what mlx_lm.generate and its like take.

    Raises as load_model(), and ImportError without mlx-lm.
    """
    try:
        from mlx_lm.utils import load_tokenizer
    except ImportError as error:
        raise ImportError("tokenizers for MLX models are those of mlx-lm: pip install mlx-lm") from error
    with _folder(path_or_id, trainable=trainable) as folder:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model = _load_folder(folder, trainable, head_bits)
        return model, load_tokenizer(folder, eos_token_ids=_eos_token_ids(folder, config))


def load_model(path_or_id: Source, *, trainable: bool = False, head_bits: HeadBits | None = None) -> Model:
    """Load a model: a folder, a GGUF file, or a hub id.

    trainable keeps float masters, which MLX's autograd trains; a packed model gets masters that stand for
    the same codes and scales. GGUF files, and those masters, are converted into a temporary folder first,
    which takes as much room on the disk. head_bits quantizes embedding or head as far as it gives logits:
    fewer bytes for each token, and slightly other logits. Raises as bn.convert(), ModelNotFoundError,
    CheckpointError, ConfigError, ValueError.
    """
    if trainable and head_bits is not None:
        raise ValueError("a quantized head cannot be trained")
    with _folder(path_or_id, trainable=trainable) as folder:
        return _load_folder(folder, trainable, head_bits)


def save_model(model: Model, path: Source, *, like: Source) -> None:
    """Write a trainable model into a new folder, as a float master that bn.load() and bn.convert() take.

    Config and tokenizer are those of the folder `like`, from which it was loaded. Raises FileError where
    there is something, CheckpointError for a packed model.
    """
    if not model.trainable:
        raise CheckpointError("the model is packed: load it with trainable=True to train and save it")
    target, source = Path(path), Path(like)
    if target.exists():
        raise FileError(f"{target}: is there already")
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    section = dict(config.get("quantization_config") or {"quant_method": "bitnet"})
    config["quantization_config"] = {
        **section,
        "linear_class": "autobitlinear",
        "quantization_mode": "online",
    }
    with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=f".{target.name}-") as temporary:
        folder = Path(temporary) / target.name
        folder.mkdir()
        for name in _TOKENIZER_FILES:
            if (source / name).exists():
                shutil.copyfile(source / name, folder / name)
        (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        parameters = dict(tree_flatten(model.parameters()))
        mx.save_safetensors(str(folder / "model.safetensors"), parameters, metadata={"format": "pt"})
        folder.rename(target)


@contextmanager
def _folder(path_or_id: Source, *, trainable: bool) -> Iterator[Path]:
    """Give a folder of safetensors, converted where it has to be."""
    path = Path(path_or_id)
    if path.is_dir() and not (trainable and _is_packed(path)):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="bitnet-mlx-") as temporary:
        folder = Path(temporary) / "model"
        bn.convert(path_or_id, folder, to="bf16" if trainable else "hf")
        yield folder


def _is_packed(folder: Path) -> bool:
    return any(tensor.dtype == mx.uint8 for tensor in _tensors(folder).values())


def _load_folder(folder: Path, trainable: bool, head_bits: HeadBits | None) -> Model:
    config_path = folder / "config.json"
    if not config_path.is_file():
        raise CheckpointError(f"{config_path}: is missing")
    tensors = _tensors(folder)
    args = ModelArgs.from_dict(json.loads(config_path.read_text(encoding="utf-8")), tensors)
    head, embedding = tensors.get("lm_head.weight"), tensors.get("model.embed_tokens.weight")
    if args.tie_word_embeddings and head is not None and not _are_equal(head, embedding):
        # As transformers: a head that is stored and differs is the head.
        args = replace(args, tie_word_embeddings=False)
    model = Model(args, trainable=trainable)
    try:
        model.load_weights(list(model.sanitize(tensors).items()), strict=True)
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    model.prepare_head(head_bits)
    mx.eval(model.parameters())
    return model


def _are_equal(head: mx.array, embedding: mx.array | None) -> bool:
    return embedding is not None and head.shape == embedding.shape and bool(mx.array_equal(head, embedding))


def _tensors(folder: Path) -> dict[str, mx.array]:
    """All tensors of a folder, read when they are used."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{folder}: has no safetensors")
    tensors: dict[str, mx.array] = {}
    for file in files:
        try:
            tensors.update(mx.load(str(file)))
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(f"{file}: {error}") from error
    return tensors


def _eos_token_ids(folder: Path, config: dict[str, Any]) -> list[int]:
    """Return the tokens that end a text, of both config files."""
    path = folder / "generation_config.json"
    configs = [config, json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else [config]
    ids: set[int] = set()
    for value in (each.get("eos_token_id") for each in configs):
        ids.update(value if isinstance(value, list) else [] if value is None else [value])
    return sorted(ids)
