"""Layers for training loops of one's own: parameters, modules, and operations with gradients.

```python
import bitnet_rust as bn
from bitnet_rust.nn import functional as F

class Mlp(bn.nn.Module):
    def __init__(self):
        self.up = bn.nn.BitLinear(64, 256)
        self.down = bn.nn.BitLinear(256, 10)

    def forward(self, x):
        return self.down(F.relu2(self.up(x)))
```
"""

from bitnet_rust._native import Parameter, manual_seed
from bitnet_rust.nn import functional
from bitnet_rust.nn.embedding import Embedding
from bitnet_rust.nn.linear import BitLinear, Linear
from bitnet_rust.nn.module import Module
from bitnet_rust.nn.norm import RMSNorm

__all__ = [
    "BitLinear",
    "Embedding",
    "Linear",
    "Module",
    "Parameter",
    "RMSNorm",
    "functional",
    "manual_seed",
]
