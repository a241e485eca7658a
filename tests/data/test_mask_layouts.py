"""Folders of pictures and of masks: which are used, and which mask is whose."""

import json

import numpy as np
import pytest
from PIL import Image

from resnet_tasks.data.readers import mask_layouts

MASK = np.array([[0, 1, 0]], np.uint8)


def folder(root, *files):
    """Fills a folder: files that end with `.png` are masks, others pictures."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (Image.fromarray(MASK) if file.endswith(".png") else Image.new("RGB", (3, 1))).save(root / file)
    (root / "classes.json").write_text(json.dumps({"names": ["a", "b"]}))
    return root


def pairs(*stems, pictures="images", masks="masks"):
    return [file for stem in stems for file in (f"{pictures}/{stem}.jpg", f"{masks}/{stem}.png")]


def layout(source):
    return {name: split.ids for name, split in source.splits.items()}


def test_which_mask_is_whose():
    masks = dict.fromkeys(("a", "b_mask", "deep/c", "x/d", "y/d", "e_L", "e-l", "g.jpg", "h.JPEG", "deep/i.png"), "")
    found = mask_layouts.matched(["a", "b", "c", "d", "e", "f", "g", "h", "i"], masks)
    with_endings = {"b": "b_mask", "g": "g.jpg", "h": "h.JPEG"}
    assert found == {"a": "a", **with_endings, "c": "deep/c", "i": "deep/i.png"}
    assert mask_layouts.matched(["a", "a_mask"], dict.fromkeys(("a", "a_mask"), "")) == {"a": "a", "a_mask": "a_mask"}


UNUSED = {
    "outside of the splits": (
        [*pairs("train/a", "val/b"), *pairs("x1", "extra/y1"), "masks/no picture.png"],
        ["images/extra/y1.jpg", "images/x1.jpg"],
    ),
    "a folder of another name": (
        [file for name in ("train", "val", "holdout") for file in (f"{name}/images/a.jpg", f"{name}/masks/a.png")],
        ["holdout/images/a.jpg"],
    ),
    "one beside its masks": (
        [file for name in ("train", "val", "holdout") for file in (f"{name}/a.jpg", f"{name}annot/a.png")],
        ["holdout/a.jpg"],
    ),
}


@pytest.mark.parametrize("kind", sorted(UNUSED))
def test_pictures_of_no_split_are_said(tmp_path, kind):
    files, unused = UNUSED[kind]
    source = mask_layouts.read(folder(tmp_path, *files))
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 1, "val": 1}
    assert (source.pairs.total, source.pairs.dropped) == (2, ())
    said = [note for note in source.notes if "not used" in note]
    assert said == [f"in no split's folder, and not used: {len(unused)} pictures ({', '.join(unused)})"]
    assert "holdout" not in source.notes[0]


def test_train_alone_is_split_and_what_lies_beside_it_is_not_used(tmp_path):
    stems = [f"train/{number}" for number in range(20)]
    source = mask_layouts.read(folder(tmp_path, *pairs(*stems, "x1")))
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 16, "val": 2, "test": 2}
    assert "in no split's folder, and not used: 1 pictures (images/x1.jpg)" in source.notes


def test_where_all_are_used_nothing_is_said(tmp_path):
    for root, files in ((tmp_path / "with", pairs("train/a", "val/b")), (tmp_path / "without", pairs("a", "b"))):
        assert not any(
            "not used" in note or "same mask" in note for note in mask_layouts.read(folder(root, *files)).notes
        )


def test_two_pictures_of_one_name_and_their_mask_are_said(tmp_path):
    source = mask_layouts.read(folder(tmp_path, *pairs("a", "b"), "images/a.jpeg"))
    assert "pictures of one name have the same mask: 1 times (images/a.jpeg = images/a.jpg)" in source.notes
