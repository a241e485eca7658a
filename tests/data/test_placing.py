"""Boxes lie where the pixels lie: known rectangles, values by hand, distributions."""

import math

import numpy as np
import pytest
import tensorflow as tf

from resnet_tasks.data import placing
from resnet_tasks.data.geometric import as_pixels, resize
from resnet_tasks.data.placing import FILL, get_letterbox, get_placement
from resnet_tasks.data.randomness import Salt, picture_key, salted

SPECS = tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((2,), tf.int32)
RNG = np.random.default_rng(7)
GRID = np.stack(np.meshgrid(np.arange(0, 64, 4), np.arange(0, 64, 4)), -1).reshape(-1, 2).astype(np.float32)
GRID = np.concatenate([GRID, GRID + 4], 1)  # the 256 boxes of 4 x 4 pixels that tile a picture of 64 x 64


def rectangles(height: int, width: int, boxes) -> dict:
    """White rectangles on black."""
    image = np.zeros((height, width, 3), np.uint8)
    for left, top, right, bottom in boxes:
        image[top:bottom, left:right] = 255
    return example(image, boxes)


def example(image, boxes, labels=None) -> dict:
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    labels = np.arange(len(boxes)) if labels is None else labels
    return {"image": tf.constant(image), "boxes": tf.constant(boxes), "labels": tf.constant(labels, tf.int32)}


def mapped(function, count: int) -> list:
    """What the function gives for 0..count - 1, in parallel, and without AutoGraph, as our pipelines run."""
    plain = tf.autograph.experimental.do_not_convert(function)
    return list(tf.data.Dataset.range(count).map(plain, num_parallel_calls=2).as_numpy_iterator())


def drawn(operation, given: dict, count: int) -> list[dict]:
    """The example under `count` keys."""
    return mapped(lambda index: operation(given, picture_key(4, 0, index)), count)


def extent(white: np.ndarray) -> list[float]:
    """xyxy of the pixels that are True."""
    rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def assert_uniform(draws, low: float, high: float):
    draws = np.asarray(draws)
    assert draws.min() >= low - 1e-3
    assert draws.max() <= high + 1e-3
    spread = high - low
    assert draws.mean() == pytest.approx((low + high) / 2, abs=5 * spread / (12 * draws.size) ** 0.5)
    assert draws.var() == pytest.approx(spread**2 / 12, rel=0.1)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("letterbox", {}),
        ("crop", {"crop": 1.0}),
        ("expand", {"expand": 1.0, "most_expand": 3.0}),
        ("jitter", {"scale": (0.4, 2.5)}),
        ("all", {"scale": (0.5, 2.0), "crop": 0.5, "expand": 0.5, "most_expand": 2.0}),
    ],
)
def test_a_box_is_where_its_pixels_are(name, parameters):
    given = rectangles(97, 143, [[31, 18, 102, 80]])
    errors, clipped = [], 0
    for out in drawn(get_placement((112, 90), 3, **parameters), given, 1 if name == "letterbox" else 300):
        if out["labels"][0] < 0:
            continue
        np.testing.assert_array_equal(out["labels"], [0, -1, -1])
        np.testing.assert_array_equal(out["boxes"][1:], 0)
        box, found = out["boxes"][0], extent(out["image"][..., 0] > 127)
        # Between an edge and a border nearer than this the kernel sees both.
        at_border = (box == 0) | (box == [90, 112, 90, 112])
        sure = at_border | (np.abs(extent(out["image"][..., 0] != FILL) - box) > 2.5)
        assert np.abs(found - box)[sure].max(initial=0) <= 0.51, "half a pixel, and the hair at the picture's border"
        clipped += at_border.any()
        errors += list((found - box)[sure & ~at_border])
    if name == "letterbox":
        return
    assert len(errors) > 500
    assert clipped > 50 or name == "expand"
    # Of edges anywhere between pixels the errors are uniform in -1/2..1/2; half a pixel of offset would show.
    assert abs(np.mean(errors)) < 5 * (1 / 12 / len(errors)) ** 0.5


