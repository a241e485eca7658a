"""Pictures for people: grids, thumbnails, and pictures as text for a page that stands alone."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TINY = 96  # pixels: a grid's pictures are enlarged by whole factors as far as this
GAP = 4
FONT_SIZE = 12
SIGNATURES = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
    b"<": "image/svg+xml",
}


def grid(images: Sequence[np.ndarray] | np.ndarray, columns: int, captions: Sequence[str] | None = None) -> Image.Image:
    """Lays pictures out in rows on white.

    Args:
        images: `(height, width, 3)` each, all of one size, RGB in 0..255, uint8 or float; floats
            are rounded and clipped.
        columns: In a row, at most.
        captions: A text a picture, of one or more lines; what is too wide is cut.

    Raises:
        ValueError: No pictures, pictures of different sizes, or not as many captions as pictures.
    """
    arrays = [np.asarray(image) for image in images]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][2] != 3:
        raise ValueError(f"a grid needs one or more pictures (height, width, 3) of one size, got {shapes or 'none'}")
    if captions is not None and len(captions) != len(arrays):
        raise ValueError(f"a grid needs a caption for each of its {len(arrays)} pictures, got {len(captions)}")
    height, width, _ = shapes[0]
    factor = max(1, TINY // max(height, width))
    height, width = height * factor, width * factor
    font = ImageFont.load_default(FONT_SIZE)
    lines = max((caption.count("\n") + 1 for caption in captions), default=0) if captions else 0
    cell = height + lines * (FONT_SIZE + 3) + GAP
    columns = min(columns, len(arrays))
    rows = -(-len(arrays) // columns)
    canvas = Image.new("RGB", (columns * (width + GAP) + GAP, rows * cell + GAP), "white")
    pen = ImageDraw.Draw(canvas)
    for place, array in enumerate(arrays):
        x, y = GAP + place % columns * (width + GAP), GAP + place // columns * cell
        pixels = np.clip(np.round(array), 0, 255).astype(np.uint8)
        canvas.paste(Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST), (x, y))
        for number, line in enumerate(captions[place].split("\n") if captions else ()):
            pen.text(
                (x, y + height + 1 + number * (FONT_SIZE + 3)),
                _cut(line, width, font),
                "black",
                font,
            )
    return canvas


def thumbnail(image: Image.Image | np.ndarray, side: int) -> Image.Image:
    """A copy in RGB whose longer side is at most `side` pixels; a smaller one keeps its size."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture = picture.convert("RGB")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture


def data_uri(picture: Image.Image | bytes, quality: int | None = None) -> str:
    """A picture as a `data:` address.

    Args:
        picture: A Pillow picture; or the bytes of a PNG, JPEG, GIF, WebP or SVG file, which are
            taken as they are.
        quality: Of a JPEG, 1 to 95, for a Pillow picture; `None` makes a PNG.

    Raises:
        ValueError: Bytes of another kind.
    """
    if isinstance(picture, Image.Image):
        buffer = io.BytesIO()
        if quality is None:
            picture.save(buffer, "PNG", optimize=True)
        else:
            picture.convert("RGB").save(buffer, "JPEG", quality=quality)
        picture = buffer.getvalue()
    kind = next((kind for start, kind in SIGNATURES.items() if picture.lstrip().startswith(start)), None)
    if kind is None:
        raise ValueError(f"expected the bytes of a PNG, JPEG, GIF, WebP or SVG file, got {picture[:8]!r}...")
    return f"data:{kind};base64,{base64.b64encode(picture).decode('ascii')}"


def _cut(text: str, width: int, font) -> str:
    """The text, or as much of its beginning as fits into so many pixels, with dots behind it."""
    text = " ".join(text.split())  # a class's name may hold a line break
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
