"""Whose a file is that several pictures of a source would have: of one that was only guessed it is another's."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnet_tasks.data.readers.boxes import Picture


def settled(pictures: Sequence[Picture]) -> list[Picture]:
    """Takes the file from a picture that has it by a guess, where it is another's, or another's by a guess as well.

    Two that say the same (one annotation in two lists) are one.
    """
    kept = list(pictures)
    if not any(picture.guessed for picture in pictures):
        return kept
    for places in _by_file(pictures).values():
        known = [place for place in places if not pictures[place].guessed]
        guessed = [place for place in places if pictures[place].guessed]
        said = {(pictures[place].name, pictures[place].rows) for place in guessed}
        if not guessed or (not known and len(said) == 1):
            continue
        for place in guessed:
            others = [other for other in known or guessed if other != place]
            other = next((o for o in others if pictures[o].name != pictures[place].name), others[0])
            whose = f"{pictures[other].name}'s"
            if pictures[other].name == pictures[place].name:
                whose += f" in {pictures[other].split}"
            why = f"the only file of that name is {whose}{'' if known else ' as well'}"
            kept[place] = replace(pictures[place], path=None, tried=(*pictures[place].tried, why))
    return kept


def united(pictures: Sequence[Picture]) -> tuple[list[int], list[Picture], list[str]]:
    """Puts the rows together of pictures of one split that are the same file under two names or numbers.

    Returns:
        The places of the pictures that stay, these, with the rows of the others, and the names of the others.
    """
    groups: dict[tuple, list[int]] = defaultdict(list)
    for path, places in _by_file(pictures).items():
        for place in places:
            groups[path, pictures[place].split].append(place)
    stay, gone = dict(enumerate(pictures)), []
    for places in groups.values():
        first, *others = places
        if len({(pictures[place].name, pictures[place].image_id) for place in places}) == len(places) > 1:
            stay[first] = replace(pictures[first], rows=tuple(row for place in places for row in pictures[place].rows))
            gone += [stay.pop(place).name for place in others]
    return list(stay), list(stay.values()), gone


def _by_file(pictures: Sequence[Picture]) -> dict[str, list[int]]:
    """Returns the places of the pictures of each file; two links to one file are two."""
    real: dict[str, str] = {}
    found = defaultdict(list)
    for place, picture in enumerate(pictures):
        if picture.path is not None:
            folder, name = os.path.split(picture.path)
            if folder not in real:
                real[folder] = os.path.realpath(folder)
            found[os.path.join(real[folder], name)].append(place)
    return found
