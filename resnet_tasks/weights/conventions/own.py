"""Our own: a model of this project (`.keras`), or the file that `weights convert` writes.

The file has our variables' paths, `head/kernel` and `head/bias`, `standardise/mean` and `standardise/deviation`, and
`note`: JSON, as bytes, with the source and the catalogue's name.
"""

import json
import re

import numpy as np

from resnet_tasks.weights.conventions.reading import HEAD, IGNORED, Constants, Reading, Tensors, gather

UNMISTAKABLE = re.compile(r"stage\d+_block\d+_\w+|stem_conv\d")  # an EfficientNet has a stem_conv too
OURS = re.compile(r"stage\d+_block\d+_\w+|stem_conv\d?(_norm)?|stem_prelu|stem_out_norm")


def read(tensors: Tensors, details: dict) -> Reading | None:
    note = _note(tensors)
    if note is None and not any(UNMISTAKABLE.fullmatch(_layer(name)) for name in tensors):
        return None
    reading = gather("resnet_tasks", tensors, _translate if note is None else _as_written, layout="keras")
    reading.backbone = (note or {}).get("backbone")
    reading.standardise = _constants(tensors.get("standardise/mean"), tensors.get("standardise/deviation"))
    return reading


def _layer(name: str) -> str:
    return name.rpartition("/")[0].rpartition("/")[2]


def _translate(name: str) -> str | None:
    layer, leaf = _layer(name), name.rpartition("/")[2]
    if layer == "logits":
        return HEAD + leaf
    return f"{layer}/{leaf}" if OURS.fullmatch(layer) else None


def _as_written(name: str) -> str:
    return IGNORED if name == "note" or name.startswith("standardise/") else name


def _note(tensors: Tensors) -> dict | None:
    """What `weights convert` says of its file; `None` if it is not its file."""
    try:
        note = json.loads(np.asarray(tensors["note"], np.uint8).tobytes())
    except (KeyError, ValueError):
        return None
    return note if isinstance(note, dict) else None


def _constants(mean, deviation) -> Constants | None:
    if mean is None or deviation is None or np.shape(mean) != (3,) or np.shape(deviation) != (3,):
        return None
    return tuple(map(float, mean)), tuple(map(float, deviation))
