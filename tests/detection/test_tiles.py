"""Windows over large pictures, and what is found in them put together: cases worked out by hand, and a whole scene."""

import numpy as np
import pytest

from resnet_tasks.detection import tiles
from resnet_tasks.detection.tiles import Found, merge, tiled
from resnet_tasks.geometry.windows import windows

# Most cases: a picture of 180 x 100 in windows of 100 x 100, which share 20..: the left one shows 0..100, the right one
# 80..180, both all of the height; and the whole picture is the third view.
SIZE_HW, TILE_HW = (100, 180), (100, 100)
LEFT, RIGHT, WHOLE = 0, 1, 2
CAT, DOG = 0, 1


def merged(*rows, size_hw=SIZE_HW, tile_hw=TILE_HW) -> list[tuple]:
    """Rows `(view, box, score, label)`, boxes in pixels of the picture, to `(box, score, label)`, best first."""
    places = np.concatenate([windows(size_hw, tile_hw), [(0, 0, size_hw[1], size_hw[0])]])
    views, boxes, scores, labels = zip(*rows) if rows else ((),) * 4
    found = Found(
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(scores, np.float64),
        np.array(labels, np.int64),
        np.array(views, np.int64),
        places,
        size_hw,
    )
    result = merge(found)
    return [(tuple(box), score, label) for box, score, label in zip(result.boxes, result.scores, result.labels)]


def test_a_thing_seen_whole_in_two_windows_is_one_box_the_surer_one():
    # Shared 10 x 10 of 11 x 10 and 10 x 10: IoU 100 / 110.
    rows = (LEFT, (84, 20, 95, 30), 0.7, CAT), (RIGHT, (84, 20, 94, 30), 0.9, CAT)
    assert merged(*rows) == [((84, 20, 94, 30), 0.9, CAT)]
    assert merged(*reversed(rows)) == [((84, 20, 94, 30), 0.9, CAT)]


def test_of_a_thing_cut_by_a_seam_the_box_of_the_window_that_shows_it_whole_stays():
    # In the left window it ends at the seam, 100; the right one shows it whole, though less surely.
    cut, whole = (LEFT, (85, 20, 100, 50), 0.9, CAT), (RIGHT, (85, 20, 125, 50), 0.6, CAT)
    assert merged(cut, whole) == [((85, 20, 125, 50), 0.6, CAT)]
    # Seen less exactly: 1.5 pixels from the seam, 12 x 30 of 13.5 x 30 covered.
    cut = (LEFT, (85, 20, 98.5, 50), 0.9, CAT)
    whole = (RIGHT, (86.5, 20, 125, 50), 0.6, CAT)
    assert merged(cut, whole) == [((86.5, 20, 125, 50), 0.6, CAT)]
    # By the left border of the right window, at 80.
    cut, whole = (RIGHT, (80, 20, 95, 50), 0.9, CAT), (LEFT, (50, 20, 95, 50), 0.6, CAT)
    assert merged(cut, whole) == [((50, 20, 95, 50), 0.6, CAT)]


def test_what_begins_in_the_seam_is_the_windows_that_shows_it_whole():
    # 81 is a pixel from the right window's border, 83 is not: 17 x 30 of 19 x 30 covered, and whole.
    cut, whole = (LEFT, (81, 20, 100, 50), 0.9, CAT), (RIGHT, (83, 20, 115, 50), 0.6, CAT)
    assert merged(cut, whole) == [((83, 20, 115, 50), 0.6, CAT)]


def test_a_sliver_is_left_out_where_a_window_shows_its_place_clear_though_cut_elsewhere():
    # Windows begin at 0, 80 and 160; the thing is 90..240.  The first window's guess, 86..100, lies 6 pixels inside the
    # second one, whose box, cut at 180, covers 10 / 14 of it; that and the third's are joined.
    parts = [(86, 30, 100, 60), (90, 30, 180, 60), (160, 30, 240, 60)]
    rows = [(view, box, 0.9 - view / 10, CAT) for view, box in enumerate(parts)]
    assert merged(*rows, size_hw=(100, 260)) == [((90, 30, 240, 60), 0.8, CAT)]


