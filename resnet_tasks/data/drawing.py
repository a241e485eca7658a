"""Boxes drawn into pictures for people: lines, labels, and a colour for each class."""

import colorsys
import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Place = tuple[int, int, int, int]  # xyxy, pixels

# Told apart at a glance, also on photographs; red is kept for what is wrong.
_FIRST: tuple[Colour, ...] = (
    (30, 136, 229),
    (255, 179, 0),
    (67, 180, 73),
    (171, 71, 208),
    (0, 188, 212),
    (255, 112, 67),
    (240, 98, 176),
    (158, 216, 42),
    (92, 107, 232),
    (0, 150, 118),
    (255, 238, 88),
    (150, 104, 74),
)
WRONG: Colour = (229, 28, 35)
_LEAST_SIDE, _MOST_SIDE = 480, 1024  # pixels of the longer side in which lines and labels can be read
_LINE, _FONT = 1 / 240, 1 / 44  # of the longer side
_THINNEST, _SMALLEST = 2, 11  # pixels
_DASH = 4  # times the width of the line
_HALO = (0, 0, 0, 120)
_STRIP = 225  # of 255: how opaque the strip behind a label is


def class_colors(count: int) -> list[Colour]:
    """Returns RGB colours in 0..255, the same for a class whatever comes after it."""
    return [_color(place) for place in range(count)]


