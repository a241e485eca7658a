"""The check of pictures of identities."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from resnet_tasks.data import check_pictures, duplicates
from resnet_tasks.data.check_pictures import Picture
from resnet_tasks.data.check_report import Finding, Histogram, Report, worst_first
from resnet_tasks.data.examples import Split
from resnet_tasks.data.face_alignment import misfit
from resnet_tasks.data.readers import face_pairs, splits
from resnet_tasks.data.readers.faces import look, one_kind
from resnet_tasks.data.readers.identities import Looked, Rules
from resnet_tasks.errors import DataError

_NEARLY_SQUARE = 1.1  # the longer side over the shorter
_MOSTLY = 0.9  # of the pictures with landmarks, below which those without are a warning
_TINY = 0.5  # of the canvas's height, below which a face is blown up more than twice
_SMALL_PRINT = 16  # pixels of the shorter side below which different pictures may have like prints
_MISFIT = 10  # pixels of 112, above which landmarks are not a face's
_MIRRORED = [1, 0, 2, 4, 3]  # the landmarks, left and right swapped
_ORDER = "expected are x and y of left eye, right eye, nose, left and right corner of the mouth, in this order"
_BINS = ((1, 1), (2, 4), (5, 9), (10, 19), (20, 49), (50, 99), (100, None))
_ALIGNMENT = (
    "alignment turns, scales and shifts each face so that its eyes, nose and mouth lie where a template has them; "
    "without it a network tells faces apart far worse. Give landmarks.csv (a file, then x and y of left eye, right "
    "eye, nose, left and right corner of the mouth), and the pictures are aligned here; or align them beforehand, to "
    "crops of one size"
)


def check_faces(
    where: str | Path | Mapping[str, str],
    *,
    image_size: tuple[int, int] = (112, 112),
    data_format: str = "auto",
    images: str | None = None,
    data_dir: str | None = None,
    split_seed: int = 0,
    group: str | None = None,
    val_share: float = 0.1,
    test_share: float = 0.1,
    closed: bool = False,
) -> Report:
    """Checks pictures of identities.

    Args:
        where: As for `read_faces`, and so the others.
        image_size: Height and width of the network's input, which the pictures' sizes are judged on.
    """
    rules = Rules(split_seed, group, val_share, test_share, closed)
    return report_of(look(where, rules, data_format=data_format, images=images, data_dir=data_dir), image_size)


def report_of(looked: Looked, canvas_hw: tuple[int, int]) -> Report:
    """Checks what was found, with all that stops a run."""
    source = looked.source
    if not source.splits:
        raise DataError(f"{source.where}: no picture that can be read")

    def said(split: Split, index: int) -> tuple[str, str]:
        name = looked.names[split.name][index]
        return name, name

    pictures, broken = check_pictures.decoded(source, said)
    same, samples = _duplicated(pictures)
    counts = {name: Counter(looked.names[name]) for name in source.splits}
    everyone = list(dict.fromkeys([*source.labels.names, *_sorted(counts)]))
    findings = [
        *check_pictures.notes(source),
        *check_pictures.unreadable(source, broken),
        *_stopping(looked, everyone),
        *_of_splits(looked),
        *_alone(counts),
        *check_pictures.odd_sizes(pictures),
        *_tiny(pictures, canvas_hw),
        *_unaligned(looked, pictures),
        *_landmarks(looked, pictures),
        *_pairs(looked),
        *same,
    ]
    return Report(
        where=source.where,
        format=source.format,
        counts={split: {name: count[name] for name in everyone} for split, count in counts.items()},
        findings=worst_first(findings),
        samples=samples,
        histogram=_histogram(counts),
    )


def _sorted(counts: Mapping[str, Counter]) -> Iterator[str]:
    for count in counts.values():
        yield from sorted(count, key=splits.natural)


def _stopping(looked: Looked, everyone: list[str]) -> Iterator[Finding]:
    if looked.empty:
        yield Finding("error", f"identity folders without a picture: {len(looked.empty)}", looked.empty)
    if looked.missing:
        files = tuple(f"{problem.file} ({problem.what})" for problem in looked.missing)
        yield Finding("error", f"the list of pairs names {len(files)} times a picture that is not there", files)
    if len(everyone) < 2:
        yield Finding("error", f"{len(everyone)} identities; two or more are needed to tell anyone apart")
    elif len(looked.source.labels) == 1:
        yield Finding(
            "error", "one identity only in train; two or more are needed to learn", looked.source.labels.names
        )


def _of_splits(looked: Looked) -> Iterator[Finding]:
    if looked.untrained:
        yield Finding("error", f"there is no split 'train': {looked.untrained}")
    for split, lack in (("train", "nothing can be trained"), ("val", "no state can be chosen as the best")):
        if split not in looked.source.splits and not (split == "train" and looked.untrained):
            yield Finding("note", f"there is no split {split!r}: {lack}")
    if looked.shared:
        yield Finding(
            "warning", f"identities of train with namesakes in val or test: {len(looked.shared)}", looked.shared
        )


def _alone(counts: Mapping[str, Counter]) -> Iterator[Finding]:
    for split, count in counts.items():
        alone = tuple(name for name, pictures in count.items() if pictures == 1)
        use = "they are learnt from like any other" if split == "train" else "they are in no pair of the same"
        if alone:
            level = "note" if split == "train" else "warning"
            yield Finding(level, f"identities of {split} with one picture: {len(alone)} of {len(count)}; {use}", alone)


def _tiny(pictures: list[Picture], canvas_hw: tuple[int, int]) -> Iterator[Finding]:
    tiny = tuple(
        f"{picture.file} ({picture.taken.size_hw[0]}x{picture.taken.size_hw[1]})"
        for picture in pictures
        if picture.taken.size_hw[0] < _TINY * canvas_hw[0] or picture.taken.size_hw[1] < _TINY * canvas_hw[1]
    )
    if tiny:
        yield Finding(
            "note" if 2 * len(tiny) > len(pictures) else "warning",  # such data ask for another canvas
            f"tiny: {len(tiny)} of {len(pictures)} pictures have less than half the pixels of {canvas_hw[0]}x"
            f"{canvas_hw[1]} in height or width, and are blown up; a smaller --image-size asks less of them",
            tiny,
        )


def _unaligned(looked: Looked, pictures: list[Picture]) -> Iterator[Finding]:
    """Says so where no landmarks are given and the pictures are not crops of one size, nearly square."""
    points = [looked.source.splits[picture.split].annotations.get("landmarks") for picture in pictures]
    aligned = sum(of is not None and np.isfinite(of[picture.index]).all() for of, picture in zip(points, pictures))
    if aligned:
        if aligned < _MOSTLY * len(pictures):
            without = len(pictures) - aligned
            yield Finding("warning", f"{without} of {len(pictures)} pictures have no landmarks; {_ALIGNMENT}")
        return
    sizes = Counter(picture.taken.size_hw for picture in pictures)
    if not sizes:
        return
    (height, width), *others = sizes
    if not others and max(height, width) <= _NEARLY_SQUARE * min(height, width):
        yield Finding("note", f"all pictures are {height}x{width}: they are taken for aligned crops")
        return
    seen = f"they are of {len(sizes)} sizes" if others else f"they are {height}x{width}, which is no square"
    yield Finding("warning", f"the pictures seem not to be aligned: there are no landmarks, and {seen}; {_ALIGNMENT}")


def _landmarks(looked: Looked, pictures: list[Picture]) -> Iterator[Finding]:
    """Finds landmarks that cannot be a face's."""
    found: dict[str, list[str]] = defaultdict(list)
    given = 0
    for picture in pictures:
        points = looked.source.splits[picture.split].annotations.get("landmarks")
        if points is None or np.isnan(points[picture.index]).any():
            continue
        five, (height, width) = points[picture.index], picture.taken.size_hw
        given += 1
        left_eye, right_eye, _, left_corner, right_corner = five
        if (five < -0.5).any() or (five > (width - 0.5, height - 0.5)).any():
            found["outside"].append(picture.file)
        if np.ptp(five, axis=0).max() < 1:
            found["one place"].append(picture.file)
        elif min(misfit(five), misfit(five[_MIRRORED])) > _MISFIT:
            found["no face"].append(picture.file)
        elif np.dot(right_eye - left_eye, right_corner - left_corner) < 0 or _turned(five):
            found["swapped"].append(picture.file)
        elif (left_corner + right_corner - left_eye - right_eye)[1] < 0:
            found["upside down"].append(picture.file)
    swapped = "error" if 2 * len(found["swapped"]) > len(pictures) else "warning"  # faces in profile may look so
    no_face = "error" if 2 * len(found["no face"]) > given else "warning"
    for kind, level, what in (
        ("no face", no_face, f"landmarks that lie as no frontal face's do, over {_MISFIT} pixels of 112 off; {_ORDER}"),
        ("one place", "error", "landmarks all in one place, by which nothing is aligned"),
        ("swapped", swapped, "left and right are swapped: the first eye is the one on the viewer's left"),
        ("upside down", "warning", "the mouth is above the eyes"),
        ("outside", "warning", "landmarks outside of their picture"),
    ):
        if found[kind]:
            yield Finding(level, f"{what}: {len(found[kind])}", tuple(found[kind]))


