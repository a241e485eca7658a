"""Alignment of faces: against points moved by known similarities, a closed form, Pillow, and drawn dots."""

import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from resnet_tasks.data import face_alignment
from resnet_tasks.data.face_alignment import TEMPLATE, align, get_alignment, similarity, template
from resnet_tasks.data.geometric import resize_center_crop

RANDOM = np.random.default_rng(0)
KEY = tf.zeros([2], tf.int32)
SIZE = (112, 112)


def moved(points, scale, degrees, shift):
    """Points scaled, turned clockwise (y goes down) about the origin, and shifted."""
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return scale * points @ turn.T + shift


def dots(size_hw, points, radius):
    """A black picture with a soft white dot at each point, pixel centres at whole numbers."""
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    picture = sum(np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * radius**2)) for u, v in points)
    return np.repeat(np.round(255 * picture.clip(0, 1)).astype(np.uint8)[..., None], 3, axis=-1)


def seen(picture, at, reach=9):
    """The centre of what is bright around each of the points `at`."""
    centres = []
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    for u, v in at:
        light = picture[..., 0].astype(float) * (np.hypot(x - u, y - v) < reach)
        centres.append([(light * x).sum() / light.sum(), (light * y).sum() / light.sum()])
    return np.array(centres)


def test_the_template_is_the_published_one():
    assert np.abs(template(SIZE) - TEMPLATE).max() < 1e-12
    # As it is printed everywhere for crops of 112x96.
    narrow = [[30.2946, 51.6963], [65.5318, 51.5014], [48.0252, 71.7366], [33.5493, 92.3655], [62.7299, 92.2041]]
    assert np.abs(template((112, 96)) - narrow).max() < 1e-9
    # Twice the size: the left edge of a pixel, at -1/2, stays the left edge.
    assert np.abs((template((224, 224)) + 0.5) - 2 * (TEMPLATE + 0.5)).max() < 1e-12


@pytest.mark.parametrize(("scale", "degrees", "shift"), [(3.7, 25, (310, 120)), (0.4, -170, (9, 4)), (1, 0, (0, 0))])
def test_points_moved_by_a_similarity_come_back(scale, degrees, shift):
    points = moved(TEMPLATE, scale, degrees, shift)
    found = similarity(points, SIZE)
    assert np.abs(points @ found[:, :2].T + found[:, 2] - TEMPLATE).max() < 1e-9
    angle = math.radians(-degrees)
    expected = [[math.cos(angle) / scale, -math.sin(angle) / scale], [math.sin(angle) / scale, math.cos(angle) / scale]]
    assert np.abs(found[:, :2] - expected).max() < 1e-12


