"""Small files to attach: images and a recording."""

import io
import wave
from pathlib import Path

from PIL import Image

SEEING = "openai/gpt-4o"
"""A model that LiteLLM's list says sees."""


def image(path: Path, size: tuple[int, int] = (8, 6), form: str = "PNG", **options: object) -> Path:
    """A red image of a size."""
    with path.open("wb") as file:
        Image.new("RGB", size, "red").save(file, form, **options)
    return path


def size_of(data: bytes) -> tuple[str, tuple[int, int]]:
    """The form and the size of an image."""
    with Image.open(io.BytesIO(data)) as found:
        return str(found.format), found.size


def recording(path: Path) -> Path:
    """A tenth of a second of silence."""
    with path.open("wb") as file, wave.open(file, "wb") as made:
        made.setnchannels(1)
        made.setsampwidth(2)
        made.setframerate(8_000)
        made.writeframes(b"\0\0" * 800)
    return path
