"""The founding prompt on recorded model replies: everything else is real.

The demo keeps a memory, a library and a log of its own, so that it shows the same each time
and leaves the user's own alone; only the Prefect server is the usual one. `again` runs the
prompt a second time in the same memory: the planner is shown the first run, and the tool
comes from the library.
"""

import contextlib
import shutil
from collections.abc import Callable, Collection, Iterator
from importlib import resources
from pathlib import Path

from orchestrator_cli.errors import UsageError
from orchestrator_cli.models.model import Model
from orchestrator_cli.models.recorded import RecordedModel, Recording, RecordingModel

PROMPT = (
    "Create an empty file new.txt. Find inventive ways to handle files in Python, and show them by "
    "changing new.txt with code run in the interpreter, never with the file tools. Keep a log of every "
    "code operation in fileLog.md. Prove that the file was really changed. If a custom tool is needed, "
    "build it and document its name and functions in fileLog.md."
)
FOLDER = Path("orch-demo")
LEFT_BEHIND = {"new.txt", "fileLog.md"}


def recording_path(*, again: bool) -> Path:
    """The recording that ships with the program."""
    name = "demo-again.json" if again else "demo.json"
    return Path(str(resources.files("orchestrator_cli") / "recordings" / name))


NAMES = {False: "recorded", True: "recorded again"}
"""What the record of a run calls its model, by whether it was the second run."""


def recorded_model(*, again: bool, resumed: bool = False) -> RecordedModel:
    """The model whose replies are played back. Raises `RunFailed` where the recording is broken."""
    recording = Recording.read(recording_path(again=again))
    return RecordedModel(recording, name=NAMES[again], resumed=resumed)


def model_of(names: Collection[str]) -> RecordedModel | None:
    """The model that a demo goes on with, known from the names in its record; None of another run."""
    for again, name in NAMES.items():
        if set(names) == {name}:
            return recorded_model(again=again, resumed=True)
    return None


@contextlib.contextmanager
def recording(*, again: bool, reuse: bool) -> Iterator[Callable[[Model], Model]]:
    """What keeps the replies of the configured model as the new recording, written when all went well.

    With `reuse`, a request whose name the present recording knows gets its reply again: for a
    prompt whose wording changed and whose answer did not.
    """
    path = recording_path(again=again)
    known = Recording.read(path) if reuse else None
    made = Recording()
    yield lambda model: RecordingModel(model, made, known)
    path.parent.mkdir(exist_ok=True)
    made.write(path)


def prepare_workspace(folder: Path) -> Path:
    """An empty workspace for the demo. Raises `UsageError` rather than touch a folder with other files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise UsageError(
            f"{folder} cannot be used for the demo: {exc.strerror}.", "Name a folder with -C."
        ) from exc
    others = sorted({path.name for path in folder.iterdir()} - LEFT_BEHIND)
    if others:
        raise UsageError(
            f"{folder} holds other files ({', '.join(others[:3])}), and the demo wants a folder of its own.",
            "Name an empty or new one with -C.",
        )
    (folder / "new.txt").unlink(missing_ok=True)
    return folder


def prepare_home(home: Path, *, again: bool) -> None:
    """Forget what earlier demos remembered and built. With `again` it is kept, and has to be there."""
    kept = [home / "memory", home / "tools"]
    if again:
        if not all(folder.exists() for folder in kept):
            raise UsageError("There was no demo yet that could be repeated.", "Run orch demo first.")
        return
    for folder in kept:
        shutil.rmtree(folder, ignore_errors=True)
