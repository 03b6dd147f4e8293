"""`python -m torch_training speed|curve`: see `make bench-train` and `make train-curve`."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    options = parse()
    if options.command == "speed":
        from torch_training.speed import compare_speed

        compare_speed(options)
    else:
        # Only this one needs PyTorch in the process itself.
        from torch_training.curve import compare_curves

        options.work.mkdir(parents=True, exist_ok=True)
        compare_curves(options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser("torch_training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    speed = commands.add_parser("speed", help="tokens per second of a step and peak memory, in turns")
    speed.add_argument("--fma-peak", required=True, help="the program that measures the peak of this machine")
    speed.add_argument("--steps", type=int, default=20, help="steps of each process")
    speed.add_argument("--rounds", type=int, default=3, help="processes of each kind")
    curve = commands.add_parser("curve", help="the losses of both on a text")
    curve.add_argument("--text", type=Path, required=True, help="its last tenth is held out")
    curve.add_argument("--steps", type=int, default=1500, help="steps of 2048 tokens")
    curve.add_argument("--seed", type=int, default=0)
    curve.add_argument("--work", type=Path, required=True, help="folder of both runs")
    for command in (speed, curve):
        command.add_argument("--bitnet", required=True, help="the program `bitnet`")
        command.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
