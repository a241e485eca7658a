"""The embedded data of detection: scikit-learn's handwritten digits, scattered over canvases drawn anew each time."""

from resnet_tasks.data.examples import LabelMap, Source
from resnet_tasks.data.readers import boxes, digits_drawing

COUNTS = {"train": 600, "val": 80, "test": 120}


def read(*, split_seed: int = 0) -> Source:
    """Returns the canvases as PNGs in memory; a box is the extent of a digit's ink of half its full opacity and more.

    Args:
        split_seed: Splits the digits themselves, so that none is seen in two splits, and seeds the drawing.
    """
    names = tuple(map(str, range(10)))
    pictures = [
        _picture(f"digits/{split}/{number:04d}.png", split, scene)
        for split, count in COUNTS.items()
        for number, scene in enumerate(digits_drawing.scenes(split, count, split_seed), 1)
    ]
    return boxes.assemble(
        "digits",
        "digits",
        pictures,
        boxes.Categories(LabelMap(names), {digit: digit for digit in range(10)}),
        split_seed=split_seed,
        notes=(
            "the embedded handwritten digits of scikit-learn, three to eight on a canvas",
            f"the digits themselves are split 80/10/10, by split seed {split_seed}: none is in two splits",
        ),
    )


def _picture(name: str, split: str, scene: digits_drawing.Scene) -> boxes.Picture:
    rows = tuple(
        boxes.Row((left, top, right, bottom), int(label), f"digit {number} of {name}")
        for number, ((left, top, right, bottom), label) in enumerate(
            zip(scene.boxes.tolist(), scene.labels, strict=True), 1
        )
    )
    return boxes.Picture(name, None, rows, split, encoded=scene.png())
