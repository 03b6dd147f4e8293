from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, Final, Literal, SupportsIndex, final, overload

import numpy as np
import numpy.typing as npt

__all__ = [
    "FORMATS",
    "Chunk",
    "ErrorMetrics",
    "Generation",
    "IntMatrix",
    "Model",
    "ModelConfig",
    "Recommendation",
    "Statistics",
    "Stream",
    "TernaryMatrix",
    "Timings",
    "Tokenizer",
    "__version__",
    "load",
    "measure_error",
    "pack",
    "packed_size",
    "quantize_activations",
    "quantize_int",
    "quantize_weights",
    "recommend",
    "run_cli",
    "unpack",
]

__version__: Final[str]

FORMATS: Final[tuple[str, ...]]

_Floats = npt.NDArray[np.floating[Any]]
_Format = Literal["hf", "i2_s", "i2_s_arm", "tq1_0", "tq2_0", "q2_0", "iq1_bn", "iq2_bn", "base3", "bitmap"]
_Precision = Literal["absmean", "absmedian", "threshold", "sign", "int2", "int4", "int8", "float"]
_Rounding = Literal["half_even", "half_away", "stochastic"]
_Rule = Literal["absmean", "absmedian", "threshold", "sign"]

def load(
    path_or_id: str | PathLike[str] | None = None,
    *,
    device: str = "auto",
    threads: int | None = None,
    kv_cache: Literal["f32", "f16", "int8"] = "f32",
    packing: Literal["bits2", "base3"] | None = None,
) -> Model: ...
def quantize_weights(
    w: npt.ArrayLike,
    *,
    rule: _Rule = "absmean",
    granularity: Literal["tensor", "row"] | int | None = None,
    rounding: _Rounding = "half_even",
    seed: int | None = None,
) -> TernaryMatrix: ...
def quantize_activations(
    x: npt.ArrayLike,
    *,
    granularity: Literal["tensor", "token"] | int | None = None,
    rounding: _Rounding = "half_even",
    seed: int | None = None,
    clip: float | None = None,
    percentile: float | None = None,
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]: ...
def quantize_int(
    w: npt.ArrayLike,
    *,
    bits: Literal[2, 4, 8] = 8,
    symmetric: bool = True,
    granularity: Literal["tensor", "row"] | int | None = None,
    rounding: _Rounding = "half_even",
    seed: int | None = None,
    clip: float | None = None,
    percentile: float | None = None,
) -> IntMatrix: ...
def pack(matrix: TernaryMatrix, format: _Format) -> npt.NDArray[np.uint8]: ...
def unpack(
    data: npt.ArrayLike,
    shape: tuple[int, int],
    format: _Format,
    *,
    scale: float | _Floats | None = None,
    group: int | None = None,
) -> TernaryMatrix: ...
def packed_size(shape: tuple[int, int], format: _Format) -> int: ...
def measure_error(reference: npt.ArrayLike, approximation: npt.ArrayLike) -> ErrorMetrics: ...
def recommend(
    weights: Mapping[str, npt.ArrayLike],
    inputs: Mapping[str, npt.ArrayLike] | None = None,
    *,
    min_sqnr_db: float | None = None,
    min_cosine: float | None = None,
    precisions: Sequence[_Precision] | None = None,
) -> list[Recommendation]: ...
def run_cli(args: Sequence[str]) -> int: ...

