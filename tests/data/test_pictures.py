"""The pixels of a split: decoded anew, kept in memory, kept on disk; always the same."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from resnet_tasks.data import pictures as pictures_module
from resnet_tasks.data.examples import Split
from resnet_tasks.data.pictures import CACHES, Pictures, free_memory
from resnet_tasks.errors import UsageError

SIZES = [(5, 7), (16, 3), (1, 1), (9, 9), (12, 20)]  # height, width
BROKEN = 3


def array(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (*SIZES[index], 3), dtype=np.uint8)


def split_of(broken: bool = True) -> Split:
    encoded = []
    for index in range(len(SIZES)):
        buffer = io.BytesIO()
        Image.fromarray(array(index)).save(buffer, "PNG")
        encoded.append(b"no picture" if broken and index == BROKEN else buffer.getvalue())
    return Split("val", tuple("abcde"), encoded=tuple(encoded))


@pytest.mark.parametrize("cache", CACHES)
def test_all_gives_every_picture_and_a_blank_for_a_broken_one(cache, tmp_path):
    pictures = Pictures(split_of(), cache, tmp_path)
    got = list(pictures.all().as_numpy_iterator())
    assert [bool(readable) for _, readable in got] == [index != BROKEN for index in range(5)]
    for index, (image, _) in enumerate(got):
        expected = np.zeros((1, 1, 3), np.uint8) if index == BROKEN else array(index)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("cache", CACHES)
def test_access_is_random_and_in_a_graph(cache, tmp_path):
    pictures = Pictures(split_of(), cache, tmp_path)
    assert pictures.may_fail == (cache == "off")
    read = tf.function(pictures.read, input_signature=[tf.TensorSpec((), tf.int64)])
    for index in (4, 0, 2, 4):
        image, readable = read(index)
        np.testing.assert_array_equal(image, array(index))
        assert bool(readable)
    if cache == "off":
        with pytest.raises(tf.errors.InvalidArgumentError):
            read(BROKEN)
    else:
        image, readable = read(BROKEN)
        assert image.shape == (1, 1, 3) and not bool(readable)


def test_some_pictures_in_the_order_asked_for(tmp_path):
    for cache in CACHES:
        got = list(Pictures(split_of(), cache, tmp_path).all(np.array([4, 1])).as_numpy_iterator())
        assert len(got) == 2
        np.testing.assert_array_equal(got[0][0], array(4))
        np.testing.assert_array_equal(got[1][0], array(1))


def test_pictures_of_one_size_have_it_in_the_graph():
    split = split_of(broken=False).subset([3, 3])
    image, _ = Pictures(split, "ram").all().element_spec
    assert image.shape == (9, 9, 3)


def test_the_bytes_foreseen_are_those_of_the_pixels():
    pictures = Pictures(split_of(broken=False))
    assert pictures.foreseen() == pytest.approx(sum(3 * height * width for height, width in SIZES), abs=5)


def test_disk_keeps_raw_pixels_in_a_folder_of_its_own(tmp_path):
    for count in (1, 2):
        Pictures(split_of(), "disk", tmp_path)
        assert len(list(tmp_path.iterdir())) == count
    sizes = {path.name: path.stat().st_size for path in next(tmp_path.iterdir()).iterdir()}
    assert sizes == {"0": 12 + 105, "1": 12 + 144, "2": 12 + 3, "3": 12 + 3, "4": 12 + 720}


def test_too_little_memory_is_said_with_both_sizes(monkeypatch):
    monkeypatch.setattr(Pictures, "foreseen", lambda self: 3 * 2**30)
    monkeypatch.setattr(pictures_module, "free_memory", lambda: 2 * 2**30)
    with pytest.raises(UsageError) as error:
        Pictures(split_of(), "ram")
    assert "takes about 3.0 GiB and 2.0 GiB of memory are free" in str(error.value)
    assert "--cache disk" in str(error.value)


def test_too_little_disk_is_said_with_both_sizes(monkeypatch, tmp_path):
    monkeypatch.setattr(Pictures, "foreseen", lambda self: 2**60)
    with pytest.raises(UsageError, match=r"takes about 1073741824\.0 GiB and .* GiB free; use --cache off"):
        Pictures(split_of(), "disk", tmp_path)
    assert not list(tmp_path.rglob("0"))


def test_an_unknown_cache_is_refused():
    with pytest.raises(UsageError, match="data.cache: expected one of off, ram, disk, got 'RAM'"):
        Pictures(split_of(), "RAM")


def test_free_memory_is_between_nothing_and_all_there_is():
    assert 2**20 < free_memory() < 2**50
