"""One label map for several files or parts of a data set, whose classes must be the same by name and by number."""

from collections.abc import Mapping

from resnet_tasks.data.examples import LabelMap
from resnet_tasks.data.readers import splits
from resnet_tasks.errors import DataError


def agreed(parts: Mapping[str, LabelMap]) -> LabelMap:
    """Returns the classes of all parts: in the order of the sources' own numbers, else as people sort names.

    A part may lack classes that another has. Where only some parts have numbers of their own, the names decide, and
    the numbers are kept if they are there for all names.

    Args:
        parts: The label maps, by what messages call their parts.

    Raises:
        DataError: A name has two numbers, or a number two names.
    """
    first = next(iter(parts.values()))
    if all(labels == first for labels in parts.values()):
        return first
    number: dict = {}  # of each name, and where it stands
    name: dict = {}  # of each number, and where it stands
    for where, labels in parts.items():
        for key, source_id in zip(labels.names, labels.source_ids):
            known, there = number.setdefault(key, (source_id, where))
            if known != source_id:
                raise DataError(
                    f"class {key!r} is number {known} in {there} and {source_id} in {where}; number the classes "
                    "alike in all files of a data set"
                )
            other, there = name.setdefault(source_id, (key, where))
            if other != key:
                raise DataError(
                    f"class number {source_id} is {other!r} in {there} and {key!r} in {where}; number the classes "
                    "alike in all files of a data set"
                )
    names = {key for labels in parts.values() for key in labels.names}
    if names == set(number):
        ordered = sorted(number, key=lambda key: order(number[key][0]))
        return LabelMap(names=tuple(ordered), source_ids=tuple(number[key][0] for key in ordered))
    if names == set(first.names):
        return LabelMap(names=first.names)
    return LabelMap(names=tuple(sorted(names, key=splits.natural)))


def order(source_id) -> tuple:
    """A sorting key for a source's own ids: numbers, then text."""
    return (0, source_id, "") if isinstance(source_id, int) else (1, 0, str(source_id))
