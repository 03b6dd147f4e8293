"""Counts the instructions of some kernels and compares them with the recorded ones.

Wall time depends on the neighbours of a machine; the number of instructions does not, so a kernel that
has got slower by its own doing shows here on any machine. valgrind counts; it knows AVX2 and nothing
later, so that is what is counted.

    python benches/python/instructions.py            compare, exit 1 where a kernel needs more
    python benches/python/instructions.py --record   write benches/record/instructions.json anew
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "benches" / "record" / "instructions.json"
# Not scalar: there the compiler alone decides what becomes of a loop.
ISAS = ("sse4.1", "avx2")
# Compilers differ a little from version to version.
TOLERANCE = 0.05


def build() -> str:
    """Builds the benchmark and returns the path of its executable."""
    command = ["cargo", "bench", "--locked", "-p", "bitnet-benchmarks", "--bench", "instructions", "--no-run"]
    command.append("--message-format=json-render-diagnostics")
    lines = subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.splitlines()
    messages = [json.loads(line) for line in lines]
    paths = [message["executable"] for message in messages if message.get("executable")]
    return str(paths[-1])


def count(executable: str, case: str, isa: str) -> int:
    """Counts the instructions of one case on one instruction set."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={folder}/out",
            "--collect-atstart=no",
            "--toggle-collect=*instructions*counted*",
            executable,
            case,
        ]
        env = os.environ | {"BITNET_ISA": isa}
        run = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    found = re.search(r"Collected : (\d+)", run.stderr)
    if run.returncode or not found or int(found[1]) == 0:
        sys.exit(f"valgrind could not count {case} on {isa}:\n{run.stderr}")
    return int(found[1])


def main() -> None:
    """Counts, and compares or records."""
    parser = argparse.ArgumentParser(description="count the instructions of some kernels")
    parser.add_argument("--record", action="store_true", help="write the counts, compare nothing")
    arguments = parser.parse_args()
    if not shutil.which("valgrind"):
        sys.exit("valgrind is not installed (Debian: apt install valgrind)")
    executable = build()
    cases = subprocess.run([executable], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    counts = {f"{case}/{isa}": count(executable, case, isa) for case in cases for isa in ISAS}
    if arguments.record:
        RECORD.write_text(json.dumps(counts, indent=2) + "\n")
        return
    recorded: dict[str, int] = json.loads(RECORD.read_text())
    worse = set(counts) ^ set(recorded)
    for name in sorted(set(counts) & set(recorded)):
        ratio = counts[name] / recorded[name]
        print(f"{name:24} {counts[name]:12,} {ratio - 1:+7.1%}")
        if ratio > 1 + TOLERANCE:
            worse.add(name)
    if worse:
        sys.exit(
            f"more than recorded, or not in both: {', '.join(sorted(worse))}; --record where that is meant"
        )


if __name__ == "__main__":
    main()
