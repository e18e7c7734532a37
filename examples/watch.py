"""Run one prompt from Python and print each event: python watch.py "…"

A view is anything that is called with each event and the run's state after it, and closed at the end.
"""

import sys
from pathlib import Path

from orchestrator_cli.errors import OrchError
from orchestrator_cli.events import Event
from orchestrator_cli.orchestrator import run_prompt
from orchestrator_cli.runtime import checked_prompt, open_run
from orchestrator_cli.settings import load_settings
from orchestrator_cli.state import RunState


class Watch:
    def __call__(self, event: Event, state: RunState) -> None:
        sys.stderr.write(f"{event.seq:>4}  {event.kind}  {len(state.results)} done\n")

    def close(self) -> None:
        sys.stderr.write("      closed\n")


def main(prompt: str) -> int:
    settings = load_settings({"max_calls": 50}, Path.cwd())
    try:
        with open_run(settings, [Watch()]) as run:
            result = run_prompt(checked_prompt(prompt, settings.home), run)
    except OrchError as exc:
        sys.stderr.write(f"{exc}\n")
        return exc.exit_code
    sys.stdout.write(f"{result.answer}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
