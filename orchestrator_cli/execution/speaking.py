"""Writes the answer of a run to a file as sound.

Not covered: what is beyond the length that speech models take; the answer in words has it.
"""

from pathlib import Path

from orchestrator_cli.errors import ConfigError, LimitReached, OrchError, ProviderError, UsageError
from orchestrator_cli.execution.attaching import check_sound
from orchestrator_cli.execution.run import Run
from orchestrator_cli.models.media import SPEECH, SPEECH_CHARS, quote_speech, speak
from orchestrator_cli.models.model import Completion, ModelRequest
from orchestrator_cli.models.own_keys import own_keys
from orchestrator_cli.recall.written_files import check_written, write_named

FORMS = ("mp3", "wav", "opus", "aac", "flac")


def check_speech(run: Run, file: Path) -> None:
    """Raise `UsageError` and `ConfigError` for what would fail once there is an answer."""
    if _form(file) not in FORMS:
        forms = ", ".join(f".{form}" for form in FORMS)
        raise UsageError(f"{file} does not name a form of sound.", f"End its name with one of {forms}.")
    if not file.parent.is_dir():
        raise UsageError(f"{file} cannot be written.", "Name a file in a folder that is there.")
    check_written(file, run.settings)
    check_sound(run, "speech_model", "A model speaks the answer")


def speak_answer(run: Run, text: str, file: Path) -> OrchError | None:
    """Have the answer spoken, and write the file, in place of what it held. Return why it could not be.

    The answer is there anyway, and a resumed run tries again.
    """
    try:
        if text.strip():
            _speak(run, text, file)
    except (ProviderError, LimitReached, UsageError, ConfigError) as exc:
        return exc
    return None


def _speak(run: Run, text: str, file: Path) -> None:
    model = check_sound(run, "speech_model", "A model speaks the answer")
    text = own_keys(run.settings).mask(text)
    if len(text) > SPEECH_CHARS:
        run.notice(f"The first {SPEECH_CHARS:,} characters of the answer are spoken.")
        text = text[:SPEECH_CHARS]
    request = ModelRequest(role=SPEECH, model=model, messages=())
    voice, seconds, sound = run.settings.speech_voice, run.settings.model_timeout, b""

    def ask() -> Completion:
        nonlocal sound
        sound, reply = run.cancellation.waiting_for(lambda: speak(request, text, voice, _form(file), seconds))
        return reply

    run.meter.count(request, lambda _: quote_speech(model, text), ask)
    try:
        write_named(file, sound, run.settings)
    except OSError as exc:
        raise UsageError(f"{file} cannot be written: {exc.strerror}.", "Name another file.") from exc
    run.notice(f"The answer is spoken in {file}")


def _form(file: Path) -> str:
    return file.suffix.lower().removeprefix(".")
