"""One engine in a process of its own: clean memory, its thread count set before anything is imported.

`python -m compare.child MODULE ENGINE REQUEST` prints one JSON row per line. If it fails, the last error it
wrote to stderr is the reason.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys

from compare.row import Request, Row, Skipped

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
# A checkpoint is a folder; nothing is looked up elsewhere.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def measure_in_child(module: str, engine: str, request: Request) -> tuple[list[Row], Skipped | None]:
    """The rows that the process printed, and why it printed no more if it failed."""
    environment = dict.fromkeys(THREAD_VARIABLES, str(request.threads))
    done = subprocess.run(
        [sys.executable, "-m", "compare.child", module, engine, request.to_json()],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment, **OFFLINE},
    )
    # Libraries print to stdout as well.
    rows = [Row.from_json(line) for line in done.stdout.splitlines() if line.startswith('{"engine"')]
    if done.returncode == 0:
        return rows, None
    return rows, Skipped(engine, request.weights, request.threads, reason(done.returncode, done.stderr))


def reason(status: int, stderr: str) -> str:
    """The line that says why a process failed."""
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    # Some programs say how to get help after the error.
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or [f"ended with status {status}"])[-1]


def use_cpus(count: int) -> None:
    """Confine the process to `count` CPUs where the system can: some engines have no thread setting."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def main() -> None:
    module, engine, text = sys.argv[1:]
    request = Request.from_json(text)
    use_cpus(request.threads)
    for row in importlib.import_module(f"compare.{module}").rows(request, engine):
        print(row.to_json(), flush=True)


if __name__ == "__main__":
    main()
