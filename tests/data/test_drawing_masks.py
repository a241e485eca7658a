"""Drawn masks: which colour lies where, and that an indexed PNG holds the ids."""

import io

import numpy as np
import pytest
from PIL import Image

from resnet_tasks.data.drawing import class_colors
from resnet_tasks.data.drawing_masks import VOID, indexed_png, legend, overlay, palette_of
from resnet_tasks.data.examples import LabelMap
from resnet_tasks.data.masks import IGNORE

PALETTE = [(0, 0, 0), (200, 40, 0), (0, 100, 250)]
RNG = np.random.default_rng(0)


def halves(height=40, width=60) -> np.ndarray:
    """Class 1 on the left, 2 on the right."""
    mask = np.ones((height, width), np.uint8)
    mask[:, width // 2 :] = 2
    return mask


def test_colours_are_blended_and_regions_outlined_by_hand():
    image = np.full((40, 60, 3), 100, np.uint8)
    drawn = np.asarray(overlay(image, halves(), PALETTE))
    # 0.5 * 100 + 0.5 * (200, 40, 0), and a pixel on either side of the border in full.
    np.testing.assert_array_equal(drawn[:, :29], np.broadcast_to([150, 70, 50], (40, 29, 3)))
    np.testing.assert_array_equal(drawn[:, 29], np.broadcast_to(PALETTE[1], (40, 3)))
    np.testing.assert_array_equal(drawn[:, 30], np.broadcast_to(PALETTE[2], (40, 3)))
    np.testing.assert_array_equal(drawn[:, 31:], np.broadcast_to([50, 100, 175], (40, 29, 3)))
    assert (image == 100).all()  # drawn into a copy
    plain = np.asarray(overlay(Image.fromarray(image), halves(), PALETTE, opacity=0.25, outline=False))
    np.testing.assert_array_equal(plain[:, :30], np.broadcast_to([125, 85, 75], (40, 30, 3)))


def test_lines_grow_with_the_picture():
    drawn = np.asarray(overlay(np.zeros((50, 960, 3), np.uint8), halves(50, 960), PALETTE))
    assert (drawn == PALETTE[1]).all(-1)[25].sum() == (drawn == PALETTE[2]).all(-1)[25].sum() == 960 // 480


def test_void_is_hatched_and_has_no_line():
    mask = halves()
    mask[10:30, 10:28] = IGNORE
    image = RNG.integers(0, 256, (40, 60, 3)).astype(np.uint8)
    drawn, without = (np.asarray(overlay(image, each, PALETTE)).astype(int) for each in (mask, halves()))
    rows, columns = np.nonzero(mask == IGNORE)
    stripes = np.where((rows + columns) // 3 % 2, 40, 235)[:, None]
    assert np.abs(drawn[rows, columns] - (0.55 * image[rows, columns] + 0.45 * stripes)).max() <= 0.51
    beside = np.zeros(mask.shape, bool)
    beside[9:31, 9:29] = True
    np.testing.assert_array_equal(drawn[~beside], without[~beside])
    np.testing.assert_array_equal(drawn[9, 10:28], np.broadcast_to(PALETTE[1], (18, 3)))


@pytest.mark.parametrize(
    ("mask", "said"),
    [(np.zeros((9, 8), np.uint8), r"\(9, 8\).*\(8, 9\)"), (np.full((8, 9), 3, np.uint8), "id 3, and there are 3")],
)
def test_what_does_not_fit_is_refused(mask, said):
    with pytest.raises(ValueError, match=said):
        overlay(np.zeros((8, 9, 3), np.uint8), mask, PALETTE)


def test_an_indexed_png_holds_the_ids():
    mask = RNG.integers(0, 3, (31, 45)).astype(np.uint8)
    mask[3:7, 2:9] = IGNORE
    data = indexed_png(mask, PALETTE)
    picture = Image.open(io.BytesIO(data))
    assert picture.mode == "P"
    assert data[24:26] == bytes((8, 3)), "bits, and the kind of colour: a palette"
    np.testing.assert_array_equal(np.asarray(picture), mask)
    expected = np.array([*PALETTE, VOID])[np.where(mask == IGNORE, 3, mask)]
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), expected)


def test_palettes():
    own = LabelMap(("sky", "road"), colors=([1, 2, 3], (4, 5, 6)))
    assert palette_of(own) == [(1, 2, 3), (4, 5, 6)]
    ours = class_colors(3)
    assert palette_of(LabelMap(("sky", "background", "road"))) == ours
    for name in ("background", "Void", "__background__", "unlabelled", "unlabeled"):
        assert palette_of(LabelMap((name, "sky", "road"))) == [(0, 0, 0), *ours[1:]]
    assert palette_of(LabelMap(())) == []


def test_a_legend_has_a_swatch_and_a_name_for_each():
    sheet = np.asarray(legend(["sky", "road"], PALETTE[1:]))
    for colour in PALETTE[1:]:
        assert (sheet == colour).all(-1).sum() > 100
    names = [f"class {number}" for number in range(30)]
    wrapped = legend(names, class_colors(30), width=300)
    assert 200 < wrapped.width <= 300
    assert wrapped.height > 5 * legend(names[:1], class_colors(1)).height / 2
    swatches = [(np.asarray(wrapped) == colour).all(-1).sum() for colour in class_colors(30)]
    assert len(set(swatches)) == 1, "whole, each"
    assert legend([], []).size == (1, 1)
    assert legend(["x" * 100], [(0, 0, 0)], width=50).width > 500
