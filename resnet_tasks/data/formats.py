"""What a picture file is, by its first and last bytes; and Pillow's help where TensorFlow's decoder has none.

TensorFlow reads JPEG, PNG, GIF, WebP and 24-bit BMP.  Other BMPs it refuses or reads wrongly (a palette's indices as
grey levels), an animated WebP brings it down, and TIFF, PGM and their kin it does not know: those Pillow reads, and
they are handed on as PNG.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from resnet_tasks.errors import DataError, UsageError

_SUFFIXES = "jpg jpeg jpe jfif png gif bmp dib webp tif tiff pgm ppm pbm pnm jp2 avif"
SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
HEAD_BYTES = 64
# Some cameras write padding or a few hundred bytes of their own after a JPEG's end marker.
TAIL_BYTES = 4096

_MAGIC = (
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
    (8, b"WEBP", "webp"),
    (0, b"BM", "bmp"),
    (0, b"II*\0", "tiff"),
    (0, b"MM\0*", "tiff"),
    (0, b"\0\0\0\x0cjP  ", "jpeg2000"),
    (4, b"ftypavif", "avif"),
    *((0, b"P%d%c" % (kind, space), "pnm") for kind in range(1, 7) for space in b" \t\r\n"),
)
_END = {"jpeg": b"\xff\xd9", "png": b"IEND\xaeB`\x82", "gif": b";"}


class Unreadable(DataError):
    """A picture that cannot be read; the message is the reason."""


@dataclass(frozen=True)
class Kind:
    """What the first and last bytes of a file tell.

    Attributes:
        name: "jpeg", "png", "gif", "webp", "bmp", "tiff", "pnm", "jpeg2000" or "avif".
        by_pillow: TensorFlow cannot read it, or reads it wrongly.
        complete: The format's end marker stands among the last bytes. Where it does not, the file is cut off, or
            something long was appended to it: decoding tells.
    """

    name: str
    by_pillow: bool
    complete: bool


def sniff(head: bytes, tail: bytes) -> Kind:
    """Tells a picture by its first `HEAD_BYTES` and last `TAIL_BYTES` bytes; raises Unreadable if it is none."""
    if not head:
        raise Unreadable("the file is empty")
    for place, magic, name in _MAGIC:
        if head[place : place + len(magic)] == magic:
            return Kind(name, not _by_tensorflow(name, head), complete=_END.get(name, b"") in tail)
    raise Unreadable(f"not a picture: it begins with {head[:12]!r}")


def kind_of(path: str | Path) -> Kind:
    """`sniff` for a file; reads a few kilobytes of it."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
            size = file.seek(0, io.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            return sniff(head, file.read())
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None


def readable_bytes(path: str | Path) -> bytes:
    """Returns the bytes of a picture file as the decoder takes them.

    Raises:
        UsageError: There is no such file.
        Unreadable: It cannot be opened, or is no picture that Pillow or TensorFlow could read.
    """
    try:
        return decodable(Path(path).read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist") from None
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None


def decodable(data: bytes) -> bytes:
    """Returns `data` where TensorFlow reads this kind of picture, else the same picture as PNG by Pillow."""
    if not sniff(data[:HEAD_BYTES], data[-TAIL_BYTES:]).by_pillow:
        return data
    try:
        with Image.open(io.BytesIO(data)) as picture:
            pixels = rgb(picture)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise Unreadable(str(error)) from None
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def rgb(picture: Image.Image) -> np.ndarray:
    """Returns uint8 RGB `(height, width, 3)`, upright, by the decoder's rules: of 16 bits the upper 8, alpha dropped.

    Raises:
        Unreadable: Samples of 32 bits or in floating point, whose range a file does not tell.
    """
    if picture.format in ("JPEG", "MPO", "TIFF", None):  # as the decoder, which asks no other format
        picture = ImageOps.exif_transpose(picture)
    if picture.mode == "F":
        raise Unreadable("floating-point samples of unknown range; save it with 8 or 16 bits")
    if picture.mode.startswith("I"):
        samples = np.asarray(picture).astype(np.int64)
        if samples.min() < 0 or samples.max() > 0xFFFF:
            raise Unreadable("samples of 32 bits, of unknown range; save it with 8 or 16 bits")
        return np.repeat((samples >> 8).astype(np.uint8)[..., None], 3, axis=-1)
    return np.asarray(picture.convert("RGB"))


def _by_tensorflow(name: str, head: bytes) -> bool:
    if name == "bmp":  # 24 bits a pixel, not compressed (Windows' BITMAPINFOHEADER)
        return head[28:34] == b"\x18\0\0\0\0\0"
    if name == "webp":  # not animated (the extended header's flag)
        return not (head[12:16] == b"VP8X" and head[20] & 2)
    return name in ("jpeg", "png", "gif")
