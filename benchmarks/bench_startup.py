"""How long until `orch` says something, against what importing LiteLLM alone takes.

python            an interpreter that does nothing
import litellm    without the price list that it would fetch
orch --version, orch --help
"""

import os
import subprocess
import sys
from pathlib import Path

from measuring import median, show

REPEAT = 7


def main() -> None:
    orch = str(Path(sys.executable).with_name("orch"))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import litellm": [sys.executable, "-c", "import litellm"],
        "orch --version": [orch, "--version"],
        "orch --help": [orch, "--help"],
    }
    env = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}

    def take(command: list[str]) -> float:
        return median(lambda: subprocess.run(command, check=True, capture_output=True, env=env), REPEAT)

    for command in commands.values():
        subprocess.run(command, check=True, capture_output=True, env=env)  # files into the cache
    show({name: take(command) for name, command in commands.items()}, against="import litellm")


if __name__ == "__main__":
    main()
