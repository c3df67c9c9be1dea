"""As many random programs as one likes: `python -m random_programs --help`, with tests/ on PYTHONPATH."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

from programs import text
from random_programs.check import check
from random_programs.coverage import Coverage
from random_programs.generate import distinct
from random_programs.shrink import smaller


def main() -> int:
    parser = argparse.ArgumentParser(prog="random_programs", description=__doc__)
    parser.add_argument("--examples", type=int, default=2000, help="programs that are not equal to an earlier one")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--start", type=int, default=0, help="number of the first one, to go on behind an earlier run")
    parser.add_argument("--batch", type=int, default=100, help="programs of one compile")
    parser.add_argument("--own", type=int, default=0, metavar="N", help="compile every Nth batch as the product does")
    parser.add_argument("--smaller", type=int, default=5, metavar="N", help="make the first N that are wrong smaller")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no new batch after this time")
    parser.add_argument("--log", type=Path, help="a file to append a line of JSON to after each batch")
    given = parser.parse_args()
    known: set[bytes] = set()
    if given.log and given.log.exists():
        for line in given.log.read_text().splitlines():
            known.update(bytes.fromhex(digest) for digest in json.loads(line)["digests"])
    coverage, findings, counts = Coverage(), 0, Counter()
    number, batches, started = given.start, 0, time.monotonic()
    while counts["right"] < given.examples and time.monotonic() - started < given.seconds:
        batches += 1
        own = bool(given.own) and batches % given.own == 0
        first = number
        size = given.batch // 4 if own else given.batch
        examples, number = distinct(given.seed, number, size, known, large=own)
        outcome = check(examples, own)
        counts.update(right=len(outcome.right), looked_at=len(outcome.looked_at), refused=len(outcome.refused))
        counts.update(failed=len(outcome.failed), rejected=len(outcome.rejected))
        coverage.add(outcome.right)
        for finding in outcome.findings:
            findings += 1
            if findings <= given.smaller:
                finding = smaller(finding, own)
            print(f"seed {given.seed}, among {first} to {number}: {finding.said}", flush=True)
            print(text(finding.example.program), flush=True)
            print("choices:", list(finding.example.choices), finding.example.large, flush=True)
        if given.log:
            line = {
                "seed": given.seed, "first": first, "next": number, "own": own, "right": len(outcome.right),
                "looked_at": len(outcome.looked_at), "refused": outcome.refused,
                "failed": [[f.said, list(f.example.choices)] for f in outcome.failed],
                "rejected": [[f.said, list(f.example.choices), f.example.large] for f in outcome.rejected],
                "wrong": [[f.said, list(f.example.choices), f.example.large] for f in outcome.findings],
                "digests": [each.digest.hex() for each in outcome.right],
            }  # fmt: skip
            with given.log.open("a") as file:
                file.write(json.dumps(line) + "\n")
        seconds = time.monotonic() - started
        print(f"{counts['right']} right in {seconds:.0f} s, {findings} wrong, next number {number}", flush=True)
    print(coverage.summary())
    print(
        f"{counts['looked_at']} judged by instruction; the lowering refused {counts['refused']}, IREE "
        f"{counts['rejected']}, MIGraphX failed at {counts['failed']}; {findings} wrong"
    )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
