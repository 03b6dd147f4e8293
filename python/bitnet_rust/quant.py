"""Quantization: weights, activations, packed formats, errors, and which layer bears how few bits.

```python
import numpy as np
from bitnet_rust import quant

w = np.random.default_rng(0).standard_normal((512, 1024)).astype(np.float32)
ternary = quant.quantize_weights(w, rule="absmean", granularity="row")
print(quant.measure_error(w, ternary.dequantize()).sqnr_db)
data = quant.pack(ternary, "tq2_0")  # the bytes of a GGUF tensor
same = quant.unpack(data, ternary.shape, "tq2_0")
```
"""

from bitnet_rust._native import (
    FORMATS,
    ErrorMetrics,
    IntMatrix,
    LayerReport,
    QuantizationReport,
    Recommendation,
    Statistics,
    TernaryMatrix,
    measure_error,
    pack,
    packed_size,
    quantize_activations,
    quantize_int,
    quantize_weights,
    recommend,
    report,
    unpack,
)

__all__ = [
    "FORMATS",
    "ErrorMetrics",
    "IntMatrix",
    "LayerReport",
    "QuantizationReport",
    "Recommendation",
    "Statistics",
    "TernaryMatrix",
    "measure_error",
    "pack",
    "packed_size",
    "quantize_activations",
    "quantize_int",
    "quantize_weights",
    "recommend",
    "report",
    "unpack",
]
