"""Run one prompt from Python and print what happens as it happens: python watch.py "…"

A view is anything that is called with each event and closed at the end.
"""

import sys
from pathlib import Path

from orchestrator_cli.errors import OrchError
from orchestrator_cli.events import Event
from orchestrator_cli.orchestrator import run_prompt
from orchestrator_cli.runtime import checked_prompt, open_house
from orchestrator_cli.settings import load_settings


class Watch:
    def __call__(self, event: Event) -> None:
        sys.stderr.write(f"{event.seq:>4}  {event.kind}\n")

    def close(self) -> None:
        sys.stderr.write("      closed\n")


def main(prompt: str) -> int:
    settings = load_settings({"max_calls": 50}, Path.cwd())
    try:
        with open_house(settings, [Watch()]) as house:
            result = run_prompt(checked_prompt(prompt, settings.home), house)
    except OrchError as exc:
        sys.stderr.write(f"{exc}\n")
        return exc.exit_code
    sys.stdout.write(f"{result.answer}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
