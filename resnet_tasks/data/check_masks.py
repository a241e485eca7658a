"""The check of pictures with masks."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from resnet_tasks.data import check_mask_drawings, check_mask_pairs, check_pictures
from resnet_tasks.data.check_counts import class_findings
from resnet_tasks.data.check_page import VOID_PIXELS
from resnet_tasks.data.check_report import Finding, Report, worst_first
from resnet_tasks.data.drawing_masks import palette_of
from resnet_tasks.data.examples import Source, Split
from resnet_tasks.data.readers.pairs_of_masks import DOUBT

_RARE = 0.01  # of train's pixels
_MOST_VOID = 0.5  # of the pixels, from which void is a warning
_MANY_PLAIN = 0.5  # of the masks of a split that hold one class each, from which they are a warning
_SMALL = 0.5  # scale of the pictures on the canvas below which it is said


def check_segmentation(
    where: str | Mapping[str, str], *, image_size: tuple[int, int] = (512, 512), **reading
) -> Report:
    """Checks pictures with masks.

    Args:
        where: As for `read_segmentation`.
        image_size: Height and width of the network's input, which the pictures' sizes are judged on.
        reading: The other arguments of `read_segmentation`, but for `on_bad_image` and `most_bad_pairs`.
    """
    from resnet_tasks.data.readers.segmentation import read_segmentation

    return report_of(read_segmentation(where, on_bad_image="skip", most_bad_pairs=1.0, **reading), image_size)


def report_of(source: Source, canvas_hw: tuple[int, int]) -> Report:
    """Checks a source that was read with all its broken pairs and files left out."""
    names = source.labels.names

    def said(split: Split, index: int) -> tuple[str, str]:
        held = int(_present(split)[index].sum())
        return _digest(split, index), f"{held} class" + "es" * (held != 1)

    pictures, broken = check_pictures.decoded(source, said)
    turned = check_mask_pairs.turned_by_exif(source, pictures)
    present = {name: _present(split).sum(axis=0) for name, split in source.splits.items()}
    findings = [_weighed(finding) for finding in check_pictures.notes(source)]
    findings += check_pictures.unreadable(source, broken)
    findings += check_mask_pairs.pair_findings(source)
    findings += check_mask_pairs.turned_findings(pictures, turned)
    if source.splits:
        advice = "look at the IoU of each class, and collect more of the rare ones"
        findings += class_findings(present, names, "picture", advice)
    else:
        findings.append(Finding("error", "there is no picture with a mask that could be used"))
    findings += _nothing_to_learn(source)
    findings += _rare(source)
    findings += _plain(source)
    findings += _void(source)
    findings += check_pictures.odd_sizes(pictures)
    findings += _shrunk(pictures, canvas_hw)
    same, samples = check_pictures.duplicated(pictures, "masks")
    pixels = {name: split.annotations["pixels"].sum(axis=0)[:-1] for name, split in source.splits.items()}
    return Report(
        where=source.where,
        format=source.format,
        counts=_by_class(pixels, names),
        findings=worst_first([*findings, *same]),
        samples=samples,
        counted="pixels",
        source_ids=dict(zip(names, source.labels.source_ids)),
        pictures={name: _kinds_of_pictures(split) for name, split in source.splits.items()},
        drawn=check_mask_drawings.drawn(source, pictures, turned),
        present=_by_class(present, names),
        colours=dict(zip(names, palette_of(source.labels), strict=True)),
    )


def _by_class(counts: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, dict[str, int]]:
    return {split: dict(zip(names, count.tolist(), strict=True)) for split, count in counts.items()}


def _present(split: Split) -> np.ndarray:
    """Which classes each mask holds, bool `(pictures, classes)`."""
    return split.annotations["pixels"][:, :-1] > 0


def _digest(split: Split, index: int) -> str:
    ids = split.masks.ids(index) if split.masks else np.zeros((0, 0), np.uint8)
    return hashlib.sha256(f"{ids.shape}".encode() + np.ascontiguousarray(ids).tobytes()).hexdigest()


def _kinds_of_pictures(split: Split) -> dict[str, int]:
    held = _present(split).sum(axis=1)
    return {
        "pictures": len(split),
        "of one class": int((held == 1).sum()),
        "all void": int((held == 0).sum()),
        VOID_PIXELS: int(split.annotations["pixels"][:, -1].sum()),
    }


def _weighed(note: Finding) -> Finding:
    """A note of the reader's; a warning where it doubts the masks."""
    return replace(note, level="warning") if DOUBT in note.what else note


