"""The embedded data of verification: scikit-learn's handwritten digits as identities, three never trained on.

Seven identities teach what tells these seven apart and little more.  Turned by quarters and mirrored, a digit is
another shape of the same hand: so each of four digits is eight identities.  A 0 or a 1 turned is not another, and a 6
turned is a 9, which training must not see.
"""

import io
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL import Image

from resnet_tasks.data.examples import Split
from resnet_tasks.data.masks import grey_png
from resnet_tasks.data.readers import digits, splits
from resnet_tasks.data.readers.identities import Found

TRAINED = tuple("0123456")
TURNED = tuple("2345")
_OPEN = ": 0 to 6 are trained on, 2 to 5 also turned and mirrored, 7, 8 and 9 never"


def read(*, closed: bool = False) -> Found:
    """Returns the digits as PNGs in memory: 0 to 6 are train, 7 to 9 test, which makes the test open.

    Args:
        closed: All ten are for train and test, the pictures of each to be split; none is turned.
    """
    source = digits.read()
    whole = splits.join("all", list(source.splits.values()))
    order = sorted(range(len(whole)), key=lambda place: whole.ids[place])
    whole = whole.subset(order)
    identities = [source.labels.names[label] for label in whole.annotations["label"]]
    rows = list(zip(whole.ids, whole.encoded or (), identities))
    if not closed:
        rows += [turned for row in rows if row[2] in TURNED for turned in _turned(*row)]
    files, encoded, names = zip(*rows)
    ids = tuple(f"digits/{name}/{file.rpartition('/')[2]}" for file, name in zip(files, names))
    return Found(
        where="digits",
        format="digits",
        whole=replace(Split(name="all", ids=ids, encoded=encoded), annotations={}),
        identities=names,
        readable=tuple(range(len(rows))),
        sides=None if closed else tuple("train" if name[0] in TRAINED else "test" for name in names),
        notes=(f"the embedded handwritten digits of scikit-learn{'' if closed else _OPEN}",),
    )


def _turned(file: str, png: bytes, digit: str) -> Iterator[tuple[str, bytes, str]]:
    """The seven other ways to lay a picture, as files and identities of their own."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    for quarters in range(4):
        for is_mirrored in (False, True):
            if quarters or is_mirrored:
                moved = np.rot90(pixels[:, ::-1] if is_mirrored else pixels, quarters)
                how = f"{'mirrored-' if is_mirrored else ''}turned-{90 * quarters}"
                yield f"{file}#{how}", grey_png(moved), f"{digit} {how}"
