"""Windows over large pictures: worked out by hand, and what holds of all of them."""

import numpy as np
import pytest

from resnet_tasks.geometry.windows import windows


@pytest.mark.parametrize(
    ("size_hw", "tile_hw", "lefts", "tops", "sides"),
    [
        ((50, 80), (100, 100), [0], [0], (80, 50)),  # smaller: one window, as large as the picture
        ((100, 100), (100, 100), [0], [0], (100, 100)),
        ((100, 101), (100, 100), [0, 1], [0], (100, 100)),  # a pixel more takes a second window
        ((100, 180), (100, 100), [0, 80], [0], (100, 100)),  # two share exactly a fifth: 100 + 100 - 180 = 20
        ((100, 181), (100, 100), [0, 40, 81], [0], (100, 100)),  # 81 in two steps of at most 80: 40.5 and 81
        ((60, 260), (100, 100), [0, 80, 160], [0], (100, 60)),  # lower than a window
        ((230, 90), (100, 120), [0], [0, 65, 130], (90, 100)),  # narrower; 130 in two steps
        ((12, 14), (5, 7), [0, 3, 7], [0, 3, 7], (7, 5)),  # 7 across in steps of 7 - 2 = 5, 7 down in steps of 4
    ],
)
def test_windows_by_hand(size_hw, tile_hw, lefts, tops, sides):
    expected = [(left, top, left + sides[0], top + sides[1]) for top in tops for left in lefts]
    assert windows(size_hw, tile_hw).tolist() == [list(window) for window in expected]


def test_windows_cover_everything_share_a_fifth_and_stay_inside():
    random = np.random.default_rng(0)
    for _ in range(200):
        height, width = random.integers(1, 400, 2)
        tile_hw = tuple(random.integers(5, 120, 2))
        places = windows((height, width), tile_hw)
        seen = np.zeros((height, width), bool)
        for left, top, right, bottom in places:
            assert 0 <= left < right <= width and 0 <= top < bottom <= height
            assert (bottom - top, right - left) == (min(height, tile_hw[0]), min(width, tile_hw[1]))
            seen[top:bottom, left:right] = True
        assert seen.all()
        for column, length in ((0, tile_hw[1]), (1, tile_hw[0])):
            starts = np.unique(places[:, column])
            assert (np.diff(starts) <= length * 4 / 5).all()
            assert np.unique(places[:, column + 2])[-1] == (width, height)[column]