@final
class Model:
    @property
    def config(self) -> ModelConfig: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    def summary(self) -> dict[str, Any]: ...
    def apply_chat_template(
        self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> str: ...
    def logits(self, ids: Iterable[SupportsIndex]) -> npt.NDArray[np.float32]: ...
    def perplexity(self, text: str, window: int = 512, max_windows: int | None = None) -> float: ...
    def generate(
        self,
        prompt: str | Iterable[SupportsIndex],
        *,
        max_tokens: int = 128,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: str | Iterable[str] = (),
    ) -> Generation: ...
    def stream(
        self,
        prompt: str | Iterable[SupportsIndex],
        *,
        max_tokens: int = 128,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: str | Iterable[str] = (),
    ) -> Stream: ...

@final
class ModelConfig:
    @property
    def architecture(self) -> str: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def num_hidden_layers(self) -> int: ...
    @property
    def num_attention_heads(self) -> int: ...
    @property
    def num_key_value_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def hidden_act(self) -> str: ...
    @property
    def max_position_embeddings(self) -> int: ...
    @property
    def rms_norm_eps(self) -> float: ...
    @property
    def rope_theta(self) -> float: ...
    @property
    def tie_word_embeddings(self) -> bool: ...
    @property
    def bos_token_id(self) -> int | None: ...
    @property
    def eos_token_ids(self) -> list[int]: ...
    @property
    def scale_sense(self) -> str | None: ...

@final
class Tokenizer:
    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]: ...
    def decode(self, ids: Iterable[SupportsIndex], skip_special_tokens: bool = True) -> str: ...
    @property
    def vocab_size(self) -> int: ...

@final
class Timings:
    @property
    def prefill_s(self) -> float: ...
    @property
    def decode_s(self) -> float: ...
    @property
    def prefill_tokens_per_s(self) -> float: ...
    @property
    def decode_tokens_per_s(self) -> float: ...

@final
class Generation:
    @property
    def text(self) -> str: ...
    @property
    def token_ids(self) -> list[int]: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...
    @property
    def finish_reason(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def timings(self) -> Timings: ...

@final
class Chunk:
    @property
    def text(self) -> str: ...
    @property
    def token_id(self) -> int | None: ...

@final
class Stream:
    def __iter__(self) -> Stream: ...
    def __next__(self) -> Chunk: ...
    @property
    def generation(self) -> Generation: ...

@final
class TernaryMatrix:
    def __new__(
        cls, codes: npt.NDArray[np.int8], scale: float | _Floats, *, group: int | None = None
    ) -> TernaryMatrix: ...
    @staticmethod
    def from_packed(packed: npt.NDArray[np.uint8], rows: int, scale: float) -> TernaryMatrix: ...
    @property
    def codes(self) -> npt.NDArray[np.int8]: ...
    @property
    def packed(self) -> npt.NDArray[np.uint8]: ...
    @property
    def scale(self) -> float: ...
    @property
    def scales(self) -> npt.NDArray[np.float32]: ...
    @property
    def granularity(self) -> Literal["tensor", "row"] | int: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    def dequantize(self) -> npt.NDArray[np.float32]: ...
    @overload
    def matmul(self, x: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]: ...
    @overload
    def matmul(self, x: _Floats) -> npt.NDArray[np.float32]: ...

@final
class IntMatrix:
    @property
    def codes(self) -> npt.NDArray[np.int8]: ...
    @property
    def packed(self) -> npt.NDArray[np.uint8]: ...
    @property
    def scales(self) -> npt.NDArray[np.float32]: ...
    @property
    def zero_points(self) -> npt.NDArray[np.int8]: ...
    @property
    def bits(self) -> int: ...
    @property
    def granularity(self) -> Literal["tensor", "row"] | int: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    def dequantize(self) -> npt.NDArray[np.float32]: ...

@final
class ErrorMetrics:
    @property
    def mse(self) -> float: ...
    @property
    def sqnr_db(self) -> float: ...
    @property
    def cosine(self) -> float: ...
    @property
    def max_abs(self) -> float: ...

@final
class Statistics:
    def __new__(cls) -> Statistics: ...
    def add(self, x: npt.ArrayLike) -> None: ...
    @property
    def count(self) -> int: ...
    @property
    def min(self) -> float: ...
    @property
    def max(self) -> float: ...
    @property
    def absmax(self) -> float: ...
    @property
    def absmean(self) -> float: ...
    @property
    def mean(self) -> float: ...
    @property
    def std(self) -> float: ...
    @property
    def zero_share(self) -> float: ...
    def quantile(self, q: float) -> float: ...
    def histogram(
        self,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.uint64]]: ...

@final
class Recommendation:
    @property
    def name(self) -> str: ...
    @property
    def precision(self) -> _Precision: ...
    @property
    def bits(self) -> float: ...
    @property
    def errors(self) -> dict[str, ErrorMetrics]: ...
