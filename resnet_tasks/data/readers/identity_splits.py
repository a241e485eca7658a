"""Which identity, or which picture of each, goes into which split: by hashes of names, the same on every machine."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from resnet_tasks.data.readers import splits

LEAST = 2  # identities of a split: with one nobody can be told apart


def disjoint(
    identities: Sequence[str], groups: Sequence[str] | None, seed: int, val_share: float, test_share: float
) -> tuple[dict[str, str], str]:
    """Splits identities, so that none is in two splits.

    In the order of their hashes the first are "test", the next "val": `round(share x identities)`, and at least two
    where the share is not 0. Where that would leave fewer than two for "train", val goes without, then test. A group
    so large that "train" would be left less than half of what the shares leave it is trained on.

    Args:
        identities: Of each picture; the others are left alone.
        groups: Of each picture, or None: identities that share a group (a family) stay together.
        seed: `data.split_seed`.
        val_share: Of the identities.
        test_share: Of the identities.

    Returns:
        The split of each identity, and the sentence that says how; an empty one where there are none.
    """
    count = len(set(identities))
    if not count:
        return {}, ""
    wanted = {
        name: max(LEAST, round(share * count)) if share else 0
        for name, share in (("test", test_share), ("val", val_share))
    }
    asked = [name for name in wanted if wanted[name]]
    for name in ("val", "test"):
        if count - sum(wanted.values()) < LEAST:
            wanted[name] = 0
    left, least = count, max(LEAST, (count - sum(wanted.values())) // 2)
    units = _units(identities, groups)
    side = {}
    for unit in sorted(units, key=lambda unit: splits._hash(unit, seed)):
        name = next((name for name, number in wanted.items() if number > 0), "train")
        if left - len(units[unit]) < least:
            name = "train"
        if name != "train":
            wanted[name] -= len(units[unit])
            left -= len(units[unit])
        side.update(dict.fromkeys(units[unit], name))
    held = Counter(side.values())
    said = ", ".join(f"{held[name]} for {name}" for name in splits.NAMES if held[name])
    by = "group" if groups else "identity"
    note = f"split by identity, none in two splits: {said}, by a hash of the {by}'s name and split seed {seed}"
    lost = [name for name in asked if not held[name]]
    why = f"the {len(units)} groups are too few or too large" if groups else f"{count} are too few"
    return side, note + (f"; {why} for {' and '.join(lost)}" if lost else "")


def _units(identities: Sequence[str], groups: Sequence[str] | None) -> dict[str, list[str]]:
    """Returns identities that stay together, by the name of the first of them."""
    leader = {name: name for name in identities}

    def led(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    first: dict[str, str] = {}
    for name, group in zip(identities, groups or ()):
        one, other = sorted((led(name), led(first.setdefault(group, name))), key=splits.natural)
        leader[other] = one
    units = defaultdict(list)
    for name in leader:
        units[led(name)].append(name)
    return dict(units)


def closed(
    names: Sequence[str], identities: Sequence[str], groups: Sequence[str] | None, seed: int, val_share: float
) -> tuple[list[str], str]:
    """Splits the pictures of each identity in halves, so that all are in train and test.

    Of n pictures (groups, where there are groups) the n // 2 first by their hashes are "test"; of the others
    `val_share` are "val", at least two, since one makes no pair; and none of fewer than six.

    Returns:
        The split of each picture, and the sentence that says how.
    """
    of_identity = defaultdict(set)
    for identity, unit in zip(identities, groups or names):
        of_identity[identity].add(unit)
    side = {}
    for identity, units in of_identity.items():
        order = sorted(units, key=lambda unit: splits._hash(unit, seed))
        test = len(order) // 2
        half = len(order) - test
        val = max(2, round(val_share * half)) if val_share and half >= 6 else 0
        for place, unit in enumerate(order):
            side[identity, unit] = "test" if place < test else "val" if place < test + val else "train"
    by = "the group" if groups else "the file name"
    note = f"closed set: each identity's pictures are split in halves, by a hash of {by} and split seed {seed}"
    if val_share and "val" not in side.values():
        note += "; none has pictures enough for val"
    return [side[key] for key in zip(identities, groups or names)], note
