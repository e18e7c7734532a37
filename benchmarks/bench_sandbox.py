"""What the sandbox costs, for each backend that works here, against a plain interpreter.

    start     until the first step has run: the interpreter alone, and the sandbox with one step
    step      one further step: a plain interpreter fed through a pipe, and the sandbox

What is not covered: host tools, and steps with large output or many files.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import median, show

from toolsmith.sandbox import Backend, SandboxUnavailable, choose_backend
from toolsmith.sandbox.executor import SandboxExecutor

STARTS = 15
STEPS = 200
PLAIN = "import sys\nspace = {}\nfor line in sys.stdin:\n    exec(line, space)\n    print('done', flush=True)"


def backends() -> list[Backend]:
    found = []
    for name in ("bubblewrap", "landlock"):
        try:
            found.append(choose_backend(name))
        except SandboxUnavailable as exc:
            print(f"  {name} is left out: {str(exc).splitlines()[0]}")
    return found


def start(backend: Backend, folder: Path) -> None:
    with SandboxExecutor(folder, backend=backend) as executor:
        executor("x = 1")


def step_plain() -> float:
    command = [sys.executable, "-c", PLAIN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as plain:
        assert plain.stdin is not None
        assert plain.stdout is not None
        line, back = plain.stdin, plain.stdout

        def step() -> None:
            print("x = 1", file=line, flush=True)
            back.readline()

        step()
        taken = median(step, STEPS)
        line.close()
    return taken


def step(backend: Backend, folder: Path) -> float:
    with SandboxExecutor(folder, backend=backend) as executor:
        executor("x = 1")
        return median(lambda: executor("x = 1"), STEPS)


def main() -> None:
    found = backends()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain = [sys.executable, "-c", "x = 1"]
        starts = {"start: plain": median(lambda: subprocess.run(plain, check=True), STARTS)}
        starts |= {f"start: {b.name}": median(lambda b=b: start(b, folder), STARTS) for b in found}  # type: ignore[misc]
        show(starts, against="start: plain")
        steps = {"step: plain": step_plain()} | {f"step: {b.name}": step(b, folder) for b in found}
        show(steps, against="step: plain")


if __name__ == "__main__":
    main()
