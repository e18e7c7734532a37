"""Run the benchmarks one after the other: python -m benchmarks [--large] [NAME ...]

Each prints its own figures. Times depend on the machine; the ratios, taken within one run, hardly do.
"""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = (
    "startup",
    "sandbox",
    "workspace",
    "overhead",
    "makespan",
    "subtasks",
    "crowd",
    "worfbench",
    "recall",
    "locomo",
    "documents",
    "tools",
    "knowledge",
    "learning",
)
HAVE_LARGE = ("workspace", "subtasks", "worfbench", "recall", "tools", "knowledge")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; without any, all")
    parser.add_argument("--large", action="store_true", help="also the sizes that take minutes")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    failed = 0
    for name in options.names or NAMES:
        print(f"--- {name}", flush=True)
        flags = ["--large"] if options.large and name in HAVE_LARGE else []
        command = [sys.executable, str(HERE / f"bench_{name}.py"), *flags]
        failed += subprocess.run(command, check=False).returncode != 0
        print(flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