def _turned(five: np.ndarray) -> bool:
    """Whether the mouth lies, seen along from the first eye to the second, on the side where no mouth is."""
    along = five[1] - five[0]
    down = five[3:].mean(axis=0) - five[:2].mean(axis=0)
    return bool(along[0] * down[1] - along[1] * down[0] < 0)


def _pairs(looked: Looked) -> Iterator[Finding]:
    for name, split in looked.source.splits.items():
        if split.pairs is None:
            if name != "train":
                yield Finding("warning", f"there is no pair in {name}: nothing can be verified")
            continue
        if split.is_protocol and (lacking := one_kind(split)):
            yield Finding("error", lacking)
        for level, rows, what in (
            ("error", face_pairs.contradicted(split), "that their folders contradict"),
            ("warning", face_pairs.of_one_picture(split), "of a picture with itself, whose similarity is always 1"),
        ):
            files = tuple(
                f"{split.ids[first]}, {split.ids[second]}: {'same' if is_same else 'different'}"
                for first, second, is_same, _ in rows.tolist()
            )
            if files:
                yield Finding(level, f"pairs of {name} {what}: {len(files)}", files)


def _duplicated(pictures: list[Picture]) -> tuple[list[Finding], tuple]:
    """Finds equal pictures, and nearly equal ones under two names: a person's own are alike by nature.

    Returns:
        The findings, and groups to show as in `Report.samples`.
    """
    same = duplicates.exact([picture.taken for picture in pictures])
    torn, alone = check_pictures._parted(same, lambda place: pictures[place].truth)
    across, within = check_pictures._parted(alone, lambda place: pictures[place].split)
    # Small pictures have like prints by chance.
    large = [place for place, picture in enumerate(pictures) if min(picture.taken.size_hw) >= _SMALL_PRINT]
    near = [[large[place] for place in group] for group in duplicates.near([pictures[place].taken for place in large])]
    alike, _ = check_pictures._parted(near, lambda place: pictures[place].truth)
    findings = []
    for level, groups, what in (
        ("error", torn, "the same picture is under different identities"),
        ("error", across, "the same picture is in different splits, where its score says nothing"),
        ("warning", alike, "nearly the same picture is under different identities"),
        ("warning", within, "the same picture stands twice under one identity"),
    ):
        if groups:
            files = tuple(" = ".join(check_pictures._called(pictures[place]) for place in group) for group in groups)
            findings.append(Finding(level, f"{what}: {len(groups)} times", files))
    samples = tuple(
        tuple(
            (check_pictures._called(pictures[place]), pictures[place].taken.miniature)
            for place in group[: check_pictures._SHOWN_OF_GROUP]
        )
        for group in (torn + across + alike + within)[: check_pictures._SHOWN_GROUPS]
    )
    return findings, samples


def _histogram(counts: Mapping[str, Counter]) -> Histogram:
    """How many identities of each split have how many pictures."""
    bins: dict[str, dict[str, int]] = {}
    for low, high in _BINS:
        name = f"{low} and more" if high is None else str(low) if low == high else f"{low} to {high}"
        bins[name] = {
            split: sum(low <= pictures and (high is None or pictures <= high) for pictures in count.values())
            for split, count in counts.items()
        }
    return Histogram("identities by their number of pictures", bins)
