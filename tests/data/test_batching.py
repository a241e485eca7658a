"""Batches: every picture once, and the same stream whatever the replicas, processes, skips and caches are."""

import functools
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from resnet_tasks.data.batching import Batches, Share
from resnet_tasks.data.examples import Split
from resnet_tasks.data.mixing import get_mixup
from resnet_tasks.data.pictures import Pictures
from resnet_tasks.data.randomness import salted, uniform
from resnet_tasks.errors import DataError, UsageError

COUNT = 21
BROKEN = 5


def png(value: int, size=(6, 4)) -> bytes:
    """A picture whose pixels are all its number."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, value, value)).save(buffer, "PNG")
    return buffer.getvalue()


def split_of(count: int = COUNT, broken: int | None = None) -> Split:
    encoded = [png(index) for index in range(count)]
    if broken is not None:
        encoded[broken] = encoded[broken][:40]
    label = (np.arange(count) % 3).astype(np.int32)
    return Split(
        "train", tuple(f"{index}.png" for index in range(count)), encoded=tuple(encoded), annotations={"label": label}
    )


def noisy(example: dict, key) -> dict:
    """To a canvas of 4 x 4, with a number of the picture's own added and its label as shares."""
    image = tf.image.resize(tf.cast(example["image"], tf.float32), (4, 4))
    return {**example, "image": image + uniform(salted(key, 1)), "label": tf.one_hot(example["label"], 3)}


def finish(batch: dict) -> tuple:
    return batch["image"], {name: batch[name] for name in ("index", "key", "label", "weight")}


@functools.cache
def kept(count: int) -> Pictures:
    """In memory, which makes for smaller graphs."""
    return Pictures(split_of(count), "ram")


def batches_of(training: bool, batch_size: int = 8, *, pictures: Pictures | None = None, **changes) -> Batches:
    pictures = pictures or kept(COUNT)
    return Batches(pictures.split, pictures, batch_size, noisy, finish, training, **changes)


def taken(stream: tf.data.Dataset, count: int | None = None) -> list[dict]:
    """Batches as NumPy arrays, the image among them."""
    stream = stream if count is None else stream.take(count)
    return [{"image": image, **targets} for image, targets in stream.as_numpy_iterator()]


def indices(batches: list[dict]) -> list[int]:
    return [int(index) for batch in batches for index in batch["index"]]


def joined(parts: list[dict]) -> dict:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def assert_equal(got: list[dict], expected: list[dict]) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got, expected):
        for name in expected[0]:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_evaluation_sees_every_picture_once_in_order():
    batches = batches_of(training=False)
    got = taken(batches.stream())
    assert batches.steps == len(got) == 3
    assert indices(got) == [*range(COUNT), -1, -1, -1]
    weights = np.concatenate([batch["weight"] for batch in got])
    np.testing.assert_array_equal(weights, [1.0] * COUNT + [0.0] * 3)
    assert {batch["image"].shape for batch in got} == {(8, 4, 4, 3)}, "one shape, one trace"
    values = np.floor(np.concatenate([batch["image"] for batch in got])[:COUNT].mean((1, 2, 3)))
    np.testing.assert_array_equal(values, np.arange(COUNT))


def test_an_epoch_is_a_permutation_and_each_another():
    batches = batches_of(training=True, batch_size=7)
    assert batches.steps == 3
    epochs = np.reshape(indices(taken(batches.stream(), 12)), (4, COUNT))
    for epoch in epochs:
        assert sorted(epoch) == list(range(COUNT))
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert tuple(range(COUNT)) not in {tuple(epoch) for epoch in epochs}
    again = indices(taken(batches_of(training=True, batch_size=7).stream(), 3))
    other = indices(taken(batches_of(training=True, batch_size=7, seed=1).stream(), 3))
    assert again == list(epochs[0]) != other


def test_a_remainder_is_left_to_the_next_epochs_draw():
    """21 pictures in batches of 8: two steps an epoch, 16 different pictures in each, and none is always left out."""
    got = np.reshape(indices(taken(batches_of(training=True).stream(), 40)), (20, 16))
    assert all(len(set(epoch)) == 16 for epoch in got)
    counts = np.bincount(got.ravel(), minlength=COUNT)
    assert counts.min() >= 8 and counts.sum() == 320  # 15.2 on average