def test_letterbox_by_hand():
    # 48 x 64 into 30 x 32: the scale is min(30 / 48, 32 / 64) = 1/2, 24 rows of 32 columns.
    image = RNG.integers(0, 256, (48, 64, 3)).astype(np.uint8)
    canvas, scale = placing.letterbox(tf.constant(image), (30, 32))
    assert scale == 0.5 and scale.dtype == tf.float32
    np.testing.assert_array_equal(canvas[:24], resize(tf.constant(image), (24, 32)))
    np.testing.assert_array_equal(canvas[24:], np.full((6, 32, 3), FILL))
    out = get_letterbox((30, 32), 2)(example(image, [[10, 20, 33, 47]], [5]), picture_key(0, 0, 0))
    np.testing.assert_array_equal(out["image"], canvas)
    np.testing.assert_array_equal(out["boxes"], [[5, 10, 16.5, 23.5], [0, 0, 0, 0]])
    np.testing.assert_array_equal(out["labels"], [5, -1])


@pytest.mark.parametrize(("length", "columns"), [(70, 35), (71, 35), (72, 36), (73, 36)])
def test_a_canvas_pixel_shows_the_picture_if_its_centre_does(length, columns):
    """At scale 1/2, 71 columns end at 35.5, on the centre of the pixel 35, which is left grey."""
    canvas, _ = placing.letterbox(tf.zeros([80, length, 3], tf.uint8), (40, 50))
    np.testing.assert_array_equal(canvas[0, :, 0], [0] * columns + [FILL] * (50 - columns))


@pytest.mark.parametrize("dtype", [tf.uint8, tf.float32])
@pytest.mark.parametrize("size_hw", [(320, 416), (37, 90), (333, 200), (600, 700)])
def test_inside_the_canvas_is_scale_and_translate_and_outside_it_is_grey(dtype, size_hw):
    image = tf.constant(RNG.integers(0, 256, (211, 307, 3)), dtype)

    def expected(scale, top, left):
        whole = tf.raw_ops.ScaleAndTranslate(
            images=image[None], size=tf.constant(size_hw), scale=[scale, scale], translation=[top, left],
            kernel_type="triangle", antialias=True,
        )[0]  # fmt: skip
        rows, columns = (np.arange(side) + 0.5 for side in size_hw)
        is_in = ((rows > top) & (rows < top + 211 * scale))[:, None] & (
            (columns > left) & (columns < left + 307 * scale)
        )
        assert is_in.any() and not is_in.all()
        return np.where(is_in[..., None], as_pixels(whole, dtype), FILL)

    canvas, scale = placing.letterbox(image, size_hw)
    assert canvas.dtype == dtype
    np.testing.assert_array_equal(canvas, expected(scale.numpy(), 0.0, 0.0), "bit for bit")
    scale = np.float32(size_hw[1] / 320)
    moved = placing.lay(image, tf.constant(size_hw), tf.constant(scale), tf.constant([20.3, -31.7]))
    error = np.abs(moved.numpy().astype(float) - expected(scale, 20.3, -31.7))
    assert error.max() <= (1 if dtype == tf.uint8 else 0.02)
    assert error.mean() < 0.01


def test_shrinking_does_not_alias():
    """A chessboard of single pixels, at a quarter of its size, is grey all over: no stripes are left."""
    board = (np.indices((128, 128)).sum(0) % 2 * 255).astype(np.uint8)
    canvas, _ = placing.letterbox(tf.constant(np.repeat(board[..., None], 3, 2)), (32, 32))
    assert np.abs(canvas.numpy().astype(int) - 127.5)[1:-1, 1:-1].max() < 1


