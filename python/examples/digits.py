"""A network of ternary weights learns scikit-learn's handwritten digits, in a training loop of one's own.

python digits.py    (needs scikit-learn beside bitnet-rust)
"""

from __future__ import annotations

import bitnet_rust as bn
import numpy as np
from bitnet_rust.nn import functional as F  # noqa: N812
from sklearn.datasets import load_digits

EPOCHS = 30
BATCH = 64


class Mlp(bn.nn.Module):
    """Two hidden layers; every weight of a product is -1, 0 or +1 times one scale for each layer."""

    def __init__(self) -> None:
        self.layers = [bn.nn.BitLinear(64, 256), bn.nn.BitLinear(256, 256), bn.nn.BitLinear(256, 10)]
        self.norms = [bn.nn.RMSNorm(256), bn.nn.RMSNorm(256)]

    def forward(self, x: bn.Tensor) -> bn.Tensor:
        """Return logits [batch, 10] of pixels [batch, 64]."""
        for layer, norm in zip(self.layers, self.norms, strict=False):
            x = F.relu2(norm(layer(x)))
        y: bn.Tensor = self.layers[-1](x)
        return y


def main() -> float:
    """Train, and return the share of test digits that the network tells right."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    random = np.random.default_rng(0)
    order = random.permutation(len(x))
    train, test = order[360:], order[:360]
    model = Mlp()
    steps = EPOCHS * (len(train) // BATCH)
    optimizer = bn.optim.AdamW(model.parameters())
    recipe = bn.optim.Recipe("b1.58", steps, peak=3e-3)
    # The loop.
    for step in range(steps):
        batch = random.choice(train, BATCH, replace=False)
        loss = F.cross_entropy(model(bn.Tensor(x[batch])), y[batch])
        optimizer.zero_grad()
        loss.backward()
        bn.optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.lr, optimizer.weight_decay = recipe.lr(step), recipe.weight_decay(step)
        optimizer.step()
    with bn.no_grad():
        told = model(bn.Tensor(x[test])).argmax(-1)
    return float(np.mean(np.asarray(told) == y[test]))


if __name__ == "__main__":
    print(f"test accuracy: {main():.1%}")
