"""Decoding with and without guesses of the next tokens, in turns, on a prompt that the text repeats.

    python benches/python/speculation.py MODEL [--prompt FILE] [--draft MODEL] [--tokens 128] [--threads 2]

The default prompt is a list written twice and begun a third time. Whether the text repeats it is up to the
model, and shown as the share of guesses that were right. The tokens must be the same in every run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

LIST = """\
The first of the rivers is the Danube, which flows from the Black Forest to the Black Sea.
The second of the rivers is the Rhine, which flows from the Alps to the North Sea.
The third of the rivers is the Elbe, which flows from the Giant Mountains to the North Sea.
The fourth of the rivers is the Rhone, which flows from the Alps to the Mediterranean Sea.
"""
PROMPT = LIST + "\n" + LIST + "\nThe first of the rivers"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a folder, a GGUF file, or a hub id")
    parser.add_argument("--prompt", type=Path, help="a file that holds the prompt")
    parser.add_argument("--draft", help="a smaller model, to guess in place of the prompt")
    parser.add_argument("--tokens", type=int, default=128, help="the most tokens to generate")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument(
        "--guesses", type=int, help="guesses of a step, rather than as many as are worth their time"
    )
    parser.add_argument("--program", type=Path, default=Path(sys.executable).with_name("bitnet"))
    return parser.parse_args()


def run(args: argparse.Namespace, *options: str) -> dict[str, Any]:
    """The report of `bitnet run`."""
    source = ["-p", PROMPT] if args.prompt is None else ["-f", str(args.prompt)]
    numbers = ["-n", str(args.tokens), "--threads", str(args.threads)]
    command = [str(args.program), "run", args.model, *source, *numbers, "--json", *options]
    report: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return report


def main() -> None:
    args = parse()
    guessing = ["--speculate", "lookup"] if args.draft is None else ["--draft", args.draft]
    if args.guesses is not None:
        guessing += ["--guesses", str(args.guesses)]
    speeds: dict[str, list[float]] = {"plain": [], "guessed": []}
    for _ in range(args.repetitions):
        plain, guessed = run(args), run(args, *guessing)
        assert plain["token_ids"] == guessed["token_ids"], "guesses changed the text"
        for name, report in (("plain", plain), ("guessed", guessed)):
            speeds[name].append(report["timings"]["decode_tokens_per_s"])
    guesses = guessed["guesses"]
    print(f"{plain['prompt_tokens']} tokens of prompt, {plain['completion_tokens']} of text")
    for name, values in speeds.items():
        print(f"{name}: {statistics.median(values):.1f} tokens/s, {min(values):.1f} to {max(values):.1f}")
    print(f"{guesses['accepted']} of {guesses['proposed']} guesses right")
    print(f"{statistics.median(speeds['guessed']) / statistics.median(speeds['plain']):.2f} times as fast")


if __name__ == "__main__":
    main()
