"""One mask file to ids: grey levels, a palette's indices, or colours by a table."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from resnet_tasks.data import formats
from resnet_tasks.data.masks import IGNORE
from resnet_tasks.data.readers.pairs_of_masks import JpegMask, UnknownIds

_BROKEN = (ValueError, SyntaxError, TypeError, KeyError, EOFError, UnidentifiedImageError, Image.DecompressionBombError)
# Pillow stretches grey levels of few bits to 0..255; ids are the levels as they are stored.
_STRETCHED = {"L;2": 85, "L;4": 17}
_UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class Pixels:
    """A mask as its file holds it.

    Attributes:
        values: Grey levels or a palette's indices, (height, width), of any whole type; colours as 0xrrggbb.
        is_color: Whether `values` are colours.
        is_bits: Whether they are of one bit.
        palette: The colours of the indices, int64 (entries,), 0xrrggbb; None where there is no palette.
    """

    values: np.ndarray
    is_color: bool = False
    is_bits: bool = False
    palette: np.ndarray | None = None

    def used(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the values that occur, ascending, and the pixels of each."""
        if self.values.dtype == np.uint8:
            counts = np.bincount(self.values.ravel())
            values = np.flatnonzero(counts)
            return values, counts[values]
        return np.unique(self.values, return_counts=True)

    def grey(self) -> "Pixels | None":
        """Returns a mask in colours that is none but grey, as grey; None for others."""
        red, green, blue = self.values >> 16, self.values >> 8 & 255, self.values & 255
        return Pixels(red.astype(np.uint8)) if ((red == green) & (green == blue)).all() else None


@dataclass(frozen=True)
class Table:
    """What the values and the colours of masks mean.

    Attributes:
        ids: The id of each grey level or index.
        colors: The id of each colour, 0xrrggbb.
        greys_are_colors: Whether a grey level is a colour, not a number.
    """

    ids: Mapping[int, int]
    colors: Mapping[int, int] = field(default_factory=dict)
    greys_are_colors: bool = False

    def read(self, path: str) -> np.ndarray:
        """Reads a mask: ids uint8 `(height, width)`, `IGNORE` where void.

        Raises:
            UnknownIds, JpegMask, formats.Unreadable.
        """
        pixels = load(path)
        if pixels.is_color:
            return self._of_colors(pixels)
        table = self._values
        used, counts = pixels.used()
        if pixels.palette is not None and self._knows_colors(pixels.palette, used):
            table = _of_palette(pixels.palette, self.colors)
        elif pixels.is_bits and table[1] == _UNKNOWN != table[255]:
            table = table[np.where(np.arange(256) == 1, 255, np.arange(256))]  # its white is 255 in files of 8 bits
        known = (used >= 0) & (used < 256)
        known[known] = table[used[known]] != _UNKNOWN
        if not known.all():
            hint = "; values are 0 to 255, also what is void" if used[-1] > 255 else ""
            raise UnknownIds(used[~known].tolist(), counts[~known].sum(), hint)
        return table.astype(np.uint8)[pixels.values]

    @cached_property
    def _values(self) -> np.ndarray:
        ids = {value: self.colors[value * 0x010101] for value in range(256) if value * 0x010101 in self.colors}
        table = np.full(256, _UNKNOWN, np.int16)
        for value, id in (ids if self.greys_are_colors else self.ids).items():
            table[value] = id
        return table

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """The colours, ascending, and the id of each."""
        colors = sorted(self.colors)
        return np.array(colors, np.int32), np.array([self.colors[color] for color in colors], np.int16)

    def _knows_colors(self, palette: np.ndarray, used: np.ndarray) -> bool:
        return bool(self.colors) and all(int(palette[value]) in self.colors for value in used if value < len(palette))

    def _of_colors(self, pixels: Pixels) -> np.ndarray:
        known, ids = self._sorted
        if len(known):
            place = np.minimum(np.searchsorted(known, pixels.values), len(known) - 1)
            strange = known[place] != pixels.values
            if not strange.any():
                return ids[place].astype(np.uint8)
        else:
            strange = np.full(pixels.values.shape, True)
        grey = None if self.greys_are_colors else pixels.grey()
        if grey is not None and (self._values[np.unique(grey.values)] != _UNKNOWN).all():
            return self._values.astype(np.uint8)[grey.values]
        strangers = np.unique(pixels.values[strange]).tolist()
        hint = "" if self.colors else '; no "colors" in classes.json say what they mean'
        raise UnknownIds([hexadecimal(color) for color in strangers], int(strange.sum()), hint)


