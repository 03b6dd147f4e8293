"""Run BitNet b1.58 models: ternary weights, int8 activations, no PyTorch.

```python
import bitnet_rust as bn

model = bn.load()  # the embedded model; or bn.load("path/or/hub-id")
print(model.generate("My fellow citizens, today we", max_tokens=32))
```
"""

from bitnet_rust import quant, testing
from bitnet_rust._backend import Backend, BackendSession
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
    Model,
    ModelCache,
    ModelConfig,
    Stream,
    Tensor,
    TernaryMatrix,
    Timings,
    Tokenizer,
    Work,
    __version__,
    convert,
    load,
    quantize_activations,
    quantize_weights,
    verify,
)

__all__ = [
    "Backend",
    "BackendSession",
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
    "MissingFileError",
    "Model",
    "ModelCache",
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
    "Work",
    "__version__",
    "convert",
    "load",
    "quant",
    "quantize_activations",
    "quantize_weights",
    "testing",
    "verify",
]
