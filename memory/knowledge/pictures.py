"""Makes an image fit for a model. This source file is sent to the sandbox and runs there.

    read_image("/workspace/chart.png")     # returns values that JSON can hold
    read_pixels("/workspace/chart.png", 640, 480)

The first returns a PNG or JPEG without metadata, such as the place where a photo was taken, scaled down so
far that models take it; the second only pixels, for a person. Both are upright, and the first frame of a
picture that moves. Foreign files are hostile, so the host never imports this module, which imports nothing
of ours.
"""

import base64
import io
from typing import Any

FORMATS = ("PNG", "JPEG", "GIF", "WEBP")
MAX_PIXELS = 100_000_000
MAX_SIDE = 1_568
"""Pixels. Larger images are scaled down by providers, and refused by some."""
MAX_BYTES = 3_500_000
"""Providers take 5 MB, and base64 adds a third."""


def read_image(path: str) -> dict[str, Any]:
    """Return `media`, `data` (base64), and `width` and `height` with those that it had, as `from`.

    Raises what Pillow raises, and `ValueError` with a plain reason.
    """
    shown, has_alpha, was, is_photo = _opened(path, MAX_SIDE, MAX_SIDE)
    media, data = ("image/jpeg", b"") if is_photo else ("image/png", _encoded(shown, "PNG"))
    if is_photo or len(data) > MAX_BYTES:
        if has_alpha:
            shown = _on_white(shown)
        media, data = "image/jpeg", _encoded(shown, "JPEG", quality=90)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES:,} bytes, also when it is scaled down")
    text = base64.b64encode(data).decode()
    return {"media": media, "data": text, "width": shown.width, "height": shown.height, "from": was}


def read_pixels(path: str, width: int, height: int) -> dict[str, Any]:
    """Return an image scaled down to at most `width` and `height`: three bytes a pixel, in `data` (base64).

    What is transparent is white. Raises as `read_image` does.
    """
    shown, has_alpha, _, _ = _opened(path, width, height)
    shown = _on_white(shown) if has_alpha else shown.convert("RGB")
    text = base64.b64encode(shown.tobytes()).decode()
    return {"data": text, "width": shown.width, "height": shown.height}


def _opened(path: str, width: int, height: int) -> tuple[Any, bool, list[int], bool]:
    """An image, small and upright, whether it has transparency, its size before, and whether it is a JPEG."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # checked here
    try:
        image = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError("it is no PNG, JPEG, GIF or WebP image") from None
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"it has more than {MAX_PIXELS:,} pixels")
        was, is_photo = [image.width, image.height], image.format == "JPEG"
        image.draft("RGB", (width, height))
        shown: Any = ImageOps.exif_transpose(image)
        has_alpha = shown.mode in ("RGBA", "LA", "PA") or "transparency" in shown.info
        shown = shown.convert("RGBA" if has_alpha else "L" if shown.mode in ("1", "L") else "RGB")
    shown.thumbnail((width, height))
    return shown, has_alpha, was, is_photo


def _on_white(shown: Any) -> Any:
    from PIL import Image

    white = Image.new("RGB", shown.size, "white")
    white.paste(shown, mask=shown.getchannel("A"))
    return white


def _encoded(image: Any, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, optimize=True, **options)
    return out.getvalue()
