"""A packed BitNet checkpoint in the dialect of microsoft/bitnet-b1.58-2B-4T, read with NumPy alone.

Only `autobitlinear` in offline mode is read, where a linear is `weight_scale` times its codes, with a tied
head and no biases: this is the model the engines are compared on. Anything else is refused.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# bfloat16 does not exist in NumPy: the upper half of a float32, kept as uint16.
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "U8": np.uint8}


class Checkpoint:
    """config.json and the tensors of a folder; tensors stay on disk until they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        self.files = sorted(folder.glob("*.safetensors"))
        self._tensors = {name: tensor for file in self.files for name, tensor in _map_tensors(file).items()}
        if not self._tensors:
            raise FileNotFoundError(f"{folder}: no *.safetensors file")
        _check_dialect(folder, self.config)

    def dtype(self, name: str) -> str:
        """The safetensors dtype of a tensor."""
        return self._tensors[name][0]

    def floats(self, name: str) -> npt.NDArray[np.float32]:
        """A float tensor as float32."""
        dtype, array = self._tensors[name]
        if dtype == "BF16":
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype(np.float32)

    def codes(self, name: str) -> npt.NDArray[np.uint8]:
        """The codes of a packed linear, weight + 1 in {0, 1, 2}, [out, in].

        Row r of the stored [out / 4, in] holds the rows r + i * out / 4 in bits 2i and 2i + 1, i = 0..3
        (transformers, integrations/bitnet.py).
        """
        packed = self._tensors[name][1]
        return np.concatenate([packed >> shift & 3 for shift in (0, 2, 4, 6)])

    def parameters(self) -> int:
        """How many weights the model has, ternary ones counted one by one, scales not."""
        weights = (tensor for name, tensor in self._tensors.items() if not name.endswith("weight_scale"))
        return sum(array.size * (4 if dtype == "U8" else 1) for dtype, array in weights)

    def describe(self) -> str:
        """The shape in one line."""
        c = self.config
        return (
            f"{c['num_hidden_layers']} layers, hidden {c['hidden_size']}, inner {c['intermediate_size']}, "
            f"{c['num_attention_heads']}/{c['num_key_value_heads']} heads, vocabulary {c['vocab_size']}, "
            f"{self.parameters():,} weights"
        )


def _map_tensors(file: Path) -> dict[str, tuple[str, Array]]:
    content = np.memmap(file, np.uint8, mode="r")
    (length,) = struct.unpack("<Q", content[:8].tobytes())
    header = json.loads(content[8 : 8 + length].tobytes())
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        dtype = entry["dtype"]
        # A view through bytes that are aligned nowhere in particular.
        array = np.frombuffer(content, np.uint8)[start:end].view(DTYPES[dtype])
        tensors[name] = (dtype, array.reshape(entry["shape"]))
    return tensors


def _check_dialect(folder: Path, config: dict[str, Any]) -> None:
    quantization = config.get("quantization_config", {})
    found = (
        config.get("model_type"),
        quantization.get("linear_class"),
        quantization.get("quantization_mode"),
        config.get("tie_word_embeddings"),
        config.get("attention_bias", False),
    )
    expected = ("bitnet", "autobitlinear", "offline", True, False)
    if found != expected:
        raise ValueError(f"{folder}/config.json: a packed checkpoint {expected} is needed, not {found}")
