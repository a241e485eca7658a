"""Drawn boxes: where the lines lie, and whether labels and colours can be read."""

import itertools

import numpy as np
import pytest
from PIL import Image

from resnet_tasks.data.drawing import class_colors, draw_boxes, luminance, sized_to_draw, text_color

GREY = 128
BLUE = (0, 0, 255)


def grey(height, width):
    return np.full((height, width, 3), GREY, np.uint8)


def painted(image, colour):
    return (np.asarray(image) == colour).all(axis=-1)


def test_the_line_lies_around_the_box():
    """Of a line of 2 pixels one lies outside the box: 20..39 across and 30..59 down become 19..40 and 29..60."""
    image = grey(100, 200)
    blue = painted(draw_boxes(image, [(20, 30, 40, 60)], [""], [BLUE]), BLUE)
    expected = np.zeros((100, 200), bool)
    expected[29:61, 19:41] = True
    expected[31:59, 21:39] = False
    np.testing.assert_array_equal(blue, expected)
    assert (image == GREY).all()  # drawn into a copy


def test_lines_grow_with_the_picture_and_stay_in_it():
    large = painted(draw_boxes(grey(960, 720), [(0, 0, 720, 960)], [""], [BLUE]), BLUE)
    assert large[480].sum() == 2 * 4  # 960 / 240
    assert large[:, [0, 719]].all()
    for outside in [(300, 0, 400, 90), (-50, 0, 0, 90), (0, -20, 90, 0)]:
        assert (np.asarray(draw_boxes(grey(100, 200), [outside], ["gone"], [BLUE])) == GREY).all()


def test_dashes_are_half_of_the_line():
    whole = painted(draw_boxes(grey(300, 300), [(50, 50, 250, 250)], [""], [BLUE]), BLUE)
    dashed = painted(draw_boxes(grey(300, 300), [(50, 50, 250, 250)], [""], [BLUE], dashed=[True]), BLUE)
    assert 0.4 < dashed.sum() / whole.sum() < 0.6
    assert not (dashed & ~whole).any()


def test_small_boxes_lie_on_top_of_large_ones():
    boxes = [(10, 10, 30, 30), (10, 10, 190, 90)]
    drawn = np.asarray(draw_boxes(grey(100, 200), boxes, ["", ""], [BLUE, (255, 0, 0)]))
    assert tuple(drawn[10, 10]) == BLUE
    assert tuple(drawn[10, 100]) == (255, 0, 0)


@pytest.mark.parametrize(
    "box",
    [
        (60, 50, 120, 90),  # above it there is room
        (60, 0, 120, 90),  # there is none
        (170, 2, 199, 98),  # nor to the right
        (0, 0, 200, 100),  # the whole picture
        (100, 96, 110, 100),  # at the bottom
    ],
)
def test_a_label_lies_in_the_picture(box):
    """Its strip, 225 of 255 opaque, is there whole: as many pixels as in the middle of an empty picture."""

    def strip(box):
        drawn = np.asarray(draw_boxes(grey(100, 200), [box], ["wheel"], [BLUE])).astype(int)
        return (np.abs(drawn - np.array([15, 15, 240])).max(axis=-1) <= 1).sum()

    assert strip(box) > 0.95 * strip((60, 50, 120, 90))


def test_labels_keep_out_of_each_others_way():
    """Two boxes of one corner: the second label stands elsewhere."""
    boxes = [(40, 40, 160, 90), (40, 40, 158, 88)]
    one = np.asarray(draw_boxes(grey(100, 200), boxes, ["first", ""], [BLUE, (0, 90, 0)]))
    both = np.asarray(draw_boxes(grey(100, 200), boxes, ["first", "second"], [BLUE, (0, 90, 0)]))
    place = np.s_[26:38, 42:60]  # above the corner
    np.testing.assert_array_equal(one[place], both[place])


def test_scores_stand_behind_names():
    image = grey(100, 300)
    named = draw_boxes(image, [(20, 40, 280, 90)], ["dog 0.87"], [BLUE])
    scored = draw_boxes(image, [(20, 40, 280, 90)], ["dog"], [BLUE], scores=[0.8712])
    np.testing.assert_array_equal(np.asarray(named), np.asarray(scored))


def test_names_of_any_length_and_alphabet():
    names = ["", "x" * 200, "эритроцит", "红细胞"]
    boxes = [(20, 20, 60, 60)] * 4
    assert draw_boxes(grey(64, 64), boxes, names, class_colors(4)).size == (64, 64)
    cyrillic, greek = (
        np.asarray(draw_boxes(grey(100, 100), [(20, 40, 60, 60)], [name], [BLUE])) for name in ("Жж", "Ψψ")
    )
    assert (cyrillic != greek).any()  # letters, not the sign for a missing one


def test_no_boxes_and_as_many_of_everything():
    image = grey(20, 30)
    np.testing.assert_array_equal(np.asarray(draw_boxes(image, [], [], [])), image)
    with pytest.raises(ValueError, match=r"differ in length: \[1, 2, 1, 1, 1\]"):
        draw_boxes(image, [(0, 0, 9, 9)], ["a", "b"], [BLUE])
    with pytest.raises(ValueError, match="differ in length"):
        draw_boxes(image, [(0, 0, 9, 9)], ["a"], [BLUE], dashed=[True, False])
    with pytest.raises(ValueError, match="differ in length"):
        draw_boxes(image, [(0, 0, 9, 9)], ["a"], [BLUE], scores=[0.5, 0.5])


def test_colours_are_fixed_and_differ():
    colors = class_colors(80)
    assert colors[:5] == class_colors(5)
    assert len(set(colors)) == 80
    apart = [np.linalg.norm(np.subtract(one, other)) for one, other in itertools.combinations(colors[:20], 2)]
    assert min(apart) > 40


def test_text_can_be_read_on_every_colour():
    assert [round(luminance(colour), 4) for colour in [(0, 0, 0), (255, 255, 255), (255, 0, 0)]] == [0, 1, 0.2126]
    assert text_color((255, 238, 88)) == (0, 0, 0)
    assert text_color((40, 40, 120)) == (255, 255, 255)
    for colour in class_colors(200):
        light, dark = sorted([luminance(colour), luminance(text_color(colour))], reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.1, 1.4.3


@pytest.mark.parametrize(
    ("size_hw", "expected_hw", "scale"),
    [
        ((64, 48), (512, 384), 8.0),  # 480 / 64 = 7.5
        ((500, 600), (500, 600), 1.0),
        ((2048, 1024), (1024, 512), 0.5),
        ((400, 479), (800, 958), 2.0),
        ((2, 3000), (1, 1024), 1024 / 3000),
    ],
)
def test_a_size_to_see_boxes_in(size_hw, expected_hw, scale):
    picture, factor = sized_to_draw(grey(*size_hw))
    assert (picture.height, picture.width) == expected_hw
    assert factor == scale


def test_pixels_stay_visible_where_a_picture_is_enlarged():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    picture, _ = sized_to_draw(Image.fromarray(pixels))
    np.testing.assert_array_equal(np.asarray(picture)[::8, ::8], pixels)


def test_a_line_break_in_a_name_is_drawn_as_a_space():
    broken = draw_boxes(grey(100, 200), [(20, 30, 80, 60)], ["red\n cell"], [BLUE])
    assert broken.tobytes() == draw_boxes(grey(100, 200), [(20, 30, 80, 60)], ["red cell"], [BLUE]).tobytes()
