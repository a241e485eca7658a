"""Masks drawn for people: over their picture, as a PNG with a palette, and what each colour means."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from resnet_tasks.data.drawing import Colour, class_colors, lettering
from resnet_tasks.data.examples import LabelMap
from resnet_tasks.data.masks import IGNORE

BLACK: Colour = (0, 0, 0)
VOID: Colour = (224, 224, 192)  # Pascal VOC's
# Names of what is no thing; its colour is black where it is the first class.
_BACKGROUNDS = {"background", "bg", "void", "unlabelled", "unlabeled"}
_HATCH = (235, 235, 235), (40, 40, 40)  # stripes of void, light and dark: seen on any picture
_HATCH_OPACITY = 0.45
_STRIPE, _LINE = 1 / 90, 1 / 480  # widths, of the longer side
_THINNEST_STRIPE = 3  # pixels
_FONT, _GAP = 13, 6  # of the legend, pixels


def palette_of(labels: LabelMap) -> list[Colour]:
    """Returns RGB in 0..255 for each class: the data set's own colours, else ours, with a background at 0 in black."""
    if labels.colors:
        return [(int(red), int(green), int(blue)) for red, green, blue in labels.colors]
    colours = class_colors(len(labels))
    if labels.names and labels.names[0].strip("_ ").lower() in _BACKGROUNDS:
        colours[0] = BLACK
    return colours


def overlay(
    image: np.ndarray | Image.Image,
    mask: np.ndarray,
    palette: Sequence[Colour],
    opacity: float = 0.5,
    outline: bool = True,
) -> Image.Image:
    """Blends the classes' colours into a copy of a picture; void is hatched.

    Args:
        image: RGB; an array is uint8 `(height, width, 3)`.
        mask: Ids, uint8 `(height, width)` of the same size; `IGNORE` is void.
        palette: For each id RGB in 0..255.
        opacity: Of the colours, 0..1.
        outline: Whether regions end in a line of their own colour in full.

    Raises:
        ValueError: The mask has another size, or an id without a colour.
    """
    picture = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
    if mask.shape != picture.shape[:2]:
        raise ValueError(f"the mask is {mask.shape} high and wide, the picture {picture.shape[:2]}")
    blended = _blended(picture, _painted(mask, palette), opacity)
    if outline:
        on_line = _lines(mask, max(1, round(max(mask.shape) * _LINE)))
        blended[on_line] = _table(palette)[mask[on_line]]
    is_void = mask == IGNORE
    if is_void.any():
        rows, columns = np.nonzero(is_void)
        width = max(_THINNEST_STRIPE, round(max(mask.shape) * _STRIPE))
        stripes = np.array(_HATCH, np.uint8)[(rows + columns) // width % 2]
        blended[is_void] = _blended(picture[is_void], stripes, _HATCH_OPACITY)
    return Image.fromarray(blended)


def legend(names: Sequence[str], colours: Sequence[Colour], width: int = 480) -> Image.Image:
    """Returns what each colour means: swatches and names on white, in rows of at most `width` pixels.

    A single name longer than that makes its row longer.
    """
    font = lettering(_FONT)
    high = int(np.ceil(font.getbbox("Åg")[3])) + 1
    places, x, y, widest = [], _GAP, _GAP, 1
    for name in names:
        wide = high + _GAP + int(np.ceil(font.getlength(name)))
        if x > _GAP and x + wide + _GAP > width:
            x, y = _GAP, y + high + _GAP
        places.append((x, y))
        x += wide + 2 * _GAP
        widest = max(widest, x - _GAP)
    sheet = Image.new("RGB", (widest, y + high + _GAP if places else 1), "white")
    pen = ImageDraw.Draw(sheet)
    for (x, y), name, colour in zip(places, names, colours, strict=True):
        pen.rectangle((x, y, x + high - 1, y + high - 1), fill=tuple(colour), outline=(120, 120, 120))
        pen.text((x + high + _GAP, y), name, BLACK, font)
    return sheet


def indexed_png(mask: np.ndarray, palette: Sequence[Colour]) -> bytes:
    """Returns a PNG with a palette whose pixels are the ids, `IGNORE` for void, in 8 bits.

    Args:
        mask: Ids, uint8 `(height, width)`.
        palette: For each id RGB in 0..255; what lacks one is black, and void has a colour of its own.
    """
    picture = Image.fromarray(np.ascontiguousarray(mask, np.uint8)).convert("L")
    picture.putpalette(_table(palette).tobytes())
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def _table(palette: Sequence[Colour]) -> np.ndarray:
    """The palette for every value of a byte, uint8 `(256, 3)`."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = np.reshape(palette, (-1, 3))
    table[IGNORE] = VOID
    return table


def _painted(mask: np.ndarray, palette: Sequence[Colour]) -> np.ndarray:
    unknown = mask[(mask >= len(palette)) & (mask != IGNORE)]
    if len(unknown):
        raise ValueError(f"the mask holds the id {unknown[0]}, and there are {len(palette)} colours")
    return _table(palette)[mask]


def _blended(pixels: np.ndarray, colours: np.ndarray, opacity: float) -> np.ndarray:
    return np.round((1 - opacity) * pixels + opacity * colours.astype(np.float32)).astype(np.uint8)


def _lines(mask: np.ndarray, width: int) -> np.ndarray:
    """Where a pixel of a class has another one within `width` pixels along an axis, bool `(height, width)`."""
    on_line = np.zeros(mask.shape, bool)
    for step in range(1, width + 1):
        for axis in (0, 1):
            one, other = np.moveaxis(mask, axis, 0)[step:], np.moveaxis(mask, axis, 0)[:-step]
            lines = np.moveaxis(on_line, axis, 0)
            differ = one != other
            lines[step:] |= differ
            lines[:-step] |= differ
    return on_line & (mask != IGNORE)
