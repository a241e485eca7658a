"""Masks by their place in a split: the same ids in Python, in a graph and out of memory; cut, joined and renamed."""

import io

import numpy as np
import pytest
from PIL import Image

from resnet_tasks.data import masks as module
from resnet_tasks.data.examples import Split
from resnet_tasks.data.masks import IGNORE, Masks, grey_png, read_grey
from resnet_tasks.data.readers import splits

# Sizes differ, and all 256 values occur.
IDS = [
    np.arange(256, dtype=np.uint8).reshape(16, 16),
    np.array([[0, 1, 2], [IGNORE, 1, 0]], np.uint8),
    np.array([[2], [IGNORE]], np.uint8),
]
NAMES = ("masks/0.png", "masks/1.png", "masks/2.png")


def doubled(entry: int) -> np.ndarray:
    """An entry that is no file: the number of one of IDS, whose ids are twice as large."""
    return IDS[entry] * np.uint8(2)


def of_paths(folder) -> Masks:
    for name, ids in zip(NAMES, IDS):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(grey_png(ids))
    return Masks(tuple(str(folder / name) for name in NAMES), read_grey, NAMES, plain=True)


def of_bytes() -> Masks:
    return Masks(tuple(map(grey_png, IDS)), read_grey, NAMES, plain=True)


def of_numbers() -> Masks:
    return Masks((0, 1, 2), doubled, NAMES)


@pytest.fixture(params=["paths", "bytes", "numbers"])
def known(request, tmp_path) -> tuple[Masks, list[np.ndarray]]:
    """Masks of each kind and what they hold."""
    if request.param == "numbers":
        return of_numbers(), [doubled(entry) for entry in range(3)]
    return of_paths(tmp_path) if request.param == "paths" else of_bytes(), IDS


def fetched(masks: Masks) -> list[np.ndarray]:
    """All masks, as training takes them: by index, in a graph, some at once."""
    import tensorflow as tf

    fetch = masks.fetcher()
    dataset = tf.data.Dataset.range(len(masks)).map(fetch, num_parallel_calls=2)
    assert dataset.element_spec == tf.TensorSpec((None, None), tf.uint8)
    return list(dataset.as_numpy_iterator())


def equal(found, expected) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.uint8
        np.testing.assert_array_equal(one, other)


def in_python(masks: Masks) -> list[np.ndarray]:
    return [masks.ids(index) for index in range(len(masks))]


def test_ids_in_python_in_a_graph_and_from_memory_are_one(known):
    masks, expected = known
    equal(in_python(masks), expected)
    equal(fetched(masks), expected)
    kept = masks.in_memory()
    assert kept.plain and kept.names == NAMES and all(isinstance(entry, bytes) for entry in kept.entries)
    equal(in_python(kept), expected)
    equal(fetched(kept), expected)
    assert kept.in_memory() is kept


def test_eagerly_one_is_fetched_too(known):
    import tensorflow as tf

    masks, expected = known
    np.testing.assert_array_equal(masks.fetcher()(tf.constant(1, tf.int64)), expected[1])


def test_a_subset_is_in_the_order_asked_for_and_may_repeat(known):
    masks, expected = known
    part = masks.subset(np.array([2, 0, 2]))
    assert part.names == (NAMES[2], NAMES[0], NAMES[2]) and part.plain == masks.plain
    equal(in_python(part), [expected[2], expected[0], expected[2]])
    equal(fetched(part), [expected[2], expected[0], expected[2]])
    assert len(masks.subset([])) == 0 and masks.subset([]).names == ()


def test_other_ids_where_void_stays_void_and_what_is_ignored_becomes_it(known):
    masks, expected = known
    new = masks.relabelled(np.array([7, -1, 0], np.int32))
    table = np.full(256, IGNORE)
    table[[0, 2]] = 7, 0
    assert not new.plain and new.names == NAMES
    equal(in_python(new), [table[ids].astype(np.uint8) for ids in expected])
    equal(fetched(new.subset([1, 2])), [table[ids].astype(np.uint8) for ids in expected[1:]])
    equal(in_python(new.in_memory()), in_python(new))
    # 0 became 7, which has no id of its own any more when they are renamed once again; 2 became 0.
    equal(in_python(new.relabelled([3])), [np.where(ids == 2, 3, IGNORE).astype(np.uint8) for ids in expected])


def test_the_same_ids_are_the_same_masks(known):
    masks, _ = known
    assert masks.relabelled(np.arange(3)) is masks
    assert masks.relabelled(np.array([1, 0])) is not masks