def test_a_cut_box_whose_thing_no_other_view_shows_stays():
    assert merged((LEFT, (85, 20, 100, 50), 0.9, CAT)) == [((85, 20, 100, 50), 0.9, CAT)]
    # Another thing beside it covers 5 x 30 of its 15 x 30, a third.
    rows = (LEFT, (85, 20, 100, 50), 0.9, CAT), (RIGHT, (95, 20, 140, 50), 0.8, CAT)
    assert merged(*rows) == [((85, 20, 100, 50), 0.9, CAT), ((95, 20, 140, 50), 0.8, CAT)]


def test_halves_of_a_thing_that_no_view_shows_whole_are_joined_with_the_better_score():
    # Both are cut, and show 80..100 x 20..60 of it where both look: joined to the box around them.
    halves = (LEFT, (40, 20, 100, 60), 0.6, CAT), (RIGHT, (80, 20, 150, 60), 0.8, CAT)
    assert merged(*halves) == [((40, 20, 150, 60), 0.8, CAT)]
    # The tops differ: of 80..100 the left shows 20..60, the right 30..60: IoU 600 / 800.
    halves = (LEFT, (40, 20, 100, 60), 0.8, CAT), (RIGHT, (80, 30, 150, 60), 0.6, CAT)
    assert merged(*halves) == [((40, 20, 150, 60), 0.8, CAT)]


def test_two_things_that_meet_at_the_seam_are_not_joined():
    # Where both windows look one is at 20..40 and the other at 35..60, of 20 each: IoU 100 / 800.
    above, below = (LEFT, (40, 20, 100, 40), 0.6, CAT), (RIGHT, (80, 35, 150, 60), 0.8, CAT)
    assert merged(above, below) == [((80, 35, 150, 60), 0.8, CAT), ((40, 20, 100, 40), 0.6, CAT)]


def test_two_neighbouring_things_of_one_class_stay_two():
    # The first ends where the second begins, at 90; each is cut in one window and whole in the other.
    first, second = (60, 20, 90, 50), (90, 20, 120, 50)
    rows = [(LEFT, first, 0.9, CAT), (LEFT, (90, 20, 100, 50), 0.8, CAT)]
    rows += [(RIGHT, (80, 20, 90, 50), 0.7, CAT), (RIGHT, second, 0.6, CAT), (WHOLE, first, 0.5, CAT)]
    assert merged(*rows) == [(first, 0.9, CAT), (second, 0.6, CAT)]
    # They overlap by 18 of 30: IoU 18 / 42; both windows saw both.
    first, second = (82, 20, 92, 50), (86, 20, 96, 50)
    rows = [(view, box, score, CAT) for view in (LEFT, RIGHT) for box, score in ((first, 0.9), (second, 0.8))]
    assert merged(*rows) == [(first, 0.9, CAT), (second, 0.8, CAT)]


def test_what_one_view_tells_apart_suppression_leaves_alone():
    # IoU of the two 20 / 30: the model allowed it within the left window; the whole picture has the surer one again.
    first, second = (20, 20, 45, 40), (25, 20, 50, 40)
    rows = (LEFT, first, 0.8, CAT), (LEFT, second, 0.7, CAT), (WHOLE, first, 0.75, CAT)
    assert merged(*rows) == [(first, 0.8, CAT), (second, 0.7, CAT)]
    # So too where one of the two is a half of a joined box, 40..110 x 20..50: 55 x 25 shared, IoU 1375 / 2675.
    other = (30, 25, 95, 55)
    rows = (LEFT, (40, 20, 100, 50), 0.6, CAT), (RIGHT, (80, 20, 110, 50), 0.8, CAT), (LEFT, other, 0.7, CAT)
    assert merged(*rows) == [((40, 20, 110, 50), 0.8, CAT), (other, 0.7, CAT)]