def test_a_picture_of_the_canvas_size_stays_as_it_is():
    image = RNG.integers(0, 256, (53, 67, 3)).astype(np.uint8)
    boxes = np.array([[0, 0, 67, 53], [0.25, 3.5, 11.125, 12], [66, 52, 67, 53]], np.float32)
    given = example(image, boxes, [2, 0, 1])
    for operation in (get_letterbox((53, 67), 3), get_placement((53, 67), 3, min_visible=1.0)):
        out = operation(given, picture_key(1, 2, 3))
        np.testing.assert_array_equal(out["image"], image)
        np.testing.assert_array_equal(out["boxes"], boxes)
        np.testing.assert_array_equal(out["labels"], [2, 0, 1])


@pytest.mark.parametrize(("shape", "rows", "columns"), [((1, 1000), 0, 0), ((2, 1000), 1, 416), ((1, 1), 320, 320)])
def test_the_thinnest_and_the_smallest_pictures(shape, rows, columns):
    """0.4 rows of picture are less than half a pixel: nothing of it is seen; 0.8 rows are one."""
    canvas, _ = placing.letterbox(tf.zeros([*shape, 3], tf.uint8), (320, 416))
    expected = np.full((320, 416, 3), FILL)
    expected[:rows, :columns] = 0
    np.testing.assert_array_equal(canvas, expected)


def test_clipping_and_the_visible_share_by_hand():
    # A picture of 20 x 30, doubled, its corner at x = -10, y = 5 on a canvas of 40 x 60: it covers 0..50, 5..40 of it.
    boxes = {
        (5, 0, 10, 10): ([0, 5, 10, 25], 200),  # begins at the canvas's edge: whole
        (0, 0, 10, 10): ([0, 5, 10, 25], 200),  # half
        (4, 0, 6, 20): ([0, 5, 2, 40], 70),  # half of the width, 35 of 40 rows: 70 of 160, 0.4375
        (0, 0, 5.25, 10): ([0, 5, 0.5, 25], 0),  # half a pixel wide
        (0, 0, 5.5, 10): ([0, 5, 1, 25], 0),  # a pixel wide, but 20 of 220
        (2, 2, 4, 4): ([0, 9, 0, 13], 0),  # outside
        (20, 15, 30, 20): ([30, 35, 50, 40], 100),  # 5 of 10 rows
        (20, 16, 30, 20): ([30, 37, 50, 40], 60),  # 3 of 8 rows
        (7, 7, 7, 7): ([4, 19, 4, 19], 0),  # empty
    }
    given, area = tf.constant(list(boxes), tf.float32), np.array([area for _, area in boxes.values()], np.float32)
    labels = tf.zeros(len(boxes), tf.int32)

    def laid(labels, least):
        hand = (tf.constant([40.0, 60.0]), tf.constant([20.0, 30.0]), tf.constant(2.0), tf.constant([5.0, -10.0]))
        return placing.lay_boxes(given, labels, *hand, least)

    clipped, visible = laid(labels, 0.375)
    np.testing.assert_array_equal(clipped, [box for box, _ in boxes.values()])
    np.testing.assert_array_equal(visible, area)
    np.testing.assert_array_equal(laid(labels, 0.4)[1], np.where(area == 60, 0, area))
    np.testing.assert_array_equal(laid(labels, 0.45)[1], np.where((area == 60) | (area == 70), 0, area))
    np.testing.assert_array_equal(laid(labels, 0.51)[1], [200, *[0] * 8])
    np.testing.assert_array_equal(laid(labels, 0.0)[1], [200, 200, 70, 0, 20, 0, 100, 60, 0])
    np.testing.assert_array_equal(laid(labels - 1, 0.0)[1], [0] * 9)


def test_what_a_crop_leaves_of_a_box_counts():
    """One box all over the picture stays in the windows larger than 0.5504 of it (none has just that) alone."""
    given = example(np.zeros((60, 60, 3), np.uint8), [[0, 0, 60, 60]])
    for window, labels in mapped(lambda index: cropped(given, index), 200):
        share = np.prod(window[2:]) / 3600
        assert (labels[0] == 0) == (share >= 0.5504)


def cropped(given: dict, index):
    key = picture_key(1, 0, index)
    window = placing.crop_window(salted(salted(salted(key, Salt.PLACING), 0), 0), *given.values())
    return window, get_placement((60, 60), 1, crop=1.0, min_visible=0.5504)(given, key)["labels"]


