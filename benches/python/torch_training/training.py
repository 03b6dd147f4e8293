"""A training step, and a run of them, by PyTorch."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from torch_training.model import Config, Parameters, is_decayed, loss, read_parameters
from torch_training.order import order
from torch_training.recipe import Recipe
from torch_training.shape import ROWS, SEQ_LEN

Loss = Callable[[Parameters, Config, Tensor], Tensor]


class Training:
    """The first model of a run of `bitnet train`, and AdamW, clipped to a norm of 1."""

    def __init__(self, run: Path, recipe: Recipe, compute_loss: Loss = loss) -> None:
        self.config = Config.read(run / "model" / "config.json")
        self.parameters = read_parameters(run / "checkpoints" / "step-00000000")
        self.recipe = recipe
        self.compute_loss = compute_loss
        names = sorted(self.parameters, key=is_decayed)
        groups = [[self.parameters[n] for n in names if is_decayed(n) == decays] for decays in (False, True)]
        self.optimizer = torch.optim.AdamW(
            [{"params": group} for group in groups], betas=(0.9, 0.95), eps=1e-8, fused=True
        )
        self.step = 0

    def advance(self, sequences: Tensor) -> dict[str, Any]:
        """One step; its line of metrics."""
        begun = time.perf_counter()
        undecayed, decayed = self.optimizer.param_groups
        undecayed["lr"] = decayed["lr"] = rate = self.recipe.learning_rate(self.step)
        undecayed["weight_decay"], decayed["weight_decay"] = 0.0, self.recipe.weight_decay(self.step)
        self.optimizer.zero_grad()
        value = self.compute_loss(self.parameters, self.config, sequences)
        value.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        self.step += 1
        figures = {"step": self.step, "loss": value.item(), "lr": rate, "grad_norm": norm.item()}
        tokens = sequences.shape[0] * (sequences.shape[1] - 1)
        return {**figures, "tokens_per_s": tokens / (time.perf_counter() - begun)}

    def evaluate(self, sequences: Tensor) -> float:
        """The loss of the model as it would be written: in bfloat16."""
        with torch.no_grad():
            rounded = {name: parameter.bfloat16().float() for name, parameter in self.parameters.items()}
            sums = [loss(rounded, self.config, part).item() * len(part) for part in sequences.split(ROWS)]
        return float(sum(sums) / len(sequences))


@dataclass(frozen=True)
class Data:
    """The tokens of a run, as its cache has them."""

    run: Path

    def sequences(self, name: str) -> Tensor:
        """`[sequences, tokens + 1]` of the file of that name. Raises ValueError for several documents."""
        (path,) = (self.run / "tokens").glob(f"{name}-*.safetensors")
        tensors = load_file(path)
        if len(tensors["documents"]) != 1 or "loss" in tensors:
            raise ValueError(f"{path}: must be one document, all of it learnt")
        return tensors["ids"].long().unfold(0, SEQ_LEN + 1, SEQ_LEN)

    def batches(self, name: str, seed: int) -> Iterator[Tensor]:
        """Without end."""
        sequences = self.sequences(name)
        epoch, places = 0, order(seed, 0, len(sequences))
        while True:
            while len(places) < ROWS:
                epoch += 1
                places += order(seed, epoch, len(sequences))
            chosen, places = places[:ROWS], places[ROWS:]
            yield sequences[chosen]


def train(run: Path, recipe: Recipe, seed: int, eval_every: int, metrics: Path) -> None:
    """Train what `run` began with on its data, and write a line of metrics for each step."""
    training, data = Training(run, recipe), Data(run)
    held_out = data.sequences("eval")
    with metrics.open("w", encoding="utf-8") as file:
        for sequences in data.batches("train", seed):
            line = training.advance(sequences)
            if training.step % eval_every == 0 or training.step == recipe.steps:
                line["eval_loss"] = training.evaluate(held_out)
            print(json.dumps(line), file=file, flush=True)
            if training.step == recipe.steps:
                return