def umeyama(points, goal):
    """Umeyama 1991, equations 40 to 42: the similarity of least squares, by the singular values of the covariance."""
    here, there = points.mean(0), goal.mean(0)
    left, values, right = np.linalg.svd((goal - there).T @ (points - here) / len(points))
    sign = np.diag([1, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    turn = left @ sign @ right
    scale = np.trace(np.diag(values) @ sign) / ((points - here) ** 2).sum(1).mean()
    return np.column_stack([scale * turn, there - scale * turn @ here])


def test_real_landmarks_are_met_by_least_squares():
    for _ in range(20):
        points = moved(TEMPLATE, RANDOM.uniform(0.3, 8), RANDOM.uniform(-90, 90), RANDOM.uniform(0, 3000, 2))
        points += RANDOM.normal(0, 5, points.shape)
        assert np.abs(similarity(points, SIZE) - umeyama(points, TEMPLATE)).max() < 1e-8
        a, b, x, y = (value.numpy() for value in face_alignment._solved(tf.constant(points), TEMPLATE))
        assert np.abs(np.array([[a, -b, x], [b, a, y]]) - similarity(points, SIZE)).max() < 1e-8


@pytest.mark.parametrize("wrong", [np.zeros((5, 2)), np.full((5, 2), np.nan), np.zeros((4, 2))])
def test_points_without_a_similarity(wrong):
    with pytest.raises(ValueError, match="five landmarks"):
        similarity(wrong, SIZE)


@pytest.mark.parametrize(
    ("scale", "degrees", "size_hw"),
    [(1.0, 0, (112, 112)), (0.6, 12, (112, 112)), (1.7, -35, (112, 96)), (5.3, 20, (112, 112)), (4.0, 90, (112, 112))],
)
def test_five_dots_come_to_lie_upon_the_template(scale, degrees, size_hw):
    points = moved(TEMPLATE - 56, scale, degrees, (75 * scale, 80 * scale))
    picture = dots((math.ceil(160 * scale), math.ceil(150 * scale)), points, radius=2.2 * scale)
    aligned = align(picture, points, size_hw)
    assert (aligned.shape, aligned.dtype) == ((*size_hw, 3), np.uint8)
    goal = template(size_hw)
    assert np.abs(seen(aligned, goal, reach=9 * size_hw[0] / 112) - goal).max() < 0.08  # pixels


def test_pixels_are_those_of_bilinear_interpolation():
    """Pillow's, which counts from the corner of the first pixel; and black outside of the picture."""
    picture = np.asarray(Image.fromarray(RANDOM.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((160, 120)))
    points = moved(TEMPLATE, 1.3, 15, (10, -20))
    inverse = np.linalg.inv(np.vstack([similarity(points, SIZE), [0, 0, 1]]))[:2]
    cornered = inverse.copy()
    cornered[:, 2] += 0.5 - inverse[:, :2] @ [0.5, 0.5]
    affine = ((112, 112), Image.Transform.AFFINE, cornered.ravel())
    peer = np.asarray(Image.fromarray(picture).transform(*affine, Image.Resampling.BILINEAR)).astype(int)
    inside = Image.new("L", (160, 120), 255).transform(*affine)
    mine = align(picture, points, SIZE).astype(int)
    kept = np.asarray(inside) == 255
    border = kept & ~np.roll(kept, 2, 0) | kept & ~np.roll(kept, -2, 0) | kept & ~np.roll(kept, 2, 1)
    kept &= ~(border | np.roll(border, 1, 0) | np.roll(border, -1, 0) | np.roll(border, 1, 1) | np.roll(border, -1, 1))
    assert kept.mean() > 0.5 and np.abs(mine - peer)[kept].max() <= 1
    assert not kept.all()
    assert mine[0, 0].tolist() == [0, 0, 0]  # there the canvas shows what lies above the picture


def test_a_large_picture_is_averaged_not_sampled():
    """Of stripes two pixels wide, seen at a sixth of their size, grey is left; bilinear points alone would flicker."""
    picture = np.zeros((700, 700, 3), np.uint8)
    picture[:, ::4] = picture[:, 1::4] = 255
    aligned = align(picture, moved(TEMPLATE, 6.0, 3, (10, 5)), SIZE)[8:-8, 8:-8].astype(float)
    assert np.abs(aligned - 127.5).max() < 20


@pytest.mark.parametrize("dtype", [tf.uint8, tf.float32])
def test_without_landmarks_a_picture_is_resized_as_the_predictor_does(dtype):
    picture = tf.cast(RANDOM.integers(0, 256, (50, 70, 3)), dtype)
    expected = resize_center_crop(picture, SIZE).numpy()
    half = np.where(np.arange(10).reshape(5, 2) == 3, np.nan, TEMPLATE)
    for points in (
        {},
        {"landmarks": np.full((5, 2), np.nan)},
        {"landmarks": half},
        {"landmarks": np.full((5, 2), 7.0)},
    ):
        example = {"image": picture, "id": "a", **{k: tf.constant(v, tf.float32) for k, v in points.items()}}
        made = get_alignment(SIZE)(example, KEY)
        assert made.keys() == {"image", "id"} and made["image"].dtype == dtype
        assert np.array_equal(made["image"].numpy(), expected)


def test_a_pipeline_mixes_both_kinds():
    """In a graph, with pictures of different sizes, the pixels of `align`."""
    pictures = [RANDOM.integers(0, 256, (90 + n, 110, 3), dtype=np.uint8) for n in range(4)]
    points = np.stack([moved(TEMPLATE, 0.7 + n / 10, 5 * n, (3, 4)) for n in range(4)]).astype(np.float32)
    points[2] = np.nan
    signature = (tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((5, 2), tf.float32))
    rows = tf.data.Dataset.from_generator(lambda: iter(zip(pictures, points)), output_signature=signature)
    operation = get_alignment(SIZE)
    made = rows.map(lambda image, at: operation({"image": image, "landmarks": at}, KEY)["image"]).batch(4)
    for one, picture, at in zip(next(iter(made)).numpy(), pictures, points):
        assert np.array_equal(one, align(picture, at, SIZE))