def test_different_classes_are_never_one_thing():
    box = (85, 20, 95, 30)
    assert merged((LEFT, box, 0.9, CAT), (RIGHT, box, 0.8, DOG)) == [(box, 0.9, CAT), (box, 0.8, DOG)]
    rows = (LEFT, (85, 20, 100, 50), 0.9, CAT), (RIGHT, (85, 20, 125, 50), 0.8, DOG)
    assert merged(*rows) == [((85, 20, 100, 50), 0.9, CAT), ((85, 20, 125, 50), 0.8, DOG)]
    rows = (LEFT, (40, 20, 100, 60), 0.9, CAT), (RIGHT, (80, 20, 150, 60), 0.8, DOG)
    assert len(merged(*rows)) == 2


def test_of_a_thing_larger_than_a_window_the_whole_pictures_box_stays():
    thing = (10, 5, 172, 95)
    rows = (LEFT, (10, 5, 100, 95), 0.95, CAT), (RIGHT, (80, 5, 172, 95), 0.9, CAT), (WHOLE, thing, 0.6, CAT)
    assert merged(*rows) == [(thing, 0.6, CAT)]


def test_a_border_of_the_picture_cuts_nothing():
    # Flush with the picture's own borders; 25 x 25 of 30 x 30 are covered, but nothing is more whole than these.
    corner, large = (0, 0, 30, 30), (5, 5, 80, 90)
    assert merged((LEFT, corner, 0.9, CAT), (WHOLE, large, 0.8, CAT)) == [(corner, 0.9, CAT), (large, 0.8, CAT)]
    corner, large = (150, 70, 180, 100), (90, 5, 175, 95)
    assert merged((RIGHT, corner, 0.9, CAT), (WHOLE, large, 0.8, CAT)) == [(corner, 0.9, CAT), (large, 0.8, CAT)]
    # At the inner border of its window, such a one is left out.
    rows = (LEFT, (70, 0, 100, 30), 0.9, CAT), (WHOLE, (60, 5, 140, 90), 0.8, CAT)
    assert merged(*rows) == [((60, 5, 140, 90), 0.8, CAT)]


def test_how_near_a_seam_a_box_is_cut():
    half, joined = (LEFT, (40, 20, 100, 60), 0.6, CAT), [((40, 20, 164, 60), 0.8, CAT)]
    # A twentieth of 80 is 4: the right window's box ends 4 pixels before the seam at 80.  Alike by 16 / 20.
    assert merged(half, (RIGHT, (84, 20, 164, 60), 0.8, CAT)) == joined
    # 10 pixels are too many: whole, and another thing.
    assert len(merged(half, (RIGHT, (90, 20, 164, 60), 0.8, CAT))) == 2


def test_a_thing_exactly_as_wide_as_what_two_windows_share_does_not_vanish():
    # Cut in both, at 100 and at 80, and clear in neither: joined to itself.
    rows = (LEFT, (80, 20, 100, 40), 0.9, CAT), (RIGHT, (80, 20, 100, 40), 0.8, CAT)
    assert merged(*rows) == [((80, 20, 100, 40), 0.9, CAT)]
    # Near enough to a seam to count as cut, clear of the other's: each explains the other, and the larger stays.
    rows = (LEFT, (82.5, 20, 98, 40), 0.7, CAT), (RIGHT, (82, 20, 97, 40), 0.9, CAT)
    assert merged(*rows) == [((82.5, 20, 98, 40), 0.7, CAT)]


def test_four_quarters_of_a_thing_at_a_corner_of_four_windows_are_joined():
    # Windows begin at 0 and 80 both ways; the thing is 60..120 both ways.
    quarters = [(60, 60, 100, 100), (80, 60, 120, 100), (60, 80, 100, 120), (80, 80, 120, 120)]
    rows = [(view, box, 0.5 + view / 10, CAT) for view, box in enumerate(quarters)]
    assert merged(*rows, size_hw=(180, 180)) == [((60, 60, 120, 120), 0.8, CAT)]


