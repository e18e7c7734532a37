"""Images that a run wrote, small enough to be shown to a person on a terminal or a page.

An image is data of a model. It is read from the workspace if it is still as the run left it, and decoded and
made small in a sandbox. Only the pixels that come back are used: as many bytes as their size says, of which
the host makes a PNG itself. Without a sandbox none is shown.

Not covered: pictures that move, of which the first frame is shown, and what an image pretends to be.
"""

import base64
import binascii
import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from memory.knowledge.documents import UnreadableDocument
from orchestrator_cli.recall.attachments import MAX_BYTES, image_form
from orchestrator_cli.recall.converter import Converter
from orchestrator_cli.settings import Settings
from orchestrator_cli.tools.files import read_beginning
from orchestrator_cli.values import FileChange
from toolsmith.sandbox import Limits

WIDTH, HEIGHT = 640, 480
"""Pixels of an image that is shown, at most."""
LIMITS = Limits(wall_s=10.0, memory_mb=1024, processes=8, disk_mb=64)
"""A person waits for what a model made."""
ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".webp")


class SmallImage(NamedTuple):
    path: str
    """In the workspace."""
    png: bytes
    width: int
    """Pixels of the PNG."""


def small_images(
    root: Path, changes: Iterable[FileChange], settings: Settings, most: int
) -> Iterator[SmallImage]:
    """Of the first so many images among the files of a run, those that can be read and converted."""
    named = (one for one in changes if one.after_sha256 and one.path.lower().endswith(ENDINGS))
    with Converter(settings, LIMITS) as convert:
        for change in islice(named, most):
            with suppress(OSError, ValueError, UnreadableDocument):
                data = read_beginning(root, change.path, MAX_BYTES + 1)
                is_same = hashlib.sha256(data).hexdigest() == change.after_sha256
                if is_same and image_form(data):
                    width, height, pixels = _pixels(convert.pixels(data, WIDTH, HEIGHT))
                    yield SmallImage(change.path, _png(width, height, pixels), width)


def _pixels(row: object) -> tuple[int, int, bytes]:
    """Width, height, and three bytes a pixel, from the reply of a converter, which is untrusted."""
    match row:
        case {"data": str() as text, "width": int() as width, "height": int() as height} if (
            0 < width <= WIDTH and 0 < height <= HEIGHT
        ):
            with suppress(binascii.Error):
                pixels = base64.b64decode(text)
                if len(pixels) == 3 * width * height:
                    return width, height, pixels
    raise UnreadableDocument("it could not be converted")


def _png(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG of RGB pixels."""
    rows = b"".join(b"\0" + pixels[at : at + 3 * width] for at in range(0, len(pixels), 3 * width))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    parts = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