def test_of_too_many_boxes_the_largest_stay_in_their_order():
    boxes = tf.constant([[0, 0, 9, 9], [0, 0, 1, 1], [0, 0, 5, 5], [1, 1, 9, 9], [0, 0, 2, 2]], tf.float32)
    labels, area = tf.range(5), tf.constant([0.0, 1.0, 25.0, 64.0, 4.0])
    kept, names = placing.keep_largest(boxes, labels, area, 3)
    np.testing.assert_array_equal(names, [2, 3, 4])
    np.testing.assert_array_equal(kept, boxes.numpy()[2:])
    kept, names = placing.keep_largest(boxes, labels, area, 6)
    np.testing.assert_array_equal(names, [1, 2, 3, 4, -1, -1])
    np.testing.assert_array_equal(kept[4:], np.zeros((2, 4)))
    big = {"image": tf.zeros([20, 20, 3], tf.uint8), "boxes": boxes, "labels": labels}
    np.testing.assert_array_equal(get_letterbox((20, 20), 2)(big, picture_key(0, 0, 0))["labels"], [0, 3])


@pytest.mark.parametrize("rows", [0, 1, 4])
def test_pictures_without_boxes(rows):
    given = example(np.zeros((20, 30, 3), np.uint8), np.ones((rows, 4)) * [0, 0, 9, 9], [-1] * rows)
    for out in drawn(get_placement((24, 24), 2, scale=(0.5, 2), crop=1, expand=0.5), given, 5):
        np.testing.assert_array_equal(out["labels"], [-1, -1])
        np.testing.assert_array_equal(out["boxes"], np.zeros((2, 4)))
    window = placing.crop_window(picture_key(0, 0, 0), *given.values())
    np.testing.assert_array_equal(window, [0, 0, 20, 30])


def test_the_scale_is_log_uniform_and_places_are_uniform():
    given = example(np.zeros((64, 64, 3), np.uint8), GRID)
    first = {name: value if name == "image" else value[:1] for name, value in given.items()}
    smaller = drawn(get_placement((128, 128), 1, scale=(0.25, 1.0), min_visible=1), first, 2000)
    widths = np.array([out["boxes"][0, 2] - out["boxes"][0, 0] for out in smaller])
    factor = widths / 4 / 2  # the letterbox doubles
    assert_uniform(np.log(factor), math.log(0.25), 0.0)
    room = 128 * (1 - factor)
    some = room > 1  # where a place can be told
    for axis in (0, 1):
        assert_uniform(np.array([out["boxes"][0, axis] for out in smaller])[some] / room[some], 0.0, 1.0)

    larger = drawn(get_placement((64, 64), 256, scale=(1.0, 4.0), min_visible=1), given, 1000)
    factor = np.array([np.max(out["boxes"][:, 2] - out["boxes"][:, 0]) for out in larger]) / 4
    assert_uniform(np.log(factor), 0.0, math.log(4.0))
    starts = (
        np.array([out["boxes"][0, :2] for out in larger]) - factor[:, None] * GRID[[o["labels"][0] for o in larger], :2]
    )
    some = factor > 1.1
    for axis in (0, 1):
        assert_uniform(starts[some, axis] / (64 * (1 - factor[some])), 0.0, 1.0)


def test_the_expansion_is_uniform_in_its_share_of_the_pictures():
    given = example(np.zeros((40, 40, 3), np.uint8), [[0, 0, 40, 40]])
    boxes = np.array([out["boxes"][0] for out in drawn(get_placement((80, 80), 1, expand=0.6), given, 2000)])
    ratio = 80 / (boxes[:, 2] - boxes[:, 0])
    expanded = ratio > 1
    assert expanded.sum() == pytest.approx(1200, abs=5 * (2000 * 0.24) ** 0.5)
    assert_uniform(ratio[expanded], 1.0, 4.0)
    some = ratio > 1.05
    for axis in (0, 1):
        assert_uniform(boxes[some, axis] / (80 - 80 / ratio[some]), 0.0, 1.0)
    np.testing.assert_array_equal(boxes[~expanded], np.tile([0, 0, 80, 80], (np.sum(~expanded), 1)))


