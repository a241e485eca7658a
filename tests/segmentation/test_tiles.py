"""A large picture's mask from overlapping windows: exact where it must be, better than cut where windows err."""

import tracemalloc

import numpy as np
import pytest

from resnet_tasks.geometry.windows import along, windows
from resnet_tasks.segmentation.tiles import FILL, shares, tiled

TILE_HW = (48, 64)
CLASSES = 5


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def pointwise(images: np.ndarray) -> np.ndarray:
    """Probabilities of each pixel that depend on nothing but its colour; no two are nearly the same."""
    weights = np.random.default_rng(1).normal(size=(3, CLASSES))
    logits = np.rint(images @ weights * 8) / 64 + np.arange(CLASSES) / 4000
    exps = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (exps / exps.sum(axis=-1, keepdims=True)).astype(np.float32)


SIZES = [(48, 64), (30, 200), (200, 30), (48, 65), (49, 64), (130, 170), (97, 131), (300, 64), (1, 1), (20, 20)]


@pytest.mark.parametrize("size_hw", SIZES, ids=str)
def test_what_depends_on_the_pixel_alone_comes_out_as_from_the_whole(size_hw):
    image = picture(*size_hw)
    ids = tiled(image, TILE_HW, pointwise)
    assert ids.dtype == np.uint8
    np.testing.assert_array_equal(ids, pointwise(image).argmax(axis=-1))


@pytest.mark.parametrize("size_hw", [(48, 64), (40, 64), (48, 20), (7, 9)], ids=str)
def test_a_picture_that_fits_has_the_answer_of_the_one_window(size_hw):
    height, width = size_hw
    image, shown = picture(*size_hw), []

    def scores(images):
        shown.append(images.copy())
        return np.random.default_rng(int(images.sum())).uniform(size=(*images.shape[:3], 3)).astype(np.float32)

    ids = tiled(image, TILE_HW, scores)
    (batch,) = shown
    assert batch.shape == (1, *TILE_HW, 3)
    np.testing.assert_array_equal(batch[0, :height, :width], image)
    assert (batch[0, height:] == FILL).all() and (batch[0, :, width:] == FILL).all()
    np.testing.assert_array_equal(ids, scores(batch)[0, :height, :width].argmax(axis=-1))


def test_every_window_is_seen_once_in_order_a_few_together():
    image, shown = picture(100, 360), []  # three rows of seven windows

    def scores(images):
        shown.append(images.copy())
        return np.zeros((*images.shape[:3], 2), np.float32)

    tiled(image, TILE_HW, scores)
    assert [len(batch) for batch in shown] == [4, 3] * 3
    for part, (left, top, right, bottom) in zip(
        (part for batch in shown for part in batch), windows((100, 360), TILE_HW), strict=True
    ):
        np.testing.assert_array_equal(part, image[top:bottom, left:right])


@pytest.mark.parametrize(
    ("length", "tile"), [(100, 100), (101, 100), (180, 100), (181, 100), (500, 64), (12, 5), (3, 1)]
)
def test_weights_sum_to_one_are_smooth_and_fall_to_nothing_at_inner_borders_alone(length, tile):
    starts, _ = along(length, tile)
    weights = shares(length, starts, tile)
    total = np.zeros(length)
    for weight, start in zip(weights, starts):
        assert (weight > 0).all() and (weight <= 1).all()
        total[start : start + tile] += weight
    np.testing.assert_allclose(total, 1, rtol=0, atol=1e-6)
    assert weights[0][0] > 0.999 or len(starts) > 1  # alone, or beside windows that begin a pixel later
    if tile >= 64:
        steps = np.abs(np.diff(weights, axis=1))
        assert steps.max() < 0.15  # from 1 to 0 over a fifth of the window, 13 pixels or more
        for weight, start in zip(weights, starts):
            assert start == 0 or weight[0] < 0.02
            assert start + tile == length or weight[-1] < 0.02


