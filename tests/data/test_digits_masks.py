"""The embedded canvases of digits with their masks: every pixel of ink is the digit that was drawn there."""

import io

import numpy as np
import pytest
from PIL import Image

from resnet_tasks.data.readers import digits_drawing, digits_masks


@pytest.fixture(scope="module")
def source():
    return digits_masks.read()


def test_the_source(source):
    assert (source.format, source.labels.names) == ("digits", ("background", *"0123456789"))
    assert source.labels.source_ids == tuple(range(11))
    assert {name: len(split) for name, split in source.splits.items()} == digits_masks.COUNTS
    assert source.splits["train"].ids[:2] == ("digits/train/0001.png", "digits/train/0002.png")
    assert (source.problems, source.pairs.total, source.pairs.dropped) == ((), sum(digits_masks.COUNTS.values()), ())
    for split in source.splits.values():
        assert split.annotations["pixels"][:, 1:-1].sum(axis=0).min() > 0  # each digit occurs
        assert (split.annotations["pixels"][:, -1] == 0).all()  # and nothing is void
    empty = ~source.splits["train"].annotations["present"][:, 1:].any(axis=1)
    assert np.flatnonzero(empty).tolist() == list(range(11, 600, 12))


def test_masks_are_those_that_were_drawn(source):
    val = source.splits["val"]
    drawn = digits_drawing.scenes("val", digits_masks.COUNTS["val"], 0)
    fetch = val.masks.fetcher()
    for place, scene in enumerate(drawn):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(val.read(place)))), scene.pixels)
        expected = np.zeros(scene.owner.shape, int)
        for number, label in enumerate(scene.labels, 1):
            expected[scene.owner == number] = label + 1
        assert np.array_equal(val.masks.ids(place), expected)
        assert val.annotations["pixels"][place].tolist() == np.bincount(expected.ravel(), minlength=12).tolist()
        assert np.array_equal(fetch(place).numpy(), expected)  # decoded by TensorFlow
    assert val.masks.plain and val.masks.names[0] == "digits/val/0001_mask.png"


def test_the_split_seed_draws_anew(source, monkeypatch):
    monkeypatch.setattr(digits_masks, "COUNTS", {"test": 4})
    same, other = (digits_masks.read(split_seed=seed).splits["test"] for seed in (0, 1))
    assert same.masks.entries == source.splits["test"].masks.entries[:4]
    assert other.masks.entries != same.masks.entries
    assert other.fingerprint() != same.fingerprint()
