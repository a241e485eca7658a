"""The embedded data of verification: scikit-learn's handwritten digits as identities, three never trained on."""

from dataclasses import replace

from resnet_tasks.data.readers import digits, splits
from resnet_tasks.data.readers.identities import Found

TRAINED = tuple("0123456")
_OPEN = ": 0 to 6 are trained on, 7, 8 and 9 never"


def read(*, closed: bool = False) -> Found:
    """Returns the digits as PNGs in memory: 0 to 6 are train, 7 to 9 test, which makes the test open.

    Args:
        closed: All ten are for train and test, the pictures of each to be split.
    """
    source = digits.read()
    whole = splits.join("all", list(source.splits.values()))
    order = sorted(range(len(whole)), key=lambda place: whole.ids[place])
    whole = whole.subset(order)
    identities = tuple(source.labels.names[label] for label in whole.annotations["label"])
    return Found(
        where="digits",
        format="digits",
        whole=replace(whole, annotations={}),
        identities=identities,
        readable=tuple(range(len(whole))),
        sides=None if closed else tuple("train" if name in TRAINED else "test" for name in identities),
        notes=(f"the embedded handwritten digits of scikit-learn{'' if closed else _OPEN}",),
    )