def _color(place: int) -> Colour:
    if place < len(_FIRST):
        return _FIRST[place]
    # The golden ratio spreads hues evenly, however many there are; brightness and saturation change at each step.
    hue = (0.76 + place * 0.6180339887498949) % 1
    saturation, value = ((0.85, 0.95), (0.5, 1.0), (0.75, 0.78))[place % 3]
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def sized_to_draw(
    image: np.ndarray | Image.Image, least: int = _LEAST_SIDE, most: int = _MOST_SIDE
) -> tuple[Image.Image, float]:
    """Brings a picture to a size in which boxes can be read.

    Args:
        image: RGB; an array is uint8 `(height, width, 3)`.
        least: Pixels of the longer side; a smaller picture is enlarged by a whole factor, its pixels kept visible.
        most: Pixels of the longer side; a larger picture is scaled down.

    Returns:
        The picture, and the factor that its boxes are to be multiplied with.
    """
    picture = (image if isinstance(image, Image.Image) else Image.fromarray(image)).convert("RGB")
    longer = max(picture.size)
    if longer > most:
        scale = most / longer
        size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
        return picture.resize(size, Image.Resampling.LANCZOS), scale
    scale = max(min(-(-least // longer), most // longer), 1)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST), float(scale)


def draw_boxes(
    image: np.ndarray | Image.Image,
    boxes: np.ndarray | Sequence[Sequence[float]],
    names: Sequence[str],
    colours: Sequence[Colour],
    scores: Sequence[float] | None = None,
    dashed: Sequence[bool] | None = None,
) -> Image.Image:
    """Draws boxes with their labels into a copy of a picture.

    Larger boxes are drawn first; a label moves to where it hides the least of the other labels.

    Args:
        image: RGB; an array is uint8 `(height, width, 3)`.
        boxes: `(n, 4)`, finite, xyxy in pixels of `image`; what lies outside it is not seen.
        names: For each box its label; an empty one draws none.
        colours: For each box RGB in 0..255.
        scores: For each box a number in 0..1 to write behind its name.
        dashed: For each box whether its lines are dashed.

    Raises:
        ValueError: The arguments differ in length.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    dashed = [False] * len(boxes) if dashed is None else dashed
    lengths = [len(part) for part in (boxes, names, colours, dashed, boxes if scores is None else scores)]
    if len(set(lengths)) > 1:
        raise ValueError(f"boxes, names, colours, dashed and scores differ in length: {lengths}")
    texts = list(names) if scores is None else [f"{name} {score:.2f}" for name, score in zip(names, scores)]
    picture = (image if isinstance(image, Image.Image) else Image.fromarray(image)).convert("RGBA")
    width = max(_THINNEST, round(max(picture.size) * _LINE))
    font = lettering(max(_SMALLEST, round(max(picture.size) * _FONT)))
    layer = Image.new("RGBA", picture.size)
    pen = ImageDraw.Draw(layer)
    order = np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind="stable")
    seen = [int(place) for place in order if _is_seen(boxes[place], picture.size)]
    for place in seen:
        _outline(pen, _framed(boxes[place], picture.size, width), colours[place], width, dashed[place])
    taken: list[Place] = []
    for place in seen:
        if texts[place]:
            taken.append(_label(pen, boxes[place], texts[place], colours[place], font, width, picture.size, taken))
    return Image.alpha_composite(picture, layer).convert("RGB")


def _is_seen(box: np.ndarray, size_wh: tuple[int, int]) -> bool:
    return bool(box[0] < size_wh[0] and box[1] < size_wh[1] and box[2] > 0 and box[3] > 0)


def _framed(box: np.ndarray, size_wh: tuple[int, int], width: int) -> Place:
    """The first and last pixels of the line around a box: half of it outside, so that small things stay visible."""
    out = width // 2
    x0, y0 = (max(int(np.floor(value)) - out, 0) for value in box[:2])
    x1, y1 = (min(int(np.ceil(value)) - 1 + out, side - 1) for value, side in zip(box[2:], size_wh))
    return x0, y0, max(x1, x0), max(y1, y0)


def _outline(pen: ImageDraw.ImageDraw, frame: Place, colour: Colour, width: int, dashed: bool):
    x0, y0, x1, y1 = frame
    pen.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=_HALO, width=1)
    if not dashed:
        pen.rectangle(frame, outline=(*colour, 255), width=width)
        return
    step = _DASH * width
    for x in range(x0, x1 + 1, 2 * step):
        end = min(x + step - 1, x1)
        pen.rectangle((x, y0, end, min(y0 + width - 1, y1)), fill=(*colour, 255))
        pen.rectangle((x, max(y1 - width + 1, y0), end, y1), fill=(*colour, 255))
    for y in range(y0, y1 + 1, 2 * step):
        end = min(y + step - 1, y1)
        pen.rectangle((x0, y, min(x0 + width - 1, x1), end), fill=(*colour, 255))
        pen.rectangle((max(x1 - width + 1, x0), y, x1, end), fill=(*colour, 255))


def _label(pen, box, text, colour, font, width, size_wh, taken) -> Place:
    """Writes a label at the corner of its box and returns the place that it takes."""
    text, pad = " ".join(text.split()), max(2, width)
    while len(text) > 1 and font.getlength(text) + 2 * pad > size_wh[0]:
        text = text[:-2] + "…"
    ascent, descent = font.getmetrics()
    wide, high = int(np.ceil(font.getlength(text))) + 2 * pad, ascent + descent + 2
    x0, y0, x1, y1 = _framed(box, size_wh, width)
    x0, x1 = (min(max(x, 0), max(size_wh[0] - wide, 0)) for x in (x0, x1 + 1 - wide))
    above, below, bottom = y0 - high, y1 + 1, y1 + 1 - high
    corners = [(x0, above), (x0, y0), (x0, below), (x1, above), (x1, below), (x0, bottom)]
    corners = [(x, min(max(y, 0), max(size_wh[1] - high, 0))) for x, y in corners]
    x, y = min(corners, key=lambda corner: _hidden((*corner, corner[0] + wide, corner[1] + high), taken))
    pen.rounded_rectangle((x, y, x + wide - 1, y + high - 1), radius=pad, fill=(*colour, _STRIP))
    pen.text((x + pad, y + 1), text, (*text_color(colour), 255), font)
    return x, y, x + wide, y + high


def _hidden(place: Place, taken: Sequence[Place]) -> int:
    """Pixels of other labels that a label at `place` would hide."""
    x0, y0, x1, y1 = place
    return sum(
        max(min(x1, other[2]) - max(x0, other[0]), 0) * max(min(y1, other[3]) - max(y0, other[1]), 0) for other in taken
    )


def text_color(background: Colour) -> Colour:
    """Returns black or white, whichever contrasts more with a background (WCAG 2.1, relative luminance)."""
    light = luminance(background)
    return (0, 0, 0) if (light + 0.05) / 0.05 >= 1.05 / (light + 0.05) else (255, 255, 255)


def luminance(colour: Colour) -> float:
    """Returns the relative luminance, 0..1, of an sRGB colour."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in np.array(colour) / 255]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


@functools.cache
def lettering(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Matplotlib's DejaVu Sans, which has the letters of most alphabets; Matplotlib itself is not imported."""
    found = importlib.util.find_spec("matplotlib")
    folder = found and found.submodule_search_locations and found.submodule_search_locations[0]
    try:
        return ImageFont.truetype(str(Path(folder or "") / "mpl-data/fonts/ttf/DejaVuSans.ttf"), size)
    except OSError:
        return ImageFont.load_default(size)