def _nothing_to_learn(source: Source) -> Iterator[Finding]:
    """Finds what training refuses: no class on any picture, or a single class."""
    if not source.splits:
        return
    if not any(_present(split).any() for split in source.splits.values()):
        yield Finding("error", "all masks are void, no pixel is of a class")
    elif len(source.labels) == 1:
        yield Finding(
            "error",
            f"one class only ({source.labels.names[0]}); a segmenter needs two or more: give what is not of it a class "
            "too, and not void",
        )


def _rare(source: Source) -> Iterator[Finding]:
    """Finds classes of few pixels in train, which a mean over pixels hardly learns."""
    if "train" not in source.splits:
        return
    pixels = source.splits["train"].annotations["pixels"][:, :-1].sum(axis=0)
    shares = pixels / max(pixels.sum(), 1)
    rare = np.flatnonzero((pixels > 0) & (shares < _RARE))
    if len(rare):
        order = rare[np.argsort(shares[rare], kind="stable")].tolist()
        yield Finding(
            "note",
            f"classes with less than {_RARE:.0%} of train's pixels: {len(rare)}; cross-entropy alone learns them late: "
            "class weights, the Dice or the Lovász loss make them count",
            tuple(f"{source.labels.names[label]}: {shares[label]:.2%}" for label in order),
        )


def _plain(source: Source) -> Iterator[Finding]:
    """Finds masks that hold one class, and such that hold none."""
    void = []
    for name, split in source.splits.items():
        held = _present(split).sum(axis=1)
        void += [f"{split.ids[place]} ({name})" for place in np.flatnonzero(held == 0)]
        plain = np.flatnonzero(held == 1).tolist()
        if plain:
            pixels = split.annotations["pixels"][:, :-1]
            many = len(plain) > _MANY_PLAIN * len(split)
            yield Finding(
                "warning" if many else "note",
                f"masks of a single class in {name}: {len(plain)} of {len(split)}"
                + ("; look whether the masks hold what was drawn" if many else ""),
                tuple(f"{split.ids[place]}: {source.labels.names[pixels[place].argmax()]}" for place in plain),
            )
    if void:
        yield Finding("warning", f"masks that are all void, and teach and measure nothing: {len(void)}", tuple(void))


def _void(source: Source) -> Iterator[Finding]:
    shares = {}
    for name, split in source.splits.items():
        pixels = split.annotations["pixels"]
        shares[name] = pixels[:, -1].sum() / max(pixels.sum(), 1)
    if any(shares.values()):
        said = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
        much = max(shares.values()) > _MOST_VOID
        yield Finding(
            "warning" if much else "note",
            f"void, which is neither learnt nor measured, of the pixels: {said}"
            + ("; look whether that is meant, or a class lost its name" if much else ""),
        )


def _shrunk(pictures: Sequence[check_pictures.Picture], canvas_hw: tuple[int, int]) -> Iterator[Finding]:
    if not pictures:
        return
    sizes = np.array([picture.taken.size_hw for picture in pictures])
    scale = float(np.median((np.array(canvas_hw) / sizes).min(axis=1)))
    if scale < _SMALL:
        yield Finding(
            "note",
            f"on a canvas of {canvas_hw[0]}x{canvas_hw[1]} the pictures lie at {scale:.2f} of their size in the "
            f"median, and what is thinner than {1 / scale:.0f} of their pixels is lost: a larger --image-size keeps "
            "it; predict --tile looks at large pictures part by part",
        )
