"""HTTP bodies of servers that are not trusted, decoded in small pieces and within a limit.

HTTP clients decode what they read in one go: a piece of 64 KiB can become 64 MB, and gigabytes if it was
compressed twice. Here it becomes pieces of at most 64 KiB, whose sizes are counted.
"""

import zlib
from collections.abc import Iterator

ACCEPT_ENCODING = "gzip, deflate"
"""What to send as `Accept-Encoding`: what `BodyDecoder` reads."""
PIECE_BYTES = 64 << 10


class BodyRefused(ValueError):
    """A body is too long, or encoded in a way that was not asked for."""


class BodyDecoder:
    """Decodes one body piece by piece.

    Args:
        encoding: the value of `Content-Encoding`; empty for none.
        most: bytes of the decoded body, and about as many as it was sent; None for no limit. Raises
            `BodyRefused` above it.
    """

    def __init__(self, encoding: str, most: int | None = None) -> None:
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise BodyRefused(f"its body is encoded as {encoding[:40]!r}, which was not asked for")
        # 32 is added for either header, gzip's or zlib's.
        self._inflate = None if encoding in ("", "identity") else zlib.decompressobj(32 + zlib.MAX_WBITS)
        self._is_first = encoding == "deflate"
        self._most = most
        self._length = self._sent = 0

    def read(self, piece: bytes) -> Iterator[bytes]:
        """What a piece of the body is decoded to, in pieces of at most `PIECE_BYTES`."""
        if self._inflate is None:
            yield self._counted(piece)
            return
        self._sent += len(piece)  # what decodes to nothing may go on without end
        if self._most is not None and self._sent > self._most + PIECE_BYTES:
            raise BodyRefused(f"its body is longer than {self._most:,} bytes")
        while True:
            made = self._inflated(piece)
            piece = self._inflate.unconsumed_tail
            if made:
                yield self._counted(made)
            # A full piece may leave more inside, though nothing is left to put in.
            if self._inflate.eof or not (piece or len(made) == PIECE_BYTES):
                return

    def _inflated(self, piece: bytes) -> bytes:
        assert self._inflate is not None
        is_first, self._is_first = self._is_first, False
        try:
            return self._inflate.decompress(piece, PIECE_BYTES)
        except zlib.error as exc:
            if not is_first:
                raise BodyRefused(f"its body cannot be decompressed: {exc}") from exc
        # Some servers send `deflate` without a header.
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        return self._inflated(piece)

    def _counted(self, piece: bytes) -> bytes:
        self._length += len(piece)
        if self._most is not None and self._length > self._most:
            raise BodyRefused(f"its body is longer than {self._most:,} bytes")
        return piece


class EventBound:
    """Bounds each event of a stream of events, which itself may go on without end."""

    def __init__(self, most: int) -> None:
        """`most`: bytes of an event."""
        self._most = most
        self._length = 0
        self._last = b""

    def count(self, piece: bytes) -> None:
        """Raises `BodyRefused` if the event that a piece belongs to is too long."""
        seen = self._last + piece
        end = max(seen.rfind(sign) for sign in (b"\n\n", b"\r\r", b"\r\n\r\n"))
        self._length = len(seen) - end if end >= 0 else self._length + len(piece)
        self._last = seen[-3:]
        if self._length > self._most:
            raise BodyRefused(f"an event is longer than {self._most:,} bytes")
