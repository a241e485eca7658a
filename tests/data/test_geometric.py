"""Flips, crops, resizing and warps against NumPy, Pillow and paper."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_image

from resnet_tasks.data import geometric
from resnet_tasks.data.decode import decode
from resnet_tasks.data.randomness import picture_key

RNG = np.random.default_rng(11)


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    """uint8 (240, 320, 3)."""
    return load_sample_image("china.jpg")[60:300, 150:470].copy()


def places(height: int, width: int) -> np.ndarray:
    """A picture whose pixels say where they are: red is the row, green the column, both from 1; 0 is outside."""
    rows, columns = np.mgrid[1 : height + 1, 1 : width + 1]
    return np.stack([rows, columns, np.ones_like(rows)], -1).astype(np.uint8)


def drawn(operation, example: dict, count: int, epoch: int = 0) -> list[dict]:
    """The example under `count` keys, in one pass."""
    dataset = tf.data.Dataset.range(count).map(lambda index: operation(example, picture_key(4, epoch, index)))
    return list(dataset.as_numpy_iterator())


def test_flip_mirrors_half_of_the_pictures_with_their_boxes_and_masks():
    image = places(5, 8)
    boxes = np.array([[1, 0, 3, 4], [0, 0, 8, 5]], np.float32)
    example = {"image": tf.constant(image), "mask": tf.constant(image[..., :1]), "boxes": tf.constant(boxes)}
    flipped = 0
    for out in drawn(geometric.get_flip(), example, 2000):
        if np.array_equal(out["image"], image):
            np.testing.assert_array_equal(out["boxes"], boxes)
            np.testing.assert_array_equal(out["mask"], image[..., :1])
        else:
            np.testing.assert_array_equal(out["image"], image[:, ::-1])
            np.testing.assert_array_equal(out["mask"], image[:, ::-1, :1])
            np.testing.assert_array_equal(out["boxes"], [[5, 0, 7, 4], [0, 0, 8, 5]])  # 8 - 3, 8 - 1
            flipped += 1
    assert flipped == pytest.approx(1000, abs=5 * (2000 / 4) ** 0.5)


def test_flip_twice_by_one_key_is_the_picture():
    image = tf.constant(places(4, 7))
    flip = geometric.get_flip()
    for index in range(12):
        key = picture_key(0, 0, index)
        np.testing.assert_array_equal(flip(flip({"image": image}, key), key)["image"], image)


def test_the_alternating_flip_shows_every_picture_both_ways_in_any_two_epochs():
    image = places(2, 3)
    flip = geometric.get_flip(alternate=True)

    def mirrored(index, epoch):
        example = {"image": tf.constant(image), "epoch": epoch, "identity_key": picture_key(4, 0, index)}
        return flip(example, picture_key(4, epoch, index))["image"][0, 0, 1] == 3

    pairs = tf.data.Dataset.range(800 * 4).map(lambda n: mirrored(n // 4, n % 4))
    table = np.array(list(pairs.as_numpy_iterator())).reshape(800, 4)
    np.testing.assert_array_equal(table[:, 1:], ~table[:, :-1])
    assert table[:, 0].sum() == pytest.approx(400, abs=5 * (800 / 4) ** 0.5)


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_pad_crop_cuts_every_window_of_the_padded_picture_alike_often(mode):
    image = places(6, 9)
    padded = np.pad(image, [(2, 2), (2, 2), (0, 0)], mode="constant" if mode == "zeros" else "reflect")
    windows = {padded[y : y + 6, x : x + 9].tobytes(): (y, x) for y in range(5) for x in range(5)}
    assert len(windows) == 25
    counts = np.zeros((5, 5))
    for out in drawn(geometric.get_pad_crop((6, 9), 2, mode), {"image": tf.constant(image)}, 2500):
        counts[windows[out["image"].tobytes()]] += 1
    assert np.abs(counts - 100).max() < 5 * (2500 * 0.04 * 0.96) ** 0.5


def test_pad_crop_cuts_smaller_windows_and_keeps_what_fills_its_frame():
    image = places(6, 9)
    corners = {tuple(out["image"][0, 0, :2]) for out in drawn(geometric.get_pad_crop((5, 9), 0), {"image": image}, 40)}
    assert corners == {(1, 1), (2, 1)}
    out = geometric.get_pad_crop((6, 9), 0)({"image": tf.constant(image)}, picture_key(0, 0, 0))
    np.testing.assert_array_equal(out["image"], image)


def test_pixels_are_clipped_and_halves_go_up():
    levels = tf.constant([-3.0, 0.4, 0.5, 1.5, 12.25, 254.6, 300.0])
    np.testing.assert_array_equal(geometric.as_pixels(levels, tf.uint8), [0, 0, 1, 2, 12, 255, 255])
    np.testing.assert_allclose(geometric.as_pixels(levels, tf.float32), [0, 0.4, 0.5, 1.5, 12.25, 254.6, 255])


@pytest.mark.parametrize("size_hw", [(100, 111), (480, 401)])
def test_resize_is_pillows(photograph, size_hw):
    expected = np.asarray(Image.fromarray(photograph).resize(size_hw[::-1], Image.BILINEAR)).astype(int)
    image = geometric.resize(tf.constant(photograph), size_hw)
    assert image.dtype == tf.uint8
    assert np.abs(image.numpy().astype(int) - expected).max() <= 1
    levels = geometric.resize(tf.constant(photograph, tf.float32), size_hw)
    assert np.abs(levels - expected).max() <= 1.01


def test_resize_by_hand():
    image = tf.constant([[[0.0] * 3, [100.0] * 3]])
    # From 2 to 4 columns, pixel centres at -1/4, 1/4, 3/4, 5/4 of the input's: the outer ones are clamped.
    np.testing.assert_allclose(geometric.resize(image, (1, 4))[0, :, 0], [0, 25, 75, 100], atol=1e-4)
    # From 4 to 2: a triangle of two pixels each side, weights 1, 3, 3, 1 of 8, without the one outside: 3, 3, 1 of 7.
    image = tf.constant([[[0.0] * 3, [70.0] * 3, [0.0] * 3, [0.0] * 3]])
    np.testing.assert_allclose(geometric.resize(image, (1, 2))[0, :, 0], [30, 70 / 7], atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "size_hw", "fraction", "covering"),
    [
        ((240, 320), (112, 112), 0.875, (128, 171)),  # short side 112 / 0.875; 128 * 320 / 240 = 170.7
        ((320, 240), (96, 96), 1.0, (128, 96)),
        ((50, 80), (64, 96), 0.8, (80, 128)),  # enlarged: max(80 / 50, 120 / 80)
    ],
)
def test_resize_center_crop_is_resize_then_crop(photograph, shape, size_hw, fraction, covering):
    image = tf.constant(np.resize(photograph, (*shape, 3)))
    top, left = ((c - s) // 2 for c, s in zip(covering, size_hw, strict=True))
    expected = geometric.resize(image, covering)[top : top + size_hw[0], left : left + size_hw[1]]
    cropped = geometric.resize_center_crop(image, size_hw, fraction)
    assert cropped.shape == (*size_hw, 3)
    assert np.abs(cropped.numpy().astype(int) - expected.numpy()).max() <= 1
    operation = geometric.get_resize_center_crop(size_hw, fraction)
    np.testing.assert_array_equal(operation({"image": image}, picture_key(0, 0, 0))["image"], cropped)


def test_resize_center_crop_in_a_graph_is_the_same():
    """Graphs multiply by reciprocals where they find divisions by constants; the middle must not move by that."""
    image = tf.constant(RNG.integers(0, 256, (90, 130, 3)), tf.uint8)
    for side in (20, 33, 46, 59):
        graph = tf.function(lambda picture, side=side: geometric.resize_center_crop(picture, (side, side), 0.8))
        np.testing.assert_array_equal(graph(image), geometric.resize_center_crop(image, (side, side), 0.8))


def test_resize_center_crop_without_scaling_is_the_middle():
    image = places(6, 10)
    np.testing.assert_array_equal(geometric.resize_center_crop(tf.constant(image), (6, 6)), image[:, 2:8])
    np.testing.assert_array_equal(geometric.resize_center_crop(tf.constant(image), (3, 5), 0.5), image[1:4, 2:7])
    np.testing.assert_array_equal(geometric.resize_center_crop(tf.constant(image), (6, 10)), image)


def windows_of(shape_hw, count, **parameters) -> np.ndarray:
    dataset = tf.data.Dataset.range(count)
    shape = tf.constant(shape_hw)
    windows = dataset.map(lambda i: geometric.resized_crop_window(picture_key(7, 0, i), shape, **parameters))
    return np.array(list(windows.as_numpy_iterator()))


def test_windows_lie_inside_and_have_the_areas_and_ratios_asked_for():
    top, left, height, width = windows_of((480, 640), 1500, scale=(0.1, 0.5), ratio=(0.5, 2.0)).T
    assert top.min() >= 0
    assert left.min() >= 0
    assert (top + height).max() <= 480
    assert (left + width).max() <= 640
    area, aspect = height * width / (480 * 640), np.log(width / height)
    assert area.min() > 0.098
    assert area.max() < 0.504
    assert np.abs(aspect).max() < np.log(2.03)
    # With at most half of the area few draws are refused (wide ones of 0.47 and more): nearly the uniform's moments.
    assert area.mean() == pytest.approx(0.3, abs=0.015)
    assert aspect.mean() == pytest.approx(0.0, abs=0.06)
    assert aspect.std() == pytest.approx(2 * np.log(2) / 12**0.5, rel=0.06)
    free = 480 - height
    assert (top[free > 0] / free[free > 0]).mean() == pytest.approx(0.5, abs=0.04)


def test_where_no_window_fits_the_middle_is_taken():
    # 10 x 1000: even the least area, 0.08 * 10000 = 800, would be 24 high at the ratio 4/3.
    np.testing.assert_array_equal(windows_of((10, 1000), 3), [[0, 493, 10, 13]] * 3)  # 13 = round(10 * 4/3)
    np.testing.assert_array_equal(windows_of((1000, 10), 3), [[493, 0, 13, 10]] * 3)  # 13 = round(10 / (3/4))


def test_random_resized_crop_of_everything_is_resize(photograph):
    square = tf.constant(photograph[:, :240])
    crop = geometric.get_random_resized_crop((64, 64), scale=(1.0, 1.0), ratio=(1.0, 1.0))
    np.testing.assert_array_equal(
        crop({"image": square}, picture_key(0, 0, 3))["image"], geometric.resize(square, (64, 64))
    )


def encoded(photograph: np.ndarray, kind: str) -> bytes:
    picture = Image.fromarray(photograph)
    options: dict = {"format": "JPEG", "quality": 85}
    if kind == "png":
        options = {"format": "PNG"}
    elif kind == "turned":
        options["exif"] = Image.Exif()
        options["exif"][274] = 6
    elif kind in ("420", "422", "444"):
        options["subsampling"] = {"420": 2, "422": 1, "444": 0}[kind]
    elif kind in ("grey", "cmyk"):
        picture = picture.convert("L" if kind == "grey" else "CMYK")
    elif kind == "progressive":
        options["progressive"] = True
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["420", "422", "444", "progressive", "grey", "cmyk", "turned", "png"])
def test_decoding_the_window_only_gives_the_very_same_pixels(photograph, kind, monkeypatch):
    data = tf.constant(encoded(photograph[:201, :207], kind))
    image = decode(data).numpy()
    # top, left, height, width: at and beside the edges of JPEG's blocks of 8 and 16, and of the picture.
    for window in (
        [0, 0, 31, 33],
        [16, 16, 16, 16],
        [17, 15, 40, 34],
        [33, 32, 20, 47],
        [5, 8, 60, 1],
        [181, 190, 20, 11],
    ):
        monkeypatch.setattr(geometric, "resized_crop_window", lambda *_, window=window: tf.constant(window))
        top, left, height, width = window
        pixels = geometric.decode_random_resized_crop(data, picture_key(0, 0, 0), (height, width))
        np.testing.assert_array_equal(pixels, image[top : top + height, left : left + width])


@pytest.mark.parametrize("kind", ["420", "png"])
def test_decoding_the_window_only_draws_as_the_operation_does(photograph, kind):
    data = tf.constant(encoded(photograph, kind))
    crop = geometric.get_random_resized_crop((32, 32), scale=(0.1, 0.4), ratio=(0.5, 1.0))
    for index in range(4):
        key = picture_key(1, 2, index)
        fused = geometric.decode_random_resized_crop(data, key, (32, 32), scale=(0.1, 0.4), ratio=(0.5, 1.0))
        np.testing.assert_array_equal(fused, crop({"image": decode(data)}, key)["image"])


def test_decoding_the_window_of_a_broken_file_raises(photograph):
    data = encoded(photograph, "420")
    for broken in (b"no picture", data[:300], b""):
        with pytest.raises(tf.errors.InvalidArgumentError):
            geometric.decode_random_resized_crop(tf.constant(broken), picture_key(0, 0, 0), (8, 8))


def warp_by_hand(image: np.ndarray, matrix: list[float], fill: float) -> np.ndarray:
    """Bilinear, one pixel at a time."""
    a, b, c, d, e, f = matrix
    height, width = image.shape[:2]
    framed = np.full((height + 2, width + 2, 3), fill)
    framed[1:-1, 1:-1] = image
    out = np.full(image.shape, fill)
    for y, x in np.ndindex(height, width):
        u, v = a * (x + 0.5) + b * (y + 0.5) + c - 0.5, d * (x + 0.5) + e * (y + 0.5) + f - 0.5
        if -1 < u < width and -1 < v < height:
            left, top = int(np.floor(u)), int(np.floor(v))
            across, down = u - left, v - top
            four = framed[top + 1 : top + 3, left + 1 : left + 3]
            upper = (1 - across) * four[0, 0] + across * four[0, 1]
            lower = (1 - across) * four[1, 0] + across * four[1, 1]
            out[y, x] = (1 - down) * upper + down * lower
    return out


MATRICES = {
    "identity": [1, 0, 0, 0, 1, 0],
    "two to the left, one up": [1, 0, 2, 0, 1, 1],
    "shear": [1, 0.25, 0, 0, 1, 0],
    "turn and scale": [0.8, -0.55, 6.25, 0.5, 0.7, -3.5],
}


@pytest.mark.parametrize("name", MATRICES)
def test_warp_is_the_bilinear_map_done_by_hand(name):
    image = RNG.uniform(0, 255, (17, 23, 3)).astype(np.float32)
    warped = geometric.warp(tf.constant(image), MATRICES[name], fill=128.0)
    expected = warp_by_hand(image, MATRICES[name], 128.0)
    np.testing.assert_allclose(warped, expected, atol=0.01)


@pytest.mark.parametrize("name", MATRICES)
def test_warp_is_pillows_but_for_the_seam(photograph, name):
    image = photograph[:120, :160]
    how = ((160, 120), Image.AFFINE, MATRICES[name])
    expected = np.asarray(Image.fromarray(image).transform(*how, Image.BILINEAR, fillcolor=(128, 128, 128)))
    warped = geometric.warp(tf.constant(image, tf.float32), MATRICES[name]).numpy()
    inside = np.pad(np.asarray(Image.new("L", (160, 120), 255).transform(*how)), 1)
    # What is two pixels or more from the seam.
    core = np.min([inside[1 + y : 121 + y, 1 + x : 161 + x] for y in (-1, 0, 1) for x in (-1, 0, 1)], axis=0) > 0
    assert core.mean() > 0.6
    assert np.abs(warped - expected)[core].max() < 2.0


def test_operations_that_know_pictures_only_refuse_boxes():
    example = {"image": tf.zeros((8, 8, 3)), "boxes": tf.zeros((1, 4))}
    for operation in (
        geometric.get_pad_crop((8, 8), 1),
        geometric.get_random_resized_crop((8, 8)),
        geometric.get_resize_center_crop((8, 8)),
    ):
        with pytest.raises(ValueError, match="also has boxes"):
            operation(example, picture_key(0, 0, 0))
