"""BitNet models on MLX arrays, with the logits they were trained for: int8 activations and all.

```python
import bitnet_rust as bn
from bitnet_rust.mlx import MlxBackend

with bn.Engine("path", backend=MlxBackend("path")) as engine:
    print(engine.submit("It is time", max_tokens=32).result())
```

`load` and `load_model` give models for mlx-lm, `nn` the layers. It needs `pip install 'bitnet-rust[mlx]'`.
"""

try:
    import mlx.core as _mlx  # noqa: F401
except ImportError as error:
    raise ImportError("bitnet_rust.mlx needs MLX: pip install 'bitnet-rust[mlx]'") from error

from bitnet_rust.mlx import nn
from bitnet_rust.mlx.backend import MlxBackend, MlxSession
from bitnet_rust.mlx.config import ModelArgs
from bitnet_rust.mlx.loading import load, load_model, save_model
from bitnet_rust.mlx.mlx_model import MlxModel
from bitnet_rust.mlx.model import Model

__all__ = [
    "MlxBackend",
    "MlxModel",
    "MlxSession",
    "Model",
    "ModelArgs",
    "load",
    "load_model",
    "nn",
    "save_model",
]
