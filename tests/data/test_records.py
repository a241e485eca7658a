"""Pictures read record by record: the same, in every respect, as the pictures that were read into memory."""

import io
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from resnet_tasks.data import decode, records
from resnet_tasks.data import pictures as pictures_module
from resnet_tasks.data.batching import Batches
from resnet_tasks.data.formats import Unreadable
from resnet_tasks.data.pictures import Pictures
from resnet_tasks.data.readers import read_classification, record_index, splits
from resnet_tasks.errors import DataError, UsageError

SHARDS = {"train": [7, 1, 9], "validation": [4], "test": [2, 3]}
BROKEN = 10  # of train
NAMES = ("cat", "dog", "hen")
WHERE = "tfds:tiny_pictures"


def picture(number: int) -> bytes:
    """PNG and JPEG by turns, of several sizes."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 256, (3 + number % 5, 4 + number % 7, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG" if number % 2 else "PNG")
    return stream.getvalue()


def prepare(root, kind: str = "tfrecord", shards=SHARDS, labelled=("train", "validation", "test")):
    """Writes a data set as TFDS lays it out; picture and class of record i are those of number i, over all splits."""
    import tensorflow_datasets as tfds

    folder = root / "tiny_pictures" / "1.0.0"
    folder.mkdir(parents=True)
    features = tfds.features.FeaturesDict(
        {
            "boxes": tfds.features.Sequence(tfds.features.BBoxFeature()),
            "image": tfds.features.Image(),
            "label": tfds.features.ClassLabel(names=NAMES),
            "note": tfds.features.Text(),
        }
    )
    adapter = tfds.core.file_adapters.ADAPTER_FOR_FORMAT[tfds.core.FileFormat(kind)]
    infos, number = [], 0
    for split, lengths in shards.items():
        template = tfds.core.ShardedFileTemplate(
            dataset_name="tiny_pictures", split=split, filetype_suffix=kind, data_dir=folder
        )
        for shard, length in enumerate(lengths):
            rows = []
            for _ in range(length):
                data = picture(number)[:40] if number == BROKEN else picture(number)
                label = number % 3 if split in labelled else -1
                example = {"boxes": [], "image": data, "label": label, "note": "x" * (number % 4)}
                rows.append((number, features.serialize_example(features.encode_example(example))))
                number += 1
            adapter.write_examples(template.sharded_filepath(shard_index=shard, num_shards=len(lengths)), iter(rows))
        infos.append(tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=1000, filename_template=template))
    tfds.folder_dataset.write_metadata(data_dir=folder, features=features, split_infos=infos, check_data=False)
    return root


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("RESNET_TASKS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def no_memory(monkeypatch):
    monkeypatch.setattr(pictures_module, "free_memory", lambda: 1000)


def read(root, **options):
    return read_classification(WHERE, data_dir=str(root), **options)


def by_records(root, monkeypatch, **options):
    with monkeypatch.context() as context:
        context.setattr(pictures_module, "free_memory", lambda: 1000)
        return read(root, **options)


def shard(root, split: str = "train", number: int = 1):
    return root / "tiny_pictures" / "1.0.0" / f"tiny_pictures-{split}.tfrecord-{number:05}-of-{len(SHARDS[split]):05}"


def canvas(example: dict, key) -> dict:
    pixels = tf.image.resize(tf.cast(example["image"], tf.float32), (4, 4))
    return {**example, "image": pixels + tf.random.stateless_uniform((), key)}


def finish(batch: dict) -> tuple:
    return batch["image"], {name: batch[name] for name in ("index", "key", "label", "weight")}


def batches(split, training: bool = True, size: int = 4, **options) -> Batches:
    return Batches(split, Pictures(split, options.pop("cache", "off")), size, canvas, finish, training, **options)


def taken(stream: tf.data.Dataset, count: int) -> list[dict]:
    return [{"image": image, **targets} for image, targets in stream.take(count).as_numpy_iterator()]


def assert_same_batches(got: list[dict], expected: list[dict]) -> None:
    for one, other in zip(got, expected, strict=True):
        for name in other:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_both_ways_are_equal_bit_by_bit(prepared, monkeypatch):
    memory, found = read(prepared), by_records(prepared, monkeypatch)
    assert list(memory.splits) == list(found.splits) == ["train", "val", "test"]
    assert memory.labels == found.labels
    number = 0
    for name, split in memory.splits.items():
        other = found.splits[name]
        assert other.records is not None and split.encoded is not None
        assert (split.ids, split.fingerprint()) == (other.ids, other.fingerprint())
        assert other.annotations["label"].dtype == np.int32
        np.testing.assert_array_equal(split.annotations["label"], other.annotations["label"])
        table = other.table()
        in_graph = tf.data.Dataset.range(len(other)).map(
            lambda index, split=other, table=table: split.fetch(table, index)
        )
        for place, fetched in enumerate(in_graph.as_numpy_iterator()):
            data = picture(number)[:40] if number == BROKEN else picture(number)
            assert split.read(place) == other.read(place) == fetched == data
            assert split.annotations["label"][place] == number % 3
            number += 1
        assert other.fetch(table, tf.constant(1)).numpy() == other.read(1)  # eagerly too


def test_batches_are_equal_from_the_start_after_a_skip_and_in_a_cache(prepared, monkeypatch):
    memory, found = read(prepared).splits["train"], by_records(prepared, monkeypatch).splits["train"]
    expected = taken(batches(memory).stream(), 12)
    assert_same_batches(taken(batches(found).stream(), 12), expected)
    assert_same_batches(taken(batches(found).stream(7), 5), expected[7:])
    assert_same_batches(taken(batches(found, cache="ram").stream(), 12), expected)
    broken = np.concatenate([batch["index"][batch["weight"] == 0] for batch in expected])
    assert set(broken) == {BROKEN}, "the broken picture keeps its place and weighs nothing"
    assert_same_batches(taken(batches(found, False).stream(), 9), taken(batches(memory, False).stream(), 9))


def test_parts_of_a_split_and_splits_joined(prepared, monkeypatch):
    memory, found = read(prepared), by_records(prepared, monkeypatch)
    part = found.splits["train"].subset([16, 0, 8, 0])
    assert [part.read(place) for place in range(4)] == [picture(number) for number in (16, 0, 8, 0)]
    assert len(found.splits["train"].subset([])) == 0
    joined = found.splits
    whole = splits.join("train", [joined["val"], joined["train"].subset([3, 2]), joined["test"]])
    expected = splits.join(
        "train", [memory.splits["val"], memory.splits["train"].subset([3, 2]), memory.splits["test"]]
    )
    assert whole.fingerprint() == expected.fingerprint() and len(whole) == 11
    assert [whole.read(place) for place in range(11)] == list(expected.encoded)
    table = whole.table()
    assert [whole.fetch(table, tf.constant(place)).numpy() for place in range(11)] == list(expected.encoded)


def test_a_set_of_one_split_is_cut_alike(tmp_path, monkeypatch):
    root = prepare(tmp_path / "one", shards={"train": [20, 21]})
    memory, found = read(root, split_seed=3), by_records(root, monkeypatch, split_seed=3)
    for name in ("train", "val", "test"):
        split = found.splits[name]
        assert split.fingerprint() == memory.splits[name].fingerprint()
        assert tuple(split.read(place) for place in range(len(split))) == memory.splits[name].encoded


def test_a_split_without_labels_or_pictures_is_not_used(tmp_path, monkeypatch):
    root = prepare(
        tmp_path / "some", shards={"train": [3], "validation": [3], "test": [2]}, labelled=("train", "validation")
    )
    for source in (read(root), by_records(root, monkeypatch)):
        assert list(source.splits) == ["train", "val"]
        assert any("'test' has no labels" in note for note in source.notes)


@pytest.mark.parametrize(
    ("free", "way"),
    [(12001, "read into memory: its 0.0 GiB, held twice"), (12000, "read record by record as the pictures are needed")],
)
def test_half_of_the_free_memory_decides_and_the_note_says_so(prepared, monkeypatch, free, way):
    """3,000 bytes by dataset_info.json, 6,000 twice."""
    monkeypatch.setattr(pictures_module, "free_memory", lambda: free)
    assert any(note.startswith(way) for note in read(prepared).notes)


def test_several_threads_at_once(prepared, no_memory):
    split = read(prepared).splits["train"]
    places = np.random.default_rng(0).integers(0, len(split), 1000)
    places = places[places != BROKEN]
    with ThreadPoolExecutor(16) as threads:
        got = list(threads.map(split.read, places.tolist()))
    assert got == [picture(place) for place in places]


def test_no_python_runs_in_the_pipeline(prepared, no_memory):
    """It would keep a process from ending whose iterator outlives its interpreter."""
    split = read(prepared).splits["train"]
    table = split.table()
    traced = tf.function(lambda index: split.fetch(table, index)).get_concrete_function(tf.TensorSpec((), tf.int64))
    kinds = {operation.type for operation in traced.graph.get_operations()}
    assert "TFRecordDatasetV2" in kinds and not {kind for kind in kinds if "PyFunc" in kind}


@pytest.mark.parametrize("way", ["records", "memory"])
@pytest.mark.parametrize(("place", "held"), [(8, None), (4, 15), (4, 7)], ids=["last byte", "data", "header"])
def test_a_file_that_is_cut_off_is_named_with_the_place(prepared, tmp_path, monkeypatch, place, held, way):
    root = shutil.copytree(prepared, tmp_path / "torn")
    file = shard(root, number=2)
    begins = records.index_file(str(file))
    cut = file.stat().st_size - 1 if place == 8 else begins[place] + held
    os.truncate(file, cut)
    with pytest.raises(DataError) as error:
        read(root) if way == "memory" else by_records(root, monkeypatch)
    assert f"{file} is cut off" in str(error.value)
    assert f"at byte {begins[place]}" in str(error.value) and f"the file ends at {cut}" in str(error.value)


def test_a_file_cut_between_two_records_holds_fewer_than_it_should(prepared, tmp_path, no_memory):
    root = shutil.copytree(prepared, tmp_path / "torn")
    file = shard(root, number=2)
    os.truncate(file, records.index_file(str(file))[5])
    with pytest.raises(DataError, match=rf"{file.name} holds 5 records, and its dataset_info.json says 9"):
        read(root)


def test_damaged_and_foreign_files_are_named(prepared, tmp_path, no_memory):
    root = shutil.copytree(prepared, tmp_path / "damaged")
    file = shard(root)
    whole = file.read_bytes()
    file.write_bytes(whole[:30] + b"\xff" + whole[31:])  # within the only record
    with pytest.raises(DataError, match=rf"{file.name}: corrupted record"):
        read(root)
    for other in (b"\x1f\x8b\x08" + whole, bytes(100)):
        file.write_bytes(other)
        with pytest.raises(DataError, match=rf"{file.name}: expected a TFRecord at byte 0"):
            read(root)
    file.unlink()
    with pytest.raises(DataError, match=rf"{file.name}: No such file"):
        read(root)
    with pytest.raises(DataError, match="gs://bucket/x: .* from local files only"):
        records.index_file("gs://bucket/x")


def test_a_file_that_is_gone_later_is_a_broken_picture(prepared, tmp_path, no_memory):
    root = shutil.copytree(prepared, tmp_path / "gone")
    split = read(root).splits["train"]
    os.truncate(shard(root, number=2), 0)
    with pytest.raises(Unreadable, match=f"{shard(root, number=2).name}, at byte"):
        split.read(12)
    got = taken(batches(split, False).stream(), 5)
    weights = np.concatenate([batch["weight"] for batch in got])
    np.testing.assert_array_equal(weights, [1.0] * 8 + [0.0] * 12)  # seven, one, none of nine, three to fill up


def test_a_record_without_a_picture_is_a_broken_picture(tmp_path):
    path = str(tmp_path / "some.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(tf.train.Example().SerializeToString())
        writer.write(b"no example")
    held = records.Records((path,), np.array([(0, byte) for byte in records.index_file(path)]), "image")
    for number in range(2):
        with pytest.raises(Unreadable, match=f"some.tfrecord, at byte {held.places[number, 1]}: "):
            held.read(number)
        with pytest.raises(tf.errors.InvalidArgumentError):
            held.fetch(held.table(), tf.constant(number))


def counted(monkeypatch) -> list[str]:
    """The files whose labels are looked up from now on."""
    looked, labels = [], record_index._labels
    monkeypatch.setattr(record_index, "_labels", lambda path, *rest: looked.append(path) or labels(path, *rest))
    return looked


def test_what_was_found_is_kept_until_a_file_changes(prepared, tmp_path, no_memory, monkeypatch, home):
    root = shutil.copytree(prepared, tmp_path / "changing")
    looked = counted(monkeypatch)
    first = read(root)
    assert len(looked) == sum(map(len, SHARDS.values()))
    assert len(list(home.rglob("*.npz"))) == 3 and not list(home.rglob("*.part"))
    again = read(root)
    assert len(looked) == 6, "nothing was looked up again"
    for name, split in again.splits.items():
        assert split.fingerprint() == first.splits[name].fingerprint()
        assert [split.read(place) for place in range(len(split))] == [
            first.splits[name].read(place) for place in range(len(split))
        ]
    os.utime(shard(root), ns=(1, 1))
    read(root)
    assert sorted(looked[6:]) == [str(shard(root, number=number)) for number in range(3)]
    assert len(list(home.rglob("*.npz"))) == 3, "the new takes the old one's place"
    for file in home.rglob("*.npz"):
        file.write_bytes(file.read_bytes()[:100])
    assert read(root).splits["test"].fingerprint() == first.splits["test"].fingerprint()
    assert len(looked) == 15


@pytest.mark.parametrize("broken", ["a file in its place", "no home"])
def test_a_home_that_cannot_be_written_breaks_nothing(prepared, no_memory, monkeypatch, home, broken):
    if broken == "no home":
        monkeypatch.delenv("RESNET_TASKS_HOME")
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where the user has none
    else:
        home.write_text("")
    assert len(read(prepared).splits["train"]) == 17


def test_array_records_are_read_into_memory(prepared, tmp_path):
    memory, found = read(prepared), read(prepare(tmp_path / "array", "array_record"))
    for name, split in memory.splits.items():
        other = found.splits[name]
        assert (split.ids, split.encoded, split.fingerprint()) == (other.ids, other.encoded, other.fingerprint())
        np.testing.assert_array_equal(split.annotations["label"], other.annotations["label"])


@pytest.mark.parametrize("size", [100, 65536])
def test_an_array_record_file_that_is_cut_off_is_told(tmp_path, size):
    """At a multiple of 64 KiB it looks whole to its package, and gives nothing for a record."""
    root = prepare(tmp_path / "array", "array_record")
    os.truncate(next(root.rglob("*train.array_record-00002*")), size)
    with pytest.raises(DataError, match="an ArrayRecord file of its split 'train' is damaged"):
        read(root)


def test_array_records_need_their_package(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def missing(*args, **options):
        raise ImportError

    root = prepare(tmp_path / "array", "array_record", shards={"train": [3]})
    monkeypatch.setattr(tfds.core.DatasetBuilder, "as_data_source", missing)
    with pytest.raises(DataError, match="pip install array_record"):
        read(root)


@pytest.mark.parametrize("kind", ["parquet", "array_record"])
def test_a_large_set_of_another_kind_is_refused(tmp_path, no_memory, kind):
    root = prepare(tmp_path / kind, kind, shards={"train": [3]})
    with pytest.raises(DataError, match=rf"prepared as {kind}.*tfds build tiny_pictures --file_format=tfrecord"):
        read(root)


def test_a_tf_data_service_is_refused(prepared, no_memory):
    made = batches(read(prepared).splits["train"], service="grpc://localhost:1")
    with pytest.raises(UsageError, match=r"data.service: its workers cannot read tfds:tiny_pictures/train/0"):
        made.stream()


@pytest.mark.real_data
def test_cifar10_by_records_is_cifar10_in_memory(data_root, monkeypatch):
    memory = read_classification("tfds:cifar10", data_dir=str(data_root / "tfds"))
    monkeypatch.setattr(pictures_module, "free_memory", lambda: 1000)
    found = read_classification("tfds:cifar10", data_dir=str(data_root / "tfds"))
    for name, split in memory.splits.items():
        other = found.splits[name]
        assert other.records is not None
        assert (split.ids, split.fingerprint()) == (other.ids, other.fingerprint())
        for place in range(0, len(split), 97):
            assert split.read(place) == other.read(place)
    expected = taken(batches(memory.splits["test"], size=64).stream(1000), 3)
    assert_same_batches(taken(batches(found.splits["test"], size=64).stream(1000), 3), expected)
    np.testing.assert_array_equal(
        decode.decode_array(found.splits["test"].read(17)), decode.decode_array(memory.splits["test"].read(17))
    )
