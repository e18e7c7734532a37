"""Takes the files that go with a prompt into a run, and has a model write down what recordings say.

What no model could use is refused before anything is spent.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from orchestrator_cli import events
from orchestrator_cli.errors import ConfigError
from orchestrator_cli.execution.run import Run
from orchestrator_cli.models.media import TRANSCRIPTION, quote_recording, transcribe
from orchestrator_cli.models.model import Completion, ModelRequest
from orchestrator_cli.models.own_keys import own_keys
from orchestrator_cli.models.pricing import unpriced
from orchestrator_cli.models.sources import model_fault
from orchestrator_cli.recall.attachments import FoundFile, find_files, read_files
from orchestrator_cli.recall.converter import Converter
from orchestrator_cli.recall.named_files import NamedFiles
from orchestrator_cli.values import Attachment

WITHOUT = "Leave the image out, or name a model that sees with -m."


def attach(run: Run, paths: Sequence[Path]) -> tuple[Attachment, ...]:
    """Read and convert files, and keep what models are given. Raises `UsageError` and `ConfigError`."""
    if not paths:
        return ()
    found = find_files(paths, run.settings)
    _check_models(run, found)
    keys, refused = own_keys(run.settings), NamedFiles(run.settings).protection
    with Converter(run.settings) as convert:
        made = tuple(run.cancellation.waiting_for(lambda: list(read_files(found, convert, keys, refused))))
    for one in made:
        run.stream.blobs.keep(one.content)
    return tuple(one.attachment for one in made)


def _check_models(run: Run, found: Iterable[FoundFile]) -> None:
    """Raise `ConfigError` for what the models of the run cannot use."""
    kinds = {file.kind: file.path for file in reversed(list(found))}
    if "image" in kinds:
        name = run.model_names["agent"]
        sees = run.cancellation.waiting_for(lambda: run.sees(name))
        if not sees:
            known = f"{name} does not see images" if sees is False else f"It is not known whether {name} sees"
            raise ConfigError(
                f"{known}, so {kinds['image']} cannot be attached.",
                f"{WITHOUT}\nIf it does see: orch config set vision_models '[\"{name}\"]'",
            )
    if "audio" in kinds:
        check_sound(run, "transcription_model", f"{kinds['audio']} is a recording, which a model writes down")


def check_sound(run: Run, setting: str, why: str) -> str:
    """The model of a setting. Raises `ConfigError` if it is not set, cannot be asked, or breaks a limit."""
    name: str | None = getattr(run.settings, setting)
    example = {"transcription_model": "openai/whisper-1", "speech_model": "openai/tts-1"}[setting]
    if name is None:
        raise ConfigError(f"{why}, and none is set.", f"Set one: orch config set {setting} {example}")
    if fault := run.cancellation.waiting_for(lambda: model_fault(name)):
        raise ConfigError(
            f"{name} cannot be asked: {fault}.", f"Set another: orch config set {setting} {example}"
        )
    limited = run.settings.max_cost is not None and not run.settings.allow_unpriced
    if limited and run.cancellation.waiting_for(lambda: unpriced([name])):
        raise ConfigError(
            f"The limit of ${run.settings.max_cost:g} cannot hold: no price is known of {name}.",
            f"Set another {setting}, or let it pass uncounted with --allow-unpriced.",
        )
    return name


def write_down(run: Run) -> None:
    """Have the recordings written down that are not yet. Raises as `Model.complete` does."""
    for one in run.state.attachments:
        if one.kind == "audio" and one.name not in run.state.transcripts:
            run.emit(events.Transcribed(attachment=one.name, text=_said_in(one, run)))


def _said_in(recording: Attachment, run: Run) -> str:
    why = f"{recording.name} is a recording, which a model writes down"
    model = check_sound(run, "transcription_model", why)
    data, seconds = run.kept(recording), run.settings.model_timeout
    request = ModelRequest(role=TRANSCRIPTION, model=model, messages=())

    def ask() -> Completion:
        return run.cancellation.waiting_for(
            lambda: transcribe(request, data, recording.name, recording.media, seconds)
        )

    return run.meter.count(request, lambda _: quote_recording(model, data), ask).text
