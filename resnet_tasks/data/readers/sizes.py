"""The sizes of pictures as they stand upright, from their headers alone."""

import io
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

_THREADS = 16  # they wait for the disk
_WIDTH, _HEIGHT, _ORIENTATION = 0x0100, 0x0101, 0x0112  # tags of TIFF and EXIF
_ON_ITS_SIDE = (5, 6, 7, 8)  # EXIF 2.3, section 4.6.4: rows are columns
_BROKEN = (OSError, ValueError, SyntaxError, TypeError, KeyError, EOFError, OverflowError, struct.error)


def upright_sizes(files: Sequence[str | bytes]) -> list[tuple[int, int] | str]:
    """Returns the height and width of each picture as the decoder turns it, or why its header cannot be read.

    Args:
        files: Paths, or the bytes of encoded pictures.
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(_size, files))


def _size(file: str | bytes) -> tuple[int, int] | str:
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as picture:
            if isinstance(picture, TiffImagePlugin.TiffImageFile):
                # Releases of Pillow differ in whether they have turned its size already.
                width, height, turned = (picture.tag_v2.get(tag, 1) for tag in (_WIDTH, _HEIGHT, _ORIENTATION))
            else:
                (width, height), turned = picture.size, _orientation(picture)
            return (width, height) if turned in _ON_ITS_SIDE else (height, width)
    except UnidentifiedImageError:
        return "its header cannot be read"
    except (*_BROKEN, Image.DecompressionBombError) as error:
        return f"its header cannot be read: {error}"


def _orientation(picture: Image.Image) -> int:
    """Returns what the decoder heeds: EXIF's tag in JPEG, and nothing of XMP."""
    try:
        if picture.format not in ("JPEG", "MPO") or "exif" not in picture.info:
            return 1
        exif = Image.Exif()
        exif.load(picture.info["exif"])
        return exif.get(_ORIENTATION, 1)
    except _BROKEN:
        return 1
