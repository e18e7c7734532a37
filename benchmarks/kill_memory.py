"""Memory under kills: python -m benchmarks.kill_memory [--rounds 20] [--server]

Each round: eight processes write to one new folder at once and two of them are killed with SIGKILL at a
different moment each time, while another process searches without a pause. Afterwards all that was
acknowledged is looked for.

    lost           acknowledged and not there: has to be 0
    doubled        there twice: has to be 0
    under way      there and not acknowledged: at most the batch that each killed one was writing
    read p95       how long a search took among all of that, with its waiting

With `--server`, they write to the client's local mode behind HTTP, which is away from time to time.

What is not covered: power cuts; the engine of a real server.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.measuring import use_test_parts


def main() -> int:
    use_test_parts()
    from concurrency import eight_writers_two_killed
    from qdrant_face import QdrantFace

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--server", action="store_true")
    options = parser.parse_args()
    reads: list[float] = []
    acknowledged = lost = doubled = under_way = aside = 0
    for turn in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder, QdrantFace() as face:
            server = face if options.server else None
            came = eight_writers_two_killed(Path(folder), batches=25, kill_at=1 + turn % 20, face=server)
        acknowledged += len(came.acknowledged)
        lost += len(came.lost)
        doubled += came.doubled
        under_way += came.unacknowledged
        aside += came.set_aside
        reads += came.reads_s
        print(f"  round {turn + 1}: {len(came.acknowledged)} acknowledged, {len(came.lost)} lost", flush=True)
    print(f"  {options.rounds} rounds: {acknowledged} acknowledged, {lost} lost, {doubled} doubled,", end=" ")
    print(f"{under_way} under way at a kill, {aside} shards put aside")
    p95 = statistics.quantiles(reads, n=20)[-1]
    print(
        f"  {len(reads)} reads: median {1000 * statistics.median(reads):.0f} ms, p95 {1000 * p95:.0f} ms,",
        end="",
    )
    print(f" longest {1000 * max(reads):.0f} ms")
    return int(lost > 0 or doubled > 0 or aside > 0)


if __name__ == "__main__":
    sys.exit(main())
