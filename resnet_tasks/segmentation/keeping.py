"""What `predict` leaves behind: a mask a picture, and the regions of all of them as COCO annotations."""

import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from resnet_tasks.data.drawing_masks import indexed_png, palette_of
from resnet_tasks.data.examples import LabelMap
from resnet_tasks.segmentation import polygons

SUFFIX = ".mask.png"


def keep(answer: dict, path: Path | None, labels: LabelMap) -> dict:
    """The answer with its mask in a file: a PNG with a palette, whose pixels are the ids.

    Args:
        answer: As `predictor.describe` words it, with `file`.
        path: Of the mask's file, without a suffix; `None` puts the PNG into the answer, as base64.
        labels: The model's.
    """
    rest = {name: value for name, value in answer.items() if name != "mask"}
    png = indexed_png(answer["mask"], palette_of(labels))
    if path is None:
        return {**rest, "mask_png_base64": base64.b64encode(png).decode()}
    file = path.with_name(path.name + SUFFIX)
    file.write_bytes(png)
    return {**rest, "mask": file.name}


def conclude(folder: Path, answers: Sequence[dict], labels: LabelMap) -> dict[str, str]:
    """annotations.json: the regions of all masks in `folder` as COCO has them, with the source's own category ids."""

    def pictures() -> Iterator[tuple[str, np.ndarray]]:
        for answer in answers:
            if "error" not in answer:
                yield answer["file"], np.asarray(Image.open(folder / answer["mask"]))

    return {"annotations.json": json.dumps(polygons.coco(pictures(), labels), ensure_ascii=False)}