def test_random_choices_belong_to_picture_and_epoch():
    batches = batches_of(training=True, batch_size=7)
    got = joined(taken(batches.stream(), 6))
    keys = {
        (int(index), place // COUNT): tuple(key) for place, (index, key) in enumerate(zip(got["index"], got["key"]))
    }
    assert len(keys) == len(set(keys.values())) == 2 * COUNT
    other_size = joined(taken(batches_of(training=True, batch_size=3).stream(), 14))
    same = {
        (int(index), place // COUNT): tuple(key)
        for place, (index, key) in enumerate(zip(other_size["index"], other_size["key"]))
    }
    assert same == keys, "whatever the batch is"


@pytest.mark.parametrize("mixed", [False, True])
def test_to_skip_is_to_start_later(mixed):
    batches = batches_of(training=True, mix=get_mixup(1.0) if mixed else None)
    assert_equal(taken(batches.stream(3), 4), taken(batches.stream(), 7)[3:])


@pytest.mark.parametrize("replicas", [1, 2, 4])
@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("kind", ["training", "mixing", "evaluation"])
def test_shares_join_to_the_single_stream(kind, replicas, micro_batches):
    """First one process that feeds all replicas, then a process for each, in micro-batches, over the end of epochs."""
    training, size = kind != "evaluation", 64 if kind == "mixing" else 16
    pictures = kept(70 if kind == "mixing" else COUNT)
    batches = batches_of(training, size, pictures=pictures, mix=get_mixup(1.0) if kind == "mixing" else None)
    steps = 3 if training else batches.steps
    expected = taken(batches.stream(), steps)
    parts = replicas * micro_batches
    together = taken(
        batches.stream(0, Share(0, replicas, replicas), micro_batches), steps * parts if training else None
    )
    assert len(together) == steps * parts
    assert_equal([joined(together[step * parts : (step + 1) * parts]) for step in range(steps)], expected)
    for replica in range(replicas):
        own = taken(batches.stream(0, Share(replica, 1, replicas), micro_batches), steps * micro_batches)
        assert_equal(own, together[replica::replicas])
    if training:
        later = taken(batches.stream(1, Share(0, replicas, replicas), micro_batches), parts)
        assert_equal(later, together[parts : 2 * parts])


def test_mixing_mixes():
    got = joined(taken(batches_of(training=True, mix=get_mixup(1.0)).stream(), 4))
    shares = got["label"].max(1)
    np.testing.assert_allclose(got["label"].sum(1), 1.0, atol=1e-6)
    assert np.mean(shares < 0.999) > 0.4
    plain = joined(taken(batches_of(training=True).stream(), 4))
    np.testing.assert_array_equal(got["index"], plain["index"])


@pytest.mark.parametrize("mixed", [False, True])
def test_a_broken_picture_keeps_its_place_and_weighs_nothing(mixed):
    options = {"mix": get_mixup(1.0)} if mixed else {}
    good = joined(taken(batches_of(training=True, **options).stream(), 4))
    got = joined(taken(batches_of(training=True, pictures=Pictures(split_of(broken=BROKEN)), **options).stream(), 4))
    np.testing.assert_array_equal(got["index"], good["index"])
    is_broken = good["index"] == BROKEN
    assert is_broken.sum() >= 1
    assert np.all(got["weight"][is_broken] == 0) and np.all(got["weight"][~is_broken] > 0)
    beside = is_broken | np.roll(is_broken, 1)  # the one behind it would have been mixed with it
    rest = ~beside if mixed else ~is_broken
    np.testing.assert_array_equal(got["image"][rest], good["image"][rest])


def test_a_broken_picture_in_evaluation():
    got = joined(taken(batches_of(training=False, pictures=Pictures(split_of(broken=BROKEN))).stream()))
    assert list(got["index"]) == [*range(COUNT), -1, -1, -1]
    assert list(np.flatnonzero(got["weight"] == 0)) == [BROKEN, 21, 22, 23]


def test_a_set_smaller_than_a_batch_is_gone_through_several_times():
    batches = batches_of(training=True, batch_size=8, pictures=kept(3))
    assert batches.steps == 1
    got = np.reshape(indices(taken(batches.stream(), 6)), (6, 8))
    for epoch in got:
        assert sorted(epoch[:3]) == sorted(epoch[3:6]) == [0, 1, 2] and len(set(epoch[6:])) == 2
    assert len({tuple(rounds) for epoch in got for rounds in (epoch[:3], epoch[3:6])}) > 3


def test_repeated_places_come_as_often_as_they_stand():
    places = np.array([0, 1, 1, 2, 2, 2, 2], np.int64)
    batches = batches_of(training=True, batch_size=7, pictures=kept(3), places=places)
    for batch in taken(batches.stream(), 5):
        np.testing.assert_array_equal(np.bincount(batch["index"]), [1, 2, 4])


def test_epochs_are_what_fit_expects():
    """A dataset of known length that gives the next epoch at each iteration, equal to the stream's."""
    batches = batches_of(training=True, batch_size=7)
    epochs = batches.epochs()
    assert int(epochs.cardinality()) == batches.steps == 3
    expected = taken(batches.stream(), 9)
    for epoch in range(3):
        assert_equal(taken(epochs), expected[3 * epoch : 3 * epoch + 3])
    still = batches_of(training=False).epochs()
    assert indices(taken(still)) == indices(taken(still)) == [*range(COUNT), -1, -1, -1]


@pytest.mark.parametrize("cache", ["ram", "disk"])
@pytest.mark.parametrize("training", [False, True])
def test_a_cache_changes_nothing(cache, training, tmp_path):
    split = split_of(broken=BROKEN)
    expected = taken(batches_of(training, pictures=Pictures(split)).stream(), 6 if training else None)
    got = taken(batches_of(training, pictures=Pictures(split, cache, tmp_path)).stream(), 6 if training else None)
    assert_equal(got, expected)


def test_examples_are_the_pictures_as_read():
    examples = list(batches_of(training=True, pictures=Pictures(split_of(broken=BROKEN))).examples())
    assert [example["id"] for example in examples] == [f"{index}.png" for index in range(COUNT)]
    assert [index for index, example in enumerate(examples) if not example["readable"]] == [BROKEN]
    assert examples[7]["image"].shape == (4, 6, 3) and np.all(examples[7]["image"] == 7) and examples[7]["label"] == 1


def test_ids_leave_padding_out():
    assert batches_of(training=False).ids(np.array([[3, -1], [0, -1]])) == ["3.png", "0.png"]


@pytest.mark.parametrize(
    ("size", "share", "micro_batches", "mixed", "said"),
    [
        (10, Share(0, 4, 4), 1, False, "does not divide by 4 replicas times 1 micro-batches; 12 would"),
        (8, Share(0, 2, 2), 3, False, "does not divide by 2 replicas times 3 micro-batches; 12 would"),
        (16, Share(0, 4, 4), 1, True, "multiple of 32"),
    ],
)
def test_a_batch_that_cannot_be_cut_is_refused_with_one_that_can(size, share, micro_batches, mixed, said):
    batches = batches_of(training=True, batch_size=size, mix=get_mixup(1.0) if mixed else None)
    with pytest.raises(UsageError) as error:
        batches.stream(0, share, micro_batches)
    assert said in str(error.value)


def test_an_empty_split_and_an_empty_batch_are_refused():
    empty = Split("val", (), encoded=(), annotations={"label": np.zeros(0, np.int32)})
    with pytest.raises(DataError, match="split 'val' holds no picture"):
        Batches(empty, None, 8, noisy, finish, training=False)
    with pytest.raises(UsageError, match="batch size 0"):
        batches_of(training=True, batch_size=0)


def test_an_odd_batch_leaves_nothing_to_mix_with():
    with pytest.raises(UsageError, match=r"even; train\.batch_size 7 is not: make it 8, or leave augment\.mixup"):
        batches_of(training=True, batch_size=7, mix=get_mixup(1.0))
    batches_of(training=False, batch_size=7, mix=get_mixup(1.0))
    batches_of(training=True, batch_size=6, mix=get_mixup(1.0))
