"""The embedded data of segmentation: scikit-learn's handwritten digits, scattered over canvases, with exact masks."""

from resnet_tasks.data import masks
from resnet_tasks.data.examples import LabelMap, Source
from resnet_tasks.data.readers import digits_drawing
from resnet_tasks.data.readers.pairs_of_masks import Classes, Pair, assemble

COUNTS = {"train": 600, "val": 80, "test": 120}


def read(*, split_seed: int = 0) -> Source:
    """Returns the canvases and their masks as PNGs in memory: 0 is background, 1 to 10 the ink of the digits 0 to 9.

    Ink is where its opacity is one half and more; no pixel is void.

    Args:
        split_seed: Splits the digits themselves, so that none is seen in two splits, and seeds the drawing.
    """
    names = ("background", *map(str, range(10)))
    pairs = [
        _pair(f"digits/{split}/{number:04d}", split, scene)
        for split, count in COUNTS.items()
        for number, scene in enumerate(digits_drawing.scenes(split, count, split_seed), 1)
    ]
    return assemble(
        "digits",
        "digits",
        pairs,
        Classes(LabelMap(names, tuple(range(len(names)))), masks.read_grey, plain=True),
        split_seed=split_seed,
        group=None,
        notes=(
            "the embedded handwritten digits of scikit-learn, three to eight on a canvas",
            f"the digits themselves are split 80/10/10, by split seed {split_seed}: none is in two splits",
        ),
    )


def _pair(stem: str, split: str, scene: digits_drawing.Scene) -> Pair:
    mask = masks.grey_png(scene.mask)
    return Pair(f"{stem}.png", None, mask, f"{stem}_mask.png", split, encoded=scene.png())
