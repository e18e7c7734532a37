"""Stands in for the client of a container engine: takes Docker's arguments, and confines with bubblewrap.

Run as `python engine.py FOLDER WORD...`; FOLDER keeps what a daemon would know.
"""

# ruff: noqa: T201  (printing is what a client does)

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from toolsmith.sandbox import proctree


def main() -> None:
    folder, word, *rest = sys.argv[1:]
    if word == "version":
        print("27.0")
    elif word == "image":
        print("sha256:0")
    elif word == "run":
        run(Path(folder), rest)
    else:
        manage(Path(folder), word, rest)


def run(folder: Path, words: list[str]) -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for flag in ("--rm", "--interactive", "--read-only"):
        parser.add_argument(flag, action="store_true", required=True)
    for option in ("name", "pull", "network", "cap-drop", "security-opt", "hostname", "log-driver", "memory"):
        parser.add_argument(f"--{option}", required=True)
    for option in ("memory-swap", "pids-limit", "shm-size", "tmpfs", "user", "workdir", "entrypoint"):
        parser.add_argument(f"--{option}", required=True)
    for option in ("mount", "env"):
        parser.add_argument(f"--{option}", action="append", required=True)
    parser.add_argument("image")
    options, command = parser.parse_known_args(words)
    report = os.open(folder / options.name, os.O_CREAT | os.O_WRONLY, 0o600)
    os.set_inheritable(report, True)
    command = [sys.executable if part == "python3" else part for part in command]
    bwrap = ["bwrap", "--unshare-all", "--as-pid-1", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    bwrap += ["--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    for name in ("bin", "lib", "lib64"):
        bwrap += ["--symlink", f"usr/{name}", f"/{name}"]
    for prefix in (sys.prefix, sys.base_prefix):
        bwrap += ["--ro-bind", prefix, prefix]
    for mount in options.mount:
        given = dict(part.partition("=")[::2] for part in mount.split(","))
        bwrap += ["--ro-bind" if "readonly" in given else "--bind", given["source"], given["target"]]
    for pair in options.env:
        name, _, value = pair.partition("=")
        bwrap += ["--setenv", name, value or os.environ[name]]
    bwrap += ["--remount-ro", "/", "--chdir", options.workdir, "--info-fd", str(report), "--"]
    os.execvp("bwrap", [*bwrap, options.entrypoint, *command])


def manage(folder: Path, word: str, rest: list[str]) -> None:
    name = next(part for part in rest if part.startswith("orch-"))
    first = int(json.loads((folder / name).read_text())["child-pid"])
    if word == "top":
        print("PID", *proctree.tree(first), sep="\n")
    elif word == "kill":
        os.kill(first, getattr(signal, f"SIG{rest[rest.index('--signal') + 1]}"))
    elif word == "rm":
        os.kill(first, signal.SIGKILL)
    else:
        number = {"pause": signal.SIGSTOP, "unpause": signal.SIGCONT}[word]
        for pid in proctree.tree(first):
            os.kill(pid, number)


if __name__ == "__main__":
    main()
