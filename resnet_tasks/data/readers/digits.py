"""The embedded data: 1,797 real handwritten digits, which scikit-learn ships.

Alpaydin & Kaynak 1998, "Optical Recognition of Handwritten Digits" (UCI), its test part: grey,
8 x 8 pixels, 0..16.
"""

import io

import numpy as np
from PIL import Image

from resnet_tasks.data.examples import LabelMap, Source, Split
from resnet_tasks.data.readers import splits


def read(*, split_seed: int = 0) -> Source:
    """Returns the digits as PNGs in memory, split 80/10/10 class by class."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int32)
    ids = tuple(f"digits/{index:04d}.png" for index in range(len(labels)))
    whole = Split(
        name="all",
        ids=ids,
        encoded=tuple(_png(picture) for picture in grey),
        annotations={"label": labels},
    )
    return Source(
        where="digits",
        format="digits",
        labels=LabelMap(names=tuple(str(name) for name in digits.target_names)),
        splits=splits.cut(whole, splits.hashed(ids, labels.tolist(), None, split_seed)),
        notes=(
            "the embedded handwritten digits of scikit-learn",
            splits.note(split_seed, None),
        ),
    )


def _png(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()
