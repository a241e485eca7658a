"""What the configuration inside a `.keras` file says of preprocessing, and of the backbone."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from resnet_tasks.weights.conventions.reading import Constants


def read(path: Path) -> Any:
    """The configuration of a `.keras` file; `{}` if there is none to be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("config.json"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return {}


def backbone(config: Any) -> str | None:
    """The name of a `Pyramid` of ours, anywhere in the model."""
    for part in _parts(config):
        if part.get("class_name") == "Pyramid" and isinstance(part.get("config"), dict):
            return part["config"].get("name")
    return None


def constants(config: Any) -> Constants | None:
    """Mean and deviation of RGB 0..255: of our layer `standardise`, or of KerasHub's image converter."""
    for part in _parts(config):
        settings = part.get("config")
        if not isinstance(settings, dict) or settings.get("scale") is None:
            continue
        if settings.get("name") == "standardise" or str(part.get("class_name")).endswith("ImageConverter"):
            offset = settings.get("offset")
            scale, offset = (np.broadcast_to(np.asarray(v, float), 3) for v in (settings["scale"], offset or 0.0))
            return tuple(map(float, -offset / scale)), tuple(map(float, 1 / scale))
    return None


def _parts(config: Any) -> Iterator[dict]:
    """Every object within, the outer before the inner."""
    waiting = [config]
    while waiting:
        part = waiting.pop(0)
        if isinstance(part, dict):
            yield part
        waiting += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
