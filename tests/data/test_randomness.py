"""Keys, and what every operation owes them: one key, one picture, in eager mode, in a graph and in parallel."""

import numpy as np
import pytest
import tensorflow as tf

from resnet_tasks.data import geometric, mixing, photometric
from resnet_tasks.data.randomness import Salt, picture_key, salted, uniform

OPERATIONS = {
    "flip": geometric.get_flip(),
    "flip_alternate": geometric.get_flip(alternate=True),
    "pad_crop": geometric.get_pad_crop((16, 16), 3),
    "random_resized_crop": geometric.get_random_resized_crop((16, 16)),
    "resize_center_crop": geometric.get_resize_center_crop((12, 12), 0.8),
    "rand_augment": photometric.get_rand_augment(1, 9),
    "color_jitter": photometric.get_color_jitter(0.4),
    "random_erasing": photometric.get_random_erasing(0.5),
}
MIXES = {
    "mixup": mixing.get_mixup(0.4),
    "cutmix": mixing.get_cutmix(1.0),
    "mix": mixing.get_mix(0.4, 1.0),
}
COUNT = 24
PICTURES = np.random.default_rng(5).integers(0, 256, (COUNT, 16, 16, 3)).astype(np.uint8)


def words_of(key) -> int:
    """Both words of a key as one number."""
    return int(np.asarray(key, np.int32).view(np.uint64)[0])


def test_a_key_is_splitmix64_of_its_parts():
    seed, epoch, index = 3, 7, 41
    state = seed * 0xD1B54A32D192ED03 + epoch * 0x9E3779B97F4A7C15 + index * 0x8CB92BA72F3D8DD7
    state %= 2**64
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
    assert words_of(picture_key(seed, epoch, index)) == state ^ state >> 31


def test_no_two_of_a_million_keys_are_alike():
    indices = tf.range(50_000, dtype=tf.int64)
    keys = [picture_key(seed, epoch, indices) for seed in (-1, 0, 1, 2**40) for epoch in (0, 1, 2, 3, 400)]
    words = np.concatenate([key.numpy() for key in keys]).view(np.uint64).ravel()
    assert words.size == 1_000_000
    assert np.unique(words).size == words.size
    bits = np.unpackbits(words.view(np.uint8)).reshape(-1, 64).mean(0)
    assert np.abs(bits - 0.5).max() < 0.0025, "five standard deviations of a fair bit"


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
def test_a_key_does_not_depend_on_the_form_of_its_parts(dtype):
    expected = picture_key(3, 5, 9).numpy()
    np.testing.assert_array_equal(picture_key(3, tf.constant(5, dtype), tf.constant(9, dtype)), expected)
    np.testing.assert_array_equal(picture_key(3, np.int64(5), tf.constant([8, 9], dtype))[1], expected)
    assert picture_key(3, 5, 9).dtype == tf.int32


def test_salts_give_other_keys_and_their_order_matters():
    key = picture_key(0, 0, 0)
    salts = [words_of(salted(key, number)) for number in range(1000)]
    assert len({words_of(key), *salts}) == 1001
    assert words_of(salted(salted(key, 1), 2)) != words_of(salted(salted(key, 2), 1))
    assert words_of(salted(salted(key, 1), 1)) != words_of(key)
    assert len(set(Salt)) == len(Salt.__members__), "two operations would draw alike"


def test_draws_are_uniform_and_two_salts_do_not_correlate():
    keys = picture_key(1, 2, tf.range(4000))
    dataset = tf.data.Dataset.from_tensor_slices(keys).map(lambda key: [uniform(salted(key, n)) for n in (1, 2)])
    draws = np.array(list(dataset.as_numpy_iterator())).T
    for draw in draws:
        assert draw.mean() == pytest.approx(0.5, abs=5 * (1 / 12 / 4000) ** 0.5)
        assert draw.var() == pytest.approx(1 / 12, abs=0.005)
    assert abs(np.corrcoef(draws)[0, 1]) < 5 / 4000**0.5


def picture_at(operation, index):
    example = {
        "image": tf.gather(tf.constant(PICTURES), index),
        "epoch": tf.constant(1, tf.int64),
        "identity_key": picture_key(3, 0, index),
    }
    return operation(example, picture_key(3, 1, index))["image"]


def group_at(operation, index):
    places = index + tf.range(4, dtype=tf.int64)
    group = {"image": tf.gather(tf.constant(PICTURES), places), "label": tf.one_hot(places, COUNT)}
    return operation(group, picture_key(3, 1, places))["image"]


CASES = [pytest.param(picture_at, op, id=name) for name, op in OPERATIONS.items()]
CASES += [pytest.param(group_at, op, id=name) for name, op in MIXES.items()]


@pytest.mark.parametrize(("at", "operation"), CASES)
def test_one_key_one_picture_in_eager_mode_in_a_graph_and_in_parallel(at, operation):
    numbers = range(0, COUNT, 6)

    @tf.function(input_signature=[tf.TensorSpec((), tf.int64)])
    def graph(index):
        return at(operation, index)

    dataset = tf.data.Dataset.from_tensor_slices(tf.constant(numbers, tf.int64))
    parallel = dataset.map(graph, num_parallel_calls=2, deterministic=True)
    for number, in_parallel in zip(numbers, parallel.as_numpy_iterator(), strict=True):
        eager = at(operation, tf.constant(number, tf.int64)).numpy()
        np.testing.assert_array_equal(eager, graph(tf.constant(number, tf.int64)))
        np.testing.assert_array_equal(eager, in_parallel)
    definition = graph.get_concrete_function().graph.as_graph_def()
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    random = {node.op for node in nodes if "Random" in node.op}
    assert all(name.startswith("Stateless") for name in random), f"draws from a state: {random}"


@pytest.mark.parametrize("dtype", [tf.uint8, tf.float32])
@pytest.mark.parametrize(("at", "operation"), CASES)
def test_dtype_and_range_stay_and_the_shape_is_static(at, operation, dtype):
    shape = (None, None, 3) if at is picture_at else (4, 16, 16, 3)

    @tf.function(input_signature=[tf.TensorSpec(shape, dtype), tf.TensorSpec((4, 2), tf.int32)])
    def run(image, keys):
        if len(shape) == 4:
            return operation({"image": image, "label": tf.eye(4)}, keys)["image"]
        example = {"image": image, "epoch": tf.constant(1), "identity_key": keys[0]}
        return operation(example, keys[0])["image"]

    for first in (0, 4, 8, 12):
        extremes = tf.cast(tf.where(PICTURES[:4] > 127, 255, 0), dtype)
        keys = picture_key(2, 0, first + tf.range(4))
        out = run(extremes if len(shape) == 4 else extremes[0], keys)
        assert out.dtype == dtype
        assert out.numpy().min() >= 0
        assert out.numpy().max() <= 255
    static = run.get_concrete_function().structured_outputs.shape
    assert static[-1] == 3
    if operation in (OPERATIONS["pad_crop"], OPERATIONS["random_resized_crop"]):
        assert static == (16, 16, 3)
