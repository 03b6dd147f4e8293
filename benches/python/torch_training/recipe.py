"""Learning rate and weight decay of the recipe `b1.58`: those of `bitnet_training::optim::Recipe`."""

from __future__ import annotations

from dataclasses import dataclass

WARMUP = 375


@dataclass(frozen=True)
class Recipe:
    """Two stages; steps are counted from 0."""

    steps: int
    peak: float = 1.5e-3

    def learning_rate(self, step: int) -> float:
        half, warmup = self.steps // 2, min(WARMUP, self.steps // 20)
        if step < warmup:
            return self.peak * (step + 1) / warmup
        if step < half:
            left = 1 - (step - warmup) / max(half - warmup, 1)
            return self.peak * (8 / 15 + (1 - 8 / 15) * left)
        return self.peak / 3 * (1 - (step - half) / max(self.steps - half, 1))

    def weight_decay(self, step: int) -> float:
        return 0.1 if step < self.steps // 2 else 0.0