def test_crop_windows():
    """With boxes all over the picture the first draw is taken; with a single one, what holds its centre."""
    image, labels = tf.zeros([640, 640, 3], tf.uint8), tf.zeros(256, tf.int32)
    single = tf.constant([[600.0, 500, 630, 560]])

    def windows(boxes, labels):
        return np.array(mapped(lambda index: placing.crop_window(picture_key(3, 0, index), image, boxes, labels), 2000))

    top, left, height, width = windows(tf.constant(10 * GRID), labels).T
    assert min(top.min(), left.min()) == 0
    assert max((top + height).max(), (left + width).max()) == 640
    area, ratio = height * width / 640**2, height / width
    assert_uniform(area, 0.1, 1.0)
    assert 0.5 - 0.01 < ratio.min() < 0.52 and 1.92 < ratio.max() < 2.01
    middle = area < 0.5  # where nothing but the ratio's own range limits it
    assert_uniform(np.log(ratio[middle]), math.log(0.5), math.log(2.0))
    inner = width < 400
    assert_uniform((left / (640 - width + 1))[inner], 0.0, 1.0)

    top, left, height, width = windows(single, labels[:1]).T
    assert np.all((top <= 530) & (top + height > 530) & (left <= 615) & (left + width > 615))
    assert np.mean(height < 640) > 0.9
    cropped = [out["boxes"][0, 2] for out in drawn(get_placement((64, 64), 1, crop=0.3), example(image, single), 500)]
    assert np.sum(np.array(cropped) != 63) == pytest.approx(150, abs=5 * (500 * 0.21) ** 0.5 + 8)


def test_one_key_one_result_in_eager_mode_in_a_graph_and_in_parallel():
    image = RNG.integers(0, 256, (61, 83, 3)).astype(np.uint8)
    given = example(image, [[3, 4, 50, 60], [60, 2, 83, 30], [0, 0, 0, 0]], [1, 0, -1])
    operation = get_placement((48, 40), 4, scale=(0.5, 2.0), crop=0.5, expand=0.5)

    @tf.function(input_signature=SPECS, autograph=False)
    def graph(image, key):
        return operation({**given, "image": image}, key)

    seen = set()
    for index, in_parallel in enumerate(drawn(operation, given, 8)):
        key = picture_key(4, 0, index)
        eager = operation(given, key)
        for other in (operation(given, key), graph(given["image"], key), in_parallel):
            for name, value in eager.items():
                np.testing.assert_array_equal(value, other[name])
        seen.add(eager["image"].numpy().tobytes())
    assert len(seen) == 8
    static = graph.get_concrete_function().structured_outputs
    assert static["image"].shape == (48, 40, 3) and static["boxes"].shape == (4, 4) and static["labels"].shape == (4,)


def test_what_speaks_of_lost_rows_goes_and_the_rest_stays():
    given = {**example(np.zeros((9, 9, 3), np.uint8), [[0, 0, 5, 5]]), "crowd": [False], "area": [3.0], "index": 7}
    given["boxes"] = tf.cast(given["boxes"], tf.float64)  # as the source holds them
    out = get_letterbox((9, 9), 1)(given, picture_key(0, 0, 0))
    assert sorted(out) == ["boxes", "image", "index", "labels"]
    assert out["index"] == 7 and out["boxes"].dtype == tf.float32
    with pytest.raises(ValueError, match="also has mask"):
        get_letterbox((9, 9), 1)({**given, "mask": given["image"]}, picture_key(0, 0, 0))


@pytest.mark.parametrize("wrong", [{"scale": (0.0, 1.0)}, {"scale": (2.0, 1.0)}, {"most_expand": 0.5}])
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match="factor"):
        get_placement((9, 9), 1, **wrong)
