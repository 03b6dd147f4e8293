"""Run BitNet b1.58 models: ternary weights, int8 activations, no PyTorch.

```python
import bitnet_rust as bn

model = bn.load()  # the embedded model; or bn.load("path/or/hub-id")
print(model.generate("My fellow citizens, today we", max_tokens=32))
```
"""

from bitnet_rust import quant
from bitnet_rust._errors import (
    BitNetError,
    ChatTemplateError,
    CheckpointError,
    ConfigError,
    ContextLengthError,
    DeviceError,
    DTypeError,
    FileError,
    FilePermissionError,
    HubError,
    MissingFileError,
    ModelNotFoundError,
    OptionError,
    OutOfMemoryError,
    OutOfRangeError,
    PromptError,
    QuantizationError,
    ShapeError,
    TokenizerError,
)
from bitnet_rust._native import (
    Chunk,
    Generation,
    MemoryStats,
    Model,
    ModelConfig,
    Stream,
    Tensor,
    TernaryMatrix,
    Timings,
    Tokenizer,
    __version__,
    convert,
    load,
    memory_stats,
    memory_trim,
    quantize_activations,
    quantize_weights,
    verify,
)

__all__ = [
    "BitNetError",
    "ChatTemplateError",
    "CheckpointError",
    "Chunk",
    "ConfigError",
    "ContextLengthError",
    "DTypeError",
    "DeviceError",
    "FileError",
    "FilePermissionError",
    "Generation",
    "HubError",
    "MemoryStats",
    "MissingFileError",
    "Model",
    "ModelConfig",
    "ModelNotFoundError",
    "OptionError",
    "OutOfMemoryError",
    "OutOfRangeError",
    "PromptError",
    "QuantizationError",
    "ShapeError",
    "Stream",
    "Tensor",
    "TernaryMatrix",
    "Timings",
    "Tokenizer",
    "TokenizerError",
    "__version__",
    "convert",
    "load",
    "memory_stats",
    "memory_trim",
    "quant",
    "quantize_activations",
    "quantize_weights",
    "verify",
]