def test_a_thing_through_three_windows_is_joined_from_end_to_end():
    # Windows begin at 0, 80 and 160; the middle part is cut on both sides.
    parts = [(20, 30, 100, 60), (80, 30, 180, 60), (160, 30, 240, 60)]
    rows = [(view, box, score, CAT) for view, (box, score) in enumerate(zip(parts, (0.5, 0.9, 0.7)))]
    assert merged(*rows, size_hw=(100, 260)) == [((20, 30, 240, 60), 0.9, CAT)]


def test_two_things_of_one_window_are_not_joined_by_a_third_of_another():
    # Where both windows look, 80..100, the right one's 20..60 is like both of the left's: 20..50 (IoU 30 / 40) and
    # 35..65 (25 / 45); it is a part of the one that it is more like.
    rows = (
        (LEFT, (40, 20, 100, 50), 0.8, CAT),
        (LEFT, (40, 35, 100, 65), 0.7, CAT),
        (RIGHT, (80, 20, 150, 60), 0.6, CAT),
    )
    assert merged(*rows) == [((40, 20, 150, 60), 0.8, CAT), ((40, 35, 100, 65), 0.7, CAT)]


def test_nothing_found_is_nothing():
    assert merged() == []
    silent = {"boxes": [], "scores": [], "label_ids": [], "label_names": []}
    assert tiled(np.zeros((100, 180, 3), np.uint8), TILE_HW, lambda parts: [silent for _ in parts]) == silent


def test_boxes_come_back_to_the_picture_and_windows_are_cut_one_after_another():
    image = np.random.default_rng(0).integers(0, 256, (130, 180, 3), np.uint8)
    shown, waiting = [], []

    def answer(parts):
        for part in parts:
            assert not waiting  # the next is not cut before this one is answered
            waiting.append(part)
            shown.append(part)
            height, width = part.shape[:2]
            box = [10.0, 5.0, 20.0, 15.0] if (height, width) == TILE_HW else [60.0, 40.0, 90.0, 80.0]
            yield {"boxes": [box], "scores": [0.9 - len(shown) / 10], "label_ids": [3], "label_names": ["bee"]}
            waiting.clear()

    assert tiled(image, TILE_HW, answer) == {
        # Windows begin at 0 and 80 across, at 0 and 30 down; the last view is the whole.
        "boxes": [[10, 5, 20, 15], [90, 5, 100, 15], [10, 35, 20, 45], [90, 35, 100, 45], [60, 40, 90, 80]],
        "scores": pytest.approx([0.8, 0.7, 0.6, 0.5, 0.4]),
        "label_ids": [3] * 5,
        "label_names": ["bee"] * 5,
    }
    for part, (left, top) in zip(shown, [(0, 0), (80, 0), (0, 30), (80, 30)]):
        np.testing.assert_array_equal(part, image[top : top + 100, left : left + 100])
    np.testing.assert_array_equal(shown[-1], image)


def test_pairs_are_those_that_a_comparison_of_all_gives():
    random = np.random.default_rng(4)
    corners = random.uniform(0, 150, (120, 2))
    boxes = np.concatenate([corners, corners + random.uniform(0, 60, (120, 2))], axis=1)
    labels, views = random.integers(0, 3, (2, 120))
    found = Found(boxes, np.ones(120), labels, views, np.zeros((3, 4)), (200, 200))
    expected = {
        (a, b)
        for a in range(120)
        for b in range(a)
        if labels[a] == labels[b] and views[a] != views[b]
        if (np.minimum(boxes[a, 2:], boxes[b, 2:]) > np.maximum(boxes[a, :2], boxes[b, :2])).all()
    }
    first, second = tiles._meeting(found)
    assert len(first) == len(expected) > 100
    assert {(max(pair), min(pair)) for pair in zip(first.tolist(), second.tolist())} == expected
