"""Small files to attach: images, a PDF and a recording."""

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


def pdf(path: Path, text: str) -> Path:
    """One page."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    bodies = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    made, places = b"%PDF-1.4\n", []
    for n, body in enumerate(bodies, 1):
        places.append(len(made))
        made += b"%d 0 obj\n%s\nendobj\n" % (n, body)
    at = len(made)
    made += b"xref\n0 6\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % p for p in places)
    path.write_bytes(made + b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % at)
    return path