def load(path: str) -> Pixels:
    """Reads what a mask file holds.

    Raises:
        JpegMask: It is a JPEG or a lossy WebP, whatever its name says.
        formats.Unreadable: It is broken, no picture, or of a kind that holds no ids.
    """
    try:
        with Image.open(path) as image:
            if image.format == "WEBP" and _loses(path):
                raise JpegMask(kind="lossy WebP")
            return _pixels(image)
    except OSError as error:  # Pillow's own, of what is no picture, has the path in it
        said = "not a picture" if isinstance(error, UnidentifiedImageError) else error.strerror or str(error)
        raise formats.Unreadable(said) from None
    except _BROKEN as error:
        raise formats.Unreadable(str(error)) from None


def _pixels(image: Image.Image) -> Pixels:
    if image.format in ("JPEG", "MPO"):
        raise JpegMask
    tiles = getattr(image, "tile", None)  # gone once it is decoded
    kind = tiles[0][3] if image.format == "PNG" and tiles else None
    if image.format == "TIFF":  # as the decoder, which asks no other format
        image = ImageOps.exif_transpose(image)
    if image.mode == "P":
        flat = np.array(image.getpalette("RGB") or (), np.int64).reshape(-1, 3)
        return Pixels(np.asarray(image), palette=_packed(flat))
    if image.mode in ("1", "L", "LA"):
        values = np.asarray(image)
        values = values if values.ndim == 2 else values[..., 0]
        return Pixels(values.astype(np.uint8) // _STRETCHED.get(str(kind), 1), is_bits=image.mode == "1")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        return Pixels(values.astype(np.uint8) if values.min() >= 0 and values.max() < 256 else values)
    if image.mode in ("RGB", "RGBA", "RGBX"):
        return Pixels(_packed(np.asarray(image)), is_color=True)
    raise formats.Unreadable(f"masks are grey, of a palette or in RGB; this is {image.mode}")


def _loses(path: str) -> bool:
    """Whether a WebP has a chunk of pictures with loss, `VP8 ` (RFC 9649, section 2)."""
    with open(path, "rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            kind, size = head[:4], int.from_bytes(head[4:], "little")
            if kind in (b"VP8 ", b"VP8L"):
                return kind == b"VP8 "
            # A frame of an animation has 16 bytes of its own before its chunks; others end on even bytes.
            file.seek(16 if kind == b"ANMF" else size + size % 2, os.SEEK_CUR)
    return False


def _packed(rgb: np.ndarray) -> np.ndarray:
    """Returns colours `(..., 3)` as 0xrrggbb, int32; a fourth channel is passed by."""
    return rgb[..., 0].astype(np.int32) << 16 | rgb[..., 1].astype(np.int32) << 8 | rgb[..., 2]


def _of_palette(palette: np.ndarray, colors: Mapping[int, int]) -> np.ndarray:
    table = np.full(256, _UNKNOWN, np.int16)
    table[: len(palette)] = [colors.get(int(color), _UNKNOWN) for color in palette[:256]]
    return table


def hexadecimal(color: int) -> str:
    return f"#{color:06x}"


def packed(color: Sequence[int]) -> int:
    """Returns red, green and blue as 0xrrggbb."""
    red, green, blue = color
    return red << 16 | green << 8 | blue


def rgb(color: int) -> tuple[int, int, int]:
    """Returns 0xrrggbb as red, green and blue."""
    return color >> 16, color >> 8 & 255, color & 255


def is_plain(path: str | Path) -> bool:
    """Whether a file is a grey PNG of 8 bits, which a graph decodes to its levels."""
    try:
        with open(path, "rb") as file:
            head = file.read(26)
    except OSError:
        return False
    return head[:8] == b"\x89PNG\r\n\x1a\n" and head[24:26] == bytes((8, 0))


def is_in_color(path: str | Path) -> bool:
    """Whether a file's header says colours; False for what cannot be read."""
    return _mode(path) in ("RGB", "RGBA", "RGBX")


def has_palette(path: str | Path) -> bool:
    """Whether a file's header says indices of a palette; False for what cannot be read."""
    return _mode(path) == "P"


def _mode(path: str | Path) -> str:
    try:
        with Image.open(path) as image:
            return image.mode
    except (OSError, *_BROKEN):
        return ""


def plain_values(ids: Mapping[int, int], classes: int) -> bool:
    """Whether values are the ids themselves, `IGNORE` where void."""
    return all(ids.get(value) == value for value in range(classes)) and set(ids) <= {*range(classes), IGNORE}
