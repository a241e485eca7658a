"""Picture and mask move as one: a picture painted from its mask's ids stays painted so."""

import math

import numpy as np
import pytest
import tensorflow as tf

from resnet_tasks.data import placing
from resnet_tasks.data.mask_placing import get_mask_placement, lay_mask, lay_turned_mask, rotation
from resnet_tasks.data.masks import IGNORE
from resnet_tasks.data.placing import FILL
from resnet_tasks.data.randomness import picture_key

RNG = np.random.default_rng(3)
LEVELS = np.zeros((256, 3), np.uint8)
LEVELS[:4] = [[0, 60, 255], [255, 200, 0], [90, 255, 20], [200, 10, 130]]
LEVELS[IGNORE] = FILL


def blocks(height: int, width: int, side: int = 20) -> np.ndarray:
    """Ids 0..3 in squares."""
    coarse = RNG.integers(0, 4, (-(-height // side), -(-width // side)))
    return np.kron(coarse, np.ones((side, side), int))[:height, :width].astype(np.uint8)


def painted(mask: np.ndarray) -> dict:
    return {"image": tf.constant(LEVELS[mask]), "mask": tf.constant(mask)}


def drawn(operation, given: dict, count: int) -> list[dict]:
    """The example under `count` keys, in a graph."""
    places = tf.data.Dataset.range(count).map(lambda index: operation(given, picture_key(4, 0, index)))
    return list(places.as_numpy_iterator())


def inner(mask: np.ndarray, reach: int) -> np.ndarray:
    """Where all pixels at most `reach` away along both axes have the same id; what lies outside counts as void."""
    padded = np.pad(mask, reach, constant_values=IGNORE)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1, 2 * reach + 1))
    return (windows == mask[..., None, None]).all((2, 3))


@pytest.mark.parametrize(
    "parameters",
    [{}, {"scale": (0.5, 2.0)}, {"rotate": 45.0}, {"scale": (0.3, 3.0), "rotate": 180.0}],
    ids=["letterbox", "scale", "rotate", "both"],
)
@pytest.mark.parametrize("size_hw", [(96, 128), (75, 60)])
def test_a_picture_painted_from_its_mask_stays_so(size_hw, parameters):
    mask = blocks(97, 131)
    mask[:, :6] = IGNORE
    found = set()
    for out in drawn(get_mask_placement(size_hw, **parameters), painted(mask), 40 if parameters else 1):
        assert out["image"].shape == (*size_hw, 3) and out["mask"].shape == size_hw
        assert out["image"].dtype == out["mask"].dtype == np.uint8
        # The filter's triangle reaches 1 / scale pixels of the picture to either side: one of the canvas, if smaller.
        reach = 1 + math.ceil(max(1, 3.0 * min(size_hw[0] / 97, size_hw[1] / 131)))
        sure = inner(out["mask"], reach)
        np.testing.assert_array_equal(out["image"][sure], LEVELS[out["mask"][sure]])
        # Every pixel: its colour is nearer to its own id's than to any other's, but for a hair's breadth at the edges.
        apart = np.abs(out["image"][..., None, :].astype(int) - LEVELS[[0, 1, 2, 3, IGNORE]]).sum(-1)
        own = np.searchsorted([0, 1, 2, 3, IGNORE], out["mask"])
        assert np.mean(apart.argmin(-1) == own) > 0.9
        found.add(out["image"].tobytes())
    assert len(found) == (40 if parameters else 1)


def test_the_letterbox_by_hand():
    """48 x 64 into 30 x 32 is a half: canvas pixel 0 has its centre on the picture's edge 1, and takes pixel 1."""
    mask = RNG.integers(0, 4, (48, 64)).astype(np.uint8)
    out = get_mask_placement((30, 32))(painted(mask), picture_key(0, 0, 0))
    np.testing.assert_array_equal(out["mask"][:24], mask[1::2, 1::2])
    np.testing.assert_array_equal(out["mask"][24:], np.full((6, 32), IGNORE))
    np.testing.assert_array_equal(out["image"], placing.letterbox(tf.constant(LEVELS[mask]), (30, 32))[0])


def test_at_the_default_a_picture_of_the_canvas_size_stays_as_it_is():
    mask = RNG.integers(0, 256, (53, 67)).astype(np.uint8)
    image = RNG.integers(0, 256, (53, 67, 3)).astype(np.uint8)
    given = {"image": tf.constant(image), "mask": tf.constant(mask), "index": tf.constant(7)}
    out = get_mask_placement((53, 67))(given, picture_key(1, 2, 3))
    np.testing.assert_array_equal(out["image"], image)
    np.testing.assert_array_equal(out["mask"], mask)
    assert out["index"] == 7


@pytest.mark.parametrize("shape", [(40, 40), (31, 58), (1, 300), (200, 3)])
@pytest.mark.parametrize(("scale", "offset"), [(1.0, (0, 0)), (0.37, (3.2, -5.5)), (2.6, (-31.4, 7.0)), (0.2, (60, 0))])
def test_void_is_exactly_where_the_canvas_is_grey(shape, scale, offset):
    mask = tf.constant(RNG.integers(0, 4, shape).astype(np.uint8))
    place = tf.constant([48, 50]), tf.constant(scale), tf.constant(offset, tf.float32)
    black = placing.lay(tf.zeros([*shape, 3], tf.uint8), *place)
    laid = lay_mask(mask, *place)
    np.testing.assert_array_equal(laid == IGNORE, black[..., 0] == FILL)
    still = lay_turned_mask(mask, rotation(tf.constant(0.0), tf.cast(shape, tf.float32)), *place)
    np.testing.assert_array_equal(still, laid, "turned by nothing")


def test_ids_are_those_under_the_centres():
    """A NumPy reference, pixel by pixel."""
    mask, scale, (top, left) = RNG.integers(0, 99, (37, 29)).astype(np.uint8), np.float32(1.31), (-8.3, 4.1)
    expected = np.full((44, 40), IGNORE, np.uint8)
    for y, x in np.ndindex(44, 40):
        row, column = math.floor((y + 0.5 - top) / scale), math.floor((x + 0.5 - left) / scale)
        if 0 <= row < 37 and 0 <= column < 29:
            expected[y, x] = mask[row, column]
    laid = lay_mask(tf.constant(mask), tf.constant([44, 40]), tf.constant(scale), tf.constant([top, left]))
    np.testing.assert_array_equal(laid, expected)


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_what_was_enlarged_is_the_same_when_made_small_again(factor):
    mask = RNG.integers(0, 256, (23, 31)).astype(np.uint8)
    size = tf.constant(mask.shape)
    large = lay_mask(tf.constant(mask), size * factor, tf.constant(float(factor)), tf.zeros(2))
    np.testing.assert_array_equal(large, np.kron(mask, np.ones((factor, factor), np.uint8)))
    np.testing.assert_array_equal(lay_mask(large, size, tf.constant(1.0 / factor), tf.zeros(2)), mask)


@pytest.mark.parametrize(("quarters", "shape"), [(0, (5, 8)), (1, (6, 6)), (2, (5, 8)), (3, (6, 6)), (2, (7, 4))])
def test_quarter_turns_move_whole_pixels_clockwise(quarters, shape):
    mask = RNG.integers(0, 200, shape).astype(np.uint8)
    turn = rotation(tf.constant(quarters * math.pi / 2), tf.cast(shape, tf.float32))
    turned = lay_turned_mask(tf.constant(mask), turn, tf.constant(shape), tf.constant(1.0), tf.zeros(2))
    np.testing.assert_array_equal(turned, np.rot90(mask, -quarters))


def test_turned_there_and_back_it_is_as_before():
    mask = blocks(80, 100)
    shape, place = tf.constant([80.0, 100.0]), (tf.constant([80, 100]), tf.constant(1.0), tf.zeros(2))
    there = lay_turned_mask(tf.constant(mask), rotation(tf.constant(0.6), shape), *place)
    back = lay_turned_mask(there, rotation(tf.constant(-0.6), shape), *place).numpy()
    y, x = np.indices((80, 100)) + 0.5
    near = (np.hypot(y - 40, x - 50) < 38) & inner(mask, 2)
    assert near.sum() > 1500
    np.testing.assert_array_equal(back[near], mask[near])


def angle_and_share(out: dict) -> tuple[float, float]:
    """Of a bright half above a dark one, or void: the direction from one's centre to the other's, and what is void."""
    above, below = (np.argwhere(out["mask"] == label).mean(0) for label in (0, 1))
    down, right = below - above
    return math.degrees(math.atan2(-right, down)), float(np.mean(out["mask"] == IGNORE))


def test_angles_are_uniform():
    y, x = np.indices((61, 61)) - 30
    mask = np.where(np.hypot(y, x) > 29, IGNORE, y > 0).astype(np.uint8)
    outs = drawn(get_mask_placement((61, 61), rotate=60.0), painted(mask), 600)
    angles, void = np.array([angle_and_share(out) for out in outs]).T
    assert -61 < angles.min() < -58 and 58 < angles.max() < 61
    assert angles.mean() == pytest.approx(0, abs=5 * 120 / (12 * 600) ** 0.5)
    assert angles.var() == pytest.approx(120**2 / 12, rel=0.15)
    assert np.ptp(void) < 0.01, "about the centre: the disc never leaves the frame"


def test_scales_are_log_uniform_and_places_uniform():
    """A black picture on a canvas twice as long and wide, half to once the letterbox."""
    given = painted(np.zeros((40, 40), np.uint8))
    sides, room, places = [], [], []
    for out in drawn(get_mask_placement((80, 80), scale=(0.5, 1.0)), given, 800):
        rows = np.flatnonzero((out["mask"] == 0).any(1))
        sides.append(len(rows) / 80)
        room.append(80 - len(rows))
        places.append(rows[0])
    logs, some = np.log(sides), np.array(room) > 10
    assert logs.mean() == pytest.approx(math.log(0.5) / 2, abs=5 * math.log(2) / (12 * 800) ** 0.5)
    assert logs.var() == pytest.approx(math.log(2) ** 2 / 12, rel=0.1)
    share = (np.array(places) / np.maximum(room, 1))[some]
    assert share.mean() == pytest.approx(0.5, abs=5 / (12 * some.sum()) ** 0.5)
    assert share.var() == pytest.approx(1 / 12, rel=0.15)


def test_one_key_one_result_in_eager_mode_in_a_graph_and_in_parallel():
    image = RNG.integers(0, 256, (61, 83, 3)).astype(np.uint8)
    given = {"image": tf.constant(image), "mask": tf.constant(blocks(61, 83, 3))}
    operation = get_mask_placement((48, 40), scale=(0.5, 2.0), rotate=30.0)
    specs = tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((None, None), tf.uint8), tf.TensorSpec(2, tf.int32)
    graph = tf.function(lambda image, mask, key: operation({"image": image, "mask": mask}, key), specs, autograph=False)
    parallel = tf.data.Dataset.range(24).map(lambda index: operation(given, picture_key(4, 0, index)), 2)
    for index, in_parallel in enumerate(parallel):
        key = picture_key(4, 0, index)
        eager = operation(given, key)
        for other in (operation(given, key), graph(given["image"], given["mask"], key), in_parallel):
            for name, value in eager.items():
                np.testing.assert_array_equal(value, other[name])
    static = graph.get_concrete_function().structured_outputs
    assert static["image"].shape == (48, 40, 3) and static["mask"].shape == (48, 40)


def test_floats_stay_floats():
    given = painted(blocks(30, 40, 5))
    given["image"] = tf.cast(given["image"], tf.float32)
    out = get_mask_placement((24, 24), rotate=20.0)(given, picture_key(0, 0, 1))
    assert out["image"].dtype == tf.float32
    assert np.any(out["image"].numpy() % 1 > 0.01)


def test_wrong_parameters_and_boxes_are_refused():
    for wrong in ({"scale": (2.0, 1.0)}, {"rotate": -1.0}, {"rotate": 190.0}):
        with pytest.raises(ValueError, match=r"factor|degrees"):
            get_mask_placement((9, 9), **wrong)
    with pytest.raises(ValueError, match="also has boxes"):
        get_mask_placement((9, 9))({**painted(blocks(9, 9)), "boxes": tf.zeros([1, 4])}, picture_key(0, 0, 0))
