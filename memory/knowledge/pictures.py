"""Makes an image fit for a model. This source file is sent to the sandbox and runs there.

    read_image("/workspace/chart.png")     # returns values that JSON can hold

What is returned is a PNG or JPEG without metadata, such as the place where a photo was taken: upright, of a
picture that moves the first frame, and scaled down so far that models take it. Foreign files are hostile, so
the host never imports this module, which imports nothing of ours.
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
        image.draft("RGB", (MAX_SIDE, MAX_SIDE))
        shown: Any = ImageOps.exif_transpose(image)
        has_alpha = shown.mode in ("RGBA", "LA", "PA") or "transparency" in shown.info
        shown = shown.convert("RGBA" if has_alpha else "L" if shown.mode in ("1", "L") else "RGB")
    shown.thumbnail((MAX_SIDE, MAX_SIDE))
    media, data = ("image/jpeg", b"") if is_photo else ("image/png", _encoded(shown, "PNG"))
    if is_photo or len(data) > MAX_BYTES:
        if has_alpha:
            white = Image.new("RGB", shown.size, "white")
            white.paste(shown, mask=shown.getchannel("A"))
            shown = white
        media, data = "image/jpeg", _encoded(shown, "JPEG", quality=90)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES:,} bytes, also when it is scaled down")
    text = base64.b64encode(data).decode()
    return {"media": media, "data": text, "width": shown.width, "height": shown.height, "from": was}


def _encoded(image: Any, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, optimize=True, **options)
    return out.getvalue()
