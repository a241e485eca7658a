"""Reads the files of a run folder; what is missing or torn is `None` or empty, never an error."""

import csv
import io
import json
import logging
import math
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from resnet_tasks.engine import draw

logger = logging.getLogger("resnet_tasks")

AS_IT_IS = 60_000  # bytes: a larger picture is embedded as a JPEG of at most the asked size
QUALITY = 85


def read_text(path: Path) -> str | None:
    """A text file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def read_json(path: Path, kind: type = dict):
    """A JSON file that holds a `kind`; empty if there is none."""
    text = read_text(path)
    try:
        value = json.loads(text) if text is not None else kind()
    except ValueError as error:
        logger.warning("%s is left out of the report: %s", path, error)
        return kind()
    return value if isinstance(value, kind) else kind()


def read_table(path: Path) -> list[list[str]]:
    """A CSV file's lines, that of the columns' names first, all as long as it; empty if none."""
    text = read_text(path) or ""
    lines = [line for line in csv.reader(io.StringIO(text, newline="")) if line]
    width = len(lines[0]) if lines else 0
    return [(line + [""] * width)[:width] for line in lines]


def read_rows(path: Path) -> list[dict[str, str]]:
    """A CSV file's rows by column, in order; empty if there is none."""
    columns, *lines = read_table(path) or [[]]
    return [dict(zip(columns, line)) for line in lines]


def read_yaml(path: Path) -> dict:
    """A YAML file's sections; empty if there is none."""
    import yaml

    try:
        value = yaml.safe_load(read_text(path) or "")
    except yaml.YAMLError as error:
        logger.warning("%s is left out of the report: %s", path, error)
        value = None
    return value if isinstance(value, dict) else {}


def embedded(path: Path, side: int) -> str | None:
    """A picture file as a `data:` address, made smaller where its file is large."""
    try:
        if path.suffix == ".svg":
            return draw.data_uri(path.read_bytes())
        with Image.open(path) as picture:
            picture.load()  # a torn file is no picture
            if path.stat().st_size <= AS_IT_IS:
                return draw.data_uri(path.read_bytes())
            return draw.data_uri(draw.thumbnail(picture, side), QUALITY)
    except (OSError, ValueError, UnidentifiedImageError) as error:
        if path.exists():
            logger.warning("%s is left out of the report: %s", path, error)
        return None


def is_small(path: Path, side: int) -> bool:
    """Whether both sides of a picture file are below so many pixels."""
    try:
        with Image.open(path) as picture:
            return max(picture.size) < side
    except (OSError, UnidentifiedImageError):
        return False


def is_wide(path: Path) -> bool:
    """Whether a picture file is half as wide again as it is high, or more."""
    try:
        with Image.open(path) as picture:
            return picture.width >= 1.5 * picture.height
    except (OSError, UnidentifiedImageError):
        return False


def number(text: str | None) -> int | float | None:
    """A CSV cell as a finite number; `None` where it is none, or there is no cell."""
    if text is None:
        return None
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        return value if math.isfinite(value) else None
    return None
