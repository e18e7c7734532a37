"""The two runs that are killed at every event: the demo, and a plan of twelve subtasks."""

import hashlib
import random
from collections import Counter
from pathlib import Path
from typing import Any

from crash import By, Ended, Mortals, Place, Traces, attempts
from endpoint import Endpoint, texts_of
from scripted_model import MODELS, code, coder, patch, plan, tool_call

KILLED = -9


class Scene:
    """A run that can be begun again and again. A context manager."""

    args: tuple[str, ...]

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder)

    def __enter__(self) -> "Scene":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held open."""

    def begin(self, run: Mortals, by: By = "line", at: int | None = None) -> Ended:
        self.place.reset()
        return run(self.args, self.place.folder, self.place.env, by, at)

    def go_on(self, run: Mortals, by: By = "line", at: int | None = None) -> Ended:
        return run(("resume", "last", "-C", "workspace"), self.place.folder, self.place.env, by, at)

    def undisturbed(self, run: Mortals) -> Traces:
        ended = self.begin(run)
        faults = list(self.place.faults())
        assert ended.code == 0, (self.place.folder / ".stderr").read_text()
        assert not faults, faults
        return self.place.record()

    def disturbed(
        self, run: Mortals, by: By, at: int, counts: Counter[str], whole: Traces, chance: random.Random
    ) -> list[str]:
        """Kill it at an event, go on, and say what is not as it has to be."""
        begun = self.begin(run, by, at)
        counts["runs killed"] += begun.code == KILLED
        counts["ended before they were killed"] += begun.code != KILLED
        before = self.place.journal
        done = [row for row in before if row["data"]["kind"] == "SubtaskFinished"]
        counts["subtasks finished before the kill"] += len(done)
        if chance.random() < 0.25:
            again = self.go_on(run, by, chance.randint(1, 12))
            counts["resumed runs killed again"] += again.code == KILLED
        ended = self.go_on(run)
        counts["resumed"] += 1
        rows = self.place.journal
        counts["attempts begun after the kill"] += attempts(rows) - attempts(before)
        counts["events of the journals"] += len(rows)
        faults = list(self.place.faults())
        counts["faults of journal and log"] += len(faults)
        counts["finished subtasks run twice"] += sum("after it had finished" in fault for fault in faults)
        if ended.code != 0:
            faults.append(f"exit {ended.code}: {(self.place.folder / '.stderr').read_text()[-2000:]}")
        faults += _differences(whole, self.place.record())
        return faults


def _differences(whole: Traces, record: Traces) -> list[str]:
    return [
        f"another {name}: {str(getattr(record, name))[:600]!r} instead of {str(getattr(whole, name))[:600]!r}"
        for name in ("answer", "files", "results", "states", "remembered")
        if getattr(record, name) != getattr(whole, name)
    ]


class Demo(Scene):
    args = ("demo", "-C", "workspace")


class Twelve(Scene):
    """Its model says the same to the same request, so it does not matter who asks."""

    args = ("ask", "Do the twelve pieces of work.", "-C", "workspace")

    def __enter__(self) -> "Twelve":
        self._endpoint = Endpoint(_reply).__enter__()
        self.place.env = {"OPENAI_BASE_URL": self._endpoint.url, "OPENAI_API_KEY": "test-key", **MODELS}
        return self

    def __exit__(self, *_: object) -> None:
        self._endpoint.__exit__()


PLAN = plan(
    coder("list", result={"type": "array"}),
    tool_call("note", "write_file", path="note.txt", content="noted"),
    coder("left", ["list"], inputs={"items": "$list.value"}),
    coder("right", ["list", "note"]),
    {**coder("each", ["list"]), "for_each": "$list.value", "inputs": {"item": "$item"}},
    coder("broken", ["left"]),
    coder("after_broken", ["broken"]),
    {**coder("never", ["list"]), "when": "list.value[0] == 'nothing'"},
    tool_call("copy", "write_file", ["right"], path="copy.txt", content="$right.value"),
    {**coder("forgiven", ["note"]), "on_failure": "skip"},
    coder("join", ["left", "right", "each", "copy", "forgiven", "never"]),
    coder("last", ["join", "after_broken"]),
)
"""`broken` fails and is replaced by the reviser, `forgiven` fails and is skipped, `never` is not done."""

REPLACED = patch(
    "Broken things are done another way.",
    add=[coder("mended", ["left"])],
    replace=[{"id": "after_broken", "depends_on": ["mended"]}],
)


def _reply(request: dict[str, Any], _n: int) -> Any:
    role, text = str(request["model"]), texts_of(request)
    if role == "planner":
        return PLAN
    if role == "reviser":
        return REPLACED
    if role == "answer":
        return f"All is done: {hashlib.sha256(text.encode()).hexdigest()}"
    name = text.rpartition("Do the work of ")[2].partition(".")[0]
    return code(_work(name, sum(message["role"] == "assistant" for message in request["messages"])))


def _work(name: str, step: int) -> str:
    if step == 0:
        return f"from pathlib import Path\nPath('{name}.txt').write_text('half')\nprint('begun')"
    if name in ("broken", "forgiven"):
        return "give_up('it cannot be done')"
    if name == "list":
        return "final_answer(['a', 'b', 'c'])"
    if name == "each":
        return (
            "Path(f'each-{item}.txt').write_text(item)\nPath('each.txt').unlink()\nfinal_answer(item.upper())"
        )
    return f"Path('{name}.txt').write_text('{name} is whole')\nfinal_answer('{name} is done')"