def test_joined_in_one_way_they_stay_plain_and_in_several_each_is_read_in_its_own(tmp_path):
    plain = module.join([of_bytes(), of_bytes().subset([1])])
    assert plain.plain and len(plain) == 4
    equal(fetched(plain), [*IDS, IDS[1]])
    files = module.join([of_paths(tmp_path), of_paths(tmp_path).subset([2])])
    assert files.plain
    equal(fetched(files), [*IDS, IDS[2]])
    parts = [of_paths(tmp_path), of_bytes().subset([1, 0]), of_numbers().subset([2]), of_numbers().relabelled([0, 1])]
    expected = [*IDS, IDS[1], IDS[0], doubled(2), *in_python(parts[3])]
    mixed = module.join(parts)
    assert not mixed.plain
    assert mixed.names == tuple(name for part in parts for name in part.names)
    equal(in_python(mixed), expected)
    equal(fetched(mixed), expected)
    again = module.join([mixed.subset([5, 0]), of_bytes()])
    equal(in_python(again), [expected[5], expected[0], *IDS])
    equal(fetched(module.join([of_paths(tmp_path), of_bytes()])), IDS * 2)


def test_fingerprints_tell_names_contents_and_order_and_not_where_files_lie(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    here, there = (module.fingerprint(of_paths(tmp_path / name)) for name in ("a", "b"))
    assert here == there
    others = [
        of_paths(tmp_path / "a").subset([1, 0, 2]),
        of_bytes(),
        of_bytes().subset([0, 2, 1]),
        Masks((*of_bytes().entries[:2], grey_png(IDS[2] + np.uint8(1))), read_grey, NAMES, plain=True),
        Masks(of_paths(tmp_path / "a").entries, read_grey, (*NAMES[:2], "masks/3.png"), plain=True),
    ]
    assert len({here, *map(module.fingerprint, others)}) == 6
    assert module.fingerprint(of_bytes()) == module.fingerprint(of_bytes())


def test_a_grey_png_holds_the_ids_themselves():
    png = grey_png(IDS[0].T)  # not contiguous
    picture = Image.open(io.BytesIO(png))
    assert (picture.mode, picture.format, picture.size) == ("L", "PNG", (16, 16))
    np.testing.assert_array_equal(np.asarray(picture), IDS[0].T)
    np.testing.assert_array_equal(read_grey(png), IDS[0].T)


# Splits that have them


def split_of(masks: Masks, name: str = "train", first: int = 0) -> Split:
    ids = tuple(f"images/{first + place}.png" for place in range(len(masks)))
    pixels = np.arange(2 * len(masks)).reshape(-1, 2) + 10 * first
    return Split(name, ids, encoded=tuple(map(str.encode, ids)), annotations={"pixels": pixels}, masks=masks)


def test_a_part_of_a_split_has_the_masks_of_its_pictures():
    part = split_of(of_numbers()).subset([2, 1])
    assert part.ids == ("images/2.png", "images/1.png")
    assert part.masks.names == (NAMES[2], NAMES[1])
    equal(in_python(part.masks), [doubled(2), doubled(1)])
    assert part.annotations["pixels"].tolist() == [[4, 5], [2, 3]]


def test_joined_splits_have_the_masks_of_both():
    whole = splits.join("train", [split_of(of_numbers()), split_of(of_bytes(), "val", first=3)])
    assert whole.ids == tuple(f"images/{place}.png" for place in range(6))
    equal(in_python(whole.masks), [*map(doubled, range(3)), *IDS])
    assert splits.join("train", [Split("a", ("x",), encoded=(b"x",))]).masks is None


def test_the_fingerprint_of_a_split_is_also_of_its_masks():
    split = split_of(of_bytes())
    found = {
        split.fingerprint(),
        Split(split.name, split.ids, encoded=split.encoded, annotations=split.annotations).fingerprint(),
        split_of(of_bytes().subset([0, 2, 1])).fingerprint(),
    }
    assert len(found) == 3
    assert split_of(of_bytes()).fingerprint() == split.fingerprint()


def test_as_many_masks_as_pictures_or_none():
    split = split_of(of_numbers())
    with pytest.raises(ValueError, match="parts of split 'train' differ in length"):
        Split("train", split.ids, encoded=split.encoded, masks=of_numbers().subset([0, 1]))
    assert Split("train", split.ids, encoded=split.encoded).masks is None
