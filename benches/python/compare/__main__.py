"""`make bench-compare BENCH_ARGS="MODEL ..."`: measure every engine that is installed, and report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from compare.checkpoint import Checkpoint
from compare.child import measure_in_child
from compare.peers import PEERS, Peer
from compare.report import figure, machine, to_json, to_markdown, to_table
from compare.row import Comparison, Request, Skipped


def main() -> None:
    options = parse(sys.argv[1:])
    options.work.mkdir(parents=True, exist_ok=True)
    comparison = Comparison(machine(), Checkpoint(options.model).describe())
    for peer in PEERS:
        if options.engines is None or peer.name in options.engines:
            compare(peer, requests(peer, options), comparison)
    print(to_table(comparison))
    report(comparison, options)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("compare", description=__doc__)
    parser.add_argument("model", type=Path, help="a packed checkpoint, dialect of bitnet-b1.58-2B-4T")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt test")
    parser.add_argument("--generated", type=int, default=128, help="tokens of the generation test")
    parser.add_argument("--repetitions", type=int, default=5, help="timed runs of each test")
    parser.add_argument("--engines", nargs="+", choices=[peer.name for peer in PEERS], help="only these")
    parser.add_argument(
        "--work", type=Path, default=Path("target/compare"), help="folder for converted files"
    )
    parser.add_argument("--json", type=Path, help="write every number to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    parser.add_argument("--chart", type=Path, help="draw bars into this file (.svg, .png)")
    return parser.parse_args(arguments)


def requests(peer: Peer, options: argparse.Namespace) -> Iterator[Request]:
    for weights in peer.weights:
        for threads in options.threads:
            tests = options.prompt, options.generated, options.repetitions
            yield Request(options.model, weights, threads, *tests, options.work)


def compare(peer: Peer, asked: Iterator[Request], comparison: Comparison) -> None:
    """Add the rows of one engine, or why there are none."""
    missing = peer.missing()
    for request in asked:
        if missing:
            reason = f"not installed: {', '.join(missing)}"
            comparison.skipped.append(Skipped(peer.name, request.weights, request.threads, reason))
            continue
        print(f"{peer.engine()}, {request.weights}, threads {request.threads} ...", file=sys.stderr)
        rows, skipped = measure_in_child(peer.module, peer.engine(), request)
        for row in rows:
            print(f"  {row.test}: {figure(row.tokens_per_s.median)} tokens/s", file=sys.stderr)
        comparison.rows.extend(rows)
        comparison.skipped.extend([skipped] if skipped else [])


def report(comparison: Comparison, options: argparse.Namespace) -> None:
    """Write the files that were asked for."""
    if options.json:
        options.json.write_text(to_json(comparison), encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(to_markdown(comparison), encoding="utf-8")
    if options.chart:
        # Only a chart needs matplotlib.
        from compare.chart import write_chart

        write_chart(comparison, options.chart)


if __name__ == "__main__":
    main()
