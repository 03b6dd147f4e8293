"""PyTorch in a process of its own, which prints one JSON object.

python -m torch_training.child RUN VARIANT STEPS THREADS
"""

from __future__ import annotations

import json
import resource
import sys
from itertools import islice
from pathlib import Path

import torch
from compare.child import use_cpus

from torch_training.model import loss
from torch_training.recipe import Recipe
from torch_training.speed import WARM_UP, Speed, peak_bytes
from torch_training.training import Data, Training


def main() -> None:
    run, variant, steps, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    use_cpus(threads)
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    compute_loss = torch.compile(loss) if variant == "compiled" else loss
    training = Training(run, Recipe(steps), compute_loss)
    lines = [training.advance(batch) for batch in islice(Data(run).batches("data", 0), steps)]
    speeds = [line["tokens_per_s"] for line in lines[WARM_UP:]]
    memory = peak_bytes(resource.getrusage(resource.RUSAGE_SELF))
    print(json.dumps(Speed.of(speeds, memory, lines[-1]["loss"]).__dict__))


if __name__ == "__main__":
    main()
