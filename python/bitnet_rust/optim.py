"""Optimizers, gradient clipping, and how learning rate and weight decay change over the steps.

```python
optimizer = bn.optim.AdamW(model.named_parameters())
recipe = bn.optim.Recipe("b1.58", steps=1000)
for step in range(1000):
    optimizer.lr, optimizer.weight_decay = recipe.lr(step), recipe.weight_decay(step)
    ...
```
"""

from bitnet_rust._native import SGD, AdamW, Optimizer, Recipe, Schedule, clip_grad_norm

__all__ = ["SGD", "AdamW", "Optimizer", "Recipe", "Schedule", "clip_grad_norm"]
