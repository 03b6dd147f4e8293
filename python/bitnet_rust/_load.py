"""Loading models, for the engine's own devices and for MLX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from bitnet_rust import _native
from bitnet_rust._errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from bitnet_rust._native import Model, ModelPart
    from bitnet_rust.mlx.mlx_model import MlxModel


@overload
def load(  # type: ignore[overload-overlap]
    path_or_id: str | PathLike[str], *, device: Literal["mlx"], kv_cache: Literal["f32", "f16"] = "f32"
) -> MlxModel: ...
@overload
def load(
    path_or_id: str | PathLike[str] | None = None,
    *,
    device: str = "auto",
    threads: int | None = None,
    kv_cache: Literal["f32", "f16", "int8"] = "f32",
    packing: Literal["bits2", "base3"] | None = None,
    gguf: str = "",
    activations: Literal["int8", "float"] | None = None,
    adapter: str | PathLike[str] | None = None,
    parts: Sequence[ModelPart] | None = None,
) -> Model: ...
def load(
    path_or_id: str | PathLike[str] | None = None,
    *,
    device: str = "auto",
    threads: int | None = None,
    kv_cache: Literal["f32", "f16", "int8"] = "f32",
    packing: Literal["bits2", "base3"] | None = None,
    gguf: str = "",
    activations: Literal["int8", "float"] | None = None,
    adapter: str | PathLike[str] | None = None,
    parts: Sequence[ModelPart] | None = None,
) -> Model | MlxModel:
    """Load a model: the embedded bitnet-tiny for None, a folder, a GGUF file, or a hub id.

    device is "auto" (Metal where its results are right, else the CPU), "cpu" or "metal", or "mlx" for a
    bitnet_rust.mlx.MlxModel, which takes a path and kv_cache alone; threads defaults to the physical
    cores this process may use. kv_cache is the type of keys and values, "f32" (loses nothing), "f16" or
    "int8"; packing that of ternary weights, "bits2" or "base3", by default the faster one. gguf decides
    what a GGUF file leaves open, "activation=silu,i2_s=64,pre=qwen2,pooling=last" or a part of it; the
    decisions of summary() say what was. activations is what ternary weights multiply, "int8" or "float",
    by default what the checkpoint says. adapter is a folder with the adapter_config.json and
    adapter_model.safetensors of LoRA, which runs beside the model. parts are ModelParts that run the
    layers one after another, with the same results.
    Raises ModelNotFoundError, CheckpointError, ConfigError, TokenizerError, HubError, OptionError;
    ImportError where MLX is asked for and missing.
    """
    options = {
        "threads": threads,
        "packing": packing,
        "gguf": gguf,
        "activations": activations,
        "adapter": adapter,
        "parts": parts,
    }
    if device != "mlx":
        return _native.load(path_or_id, device=device, kv_cache=kv_cache, **options)  # type: ignore[arg-type]
    from bitnet_rust.mlx.mlx_model import MlxModel

    for name, value in options.items():
        if value not in (None, ""):
            raise OptionError(f"{name} does not go with the device mlx")
    return MlxModel(path_or_id, kv_cache=kv_cache)