def test_weights_by_hand():
    # Windows of 5 at 0 and 4: they share pixel 4, at 4.5 of 5 of the first and 0.5 of 5 of the second; alike.
    np.testing.assert_allclose(shares(9, [0, 4], 5), [[1, 1, 1, 1, 0.5], [0.5, 1, 1, 1, 1]])
    # Of 8 at 0 and 6: pixels 6 and 7, at 1.5 and 0.5 from the first's border, at 0.5 and 1.5 from the second's.
    far, near = np.sin(np.pi / 2 * 1.5 / 4) ** 2, np.sin(np.pi / 2 * 0.5 / 4) ** 2
    expected = far / (far + near)
    first, second = shares(14, [0, 6], 8)
    np.testing.assert_allclose(first, [*[1] * 6, expected, 1 - expected], rtol=1e-6)
    np.testing.assert_allclose(second, [1 - expected, expected, *[1] * 6], rtol=1e-6)


def nearsighted(images: np.ndarray) -> np.ndarray:
    """The class is the brighter half's, but sees less the nearer to the window's border, where it guesses."""
    height, width = images.shape[1:3]
    right = images[..., 0].astype(np.float64) / 255
    y, x = np.mgrid[:height, :width] + 0.5
    inside = np.minimum(np.minimum(y, height - y) / height, np.minimum(x, width - x) / width)
    knows = np.clip(8 * inside, 0, 1)  # nothing at the border, all from an eighth of the side on
    guess = np.random.default_rng(int(images.sum()) % 1000).uniform(size=images.shape[:3])
    score = knows * right + (1 - knows) * guess
    return np.stack([1 - score, score], axis=-1).astype(np.float32)


def test_where_windows_err_at_their_borders_blending_is_better_than_cutting_and_than_plain_means():
    height, width = 240, 320
    truth = (np.random.default_rng(3).uniform(size=(height // 8, width // 8)) > 0.5).repeat(8, 0).repeat(8, 1)
    image = np.repeat((truth * 255).astype(np.uint8)[..., None], 3, axis=-1)
    places = windows((height, width), TILE_HW)
    cut, summed = np.zeros((height, width), np.uint8), np.zeros((height, width, 2))
    for left, top, right, bottom in places:
        scores = nearsighted(image[None, top:bottom, left:right])[0]
        cut[top:bottom, left:right] = scores.argmax(axis=-1)
        summed[top:bottom, left:right] += scores
    edge = 6  # the picture's own border is nobody's seam
    inner = (slice(edge, -edge), slice(edge, -edge))
    wrong = {
        name: (ids != truth)[inner].mean()
        for name, ids in (
            ("blended", tiled(image, TILE_HW, nearsighted)),
            ("cut", cut),
            ("plain", summed.argmax(axis=-1)),
        )
    }
    assert wrong["cut"] > 0.02
    assert wrong["blended"] < 0.1 * wrong["plain"] < 0.1 * wrong["cut"]


def test_at_the_borders_of_the_picture_the_window_there_counts_in_full():
    """A window that is right about its top left corner alone has its say there."""

    def scores(images):
        answer = np.zeros((*images.shape[:3], 2), np.float32)
        answer[..., 0] = 0.4
        answer[:, 0, 0, 1] = 1.0
        return answer

    ids = tiled(picture(200, 300), TILE_HW, scores)
    assert ids[0, 0] == 1
    assert ids.sum() == 1  # in the corners of the others it weighs next to nothing


def test_memory_does_not_grow_with_the_pictures_height():
    """3000 x 200 pixels of 21 classes are 50 MB of scores, of which a row of windows has 0.8."""

    def scores(images):
        return np.full((*images.shape[:3], 21), 1 / 21, np.float32)

    image = picture(3000, 200)
    tiled(image[:100], TILE_HW, scores)
    tracemalloc.start()
    tiled(image, TILE_HW, scores)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


def test_any_float_scores_will_do_and_the_picture_is_not_altered():
    image = picture(130, 170)
    image.setflags(write=False)
    ids = tiled(image, TILE_HW, lambda images: pointwise(images).astype(np.float64))
    np.testing.assert_array_equal(ids, pointwise(image).argmax(axis=-1))
