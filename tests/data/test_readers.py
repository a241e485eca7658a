"""The readers on small folders, CSV files and the real data sets."""

import csv
import random
import shutil

import numpy as np
import pytest
from PIL import Image

from resnet_tasks.data.readers import read_classification, splits
from resnet_tasks.errors import DataError, UsageError

RANDOM = np.random.default_rng(0)


def draw(path, side=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RANDOM.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)


def make(root, counts, suffix=".png"):
    for folder, count in counts.items():
        for number in range(count):
            draw(root / folder / f"{number}{suffix}")
    return root


def ids(source):
    return {name: split.ids for name, split in source.splits.items()}


def test_a_folder_a_class(tmp_path):
    source = read_classification(str(make(tmp_path, {"10": 20, "2": 30, "cat/sub": 50})))
    assert source.labels.names == ("2", "10", "cat")  # as people sort
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 80, "val": 10, "test": 10}
    for name, share in (("train", [24, 16, 40]), ("val", [3, 2, 5]), ("test", [3, 2, 5])):
        split = source.splits[name]
        assert np.bincount(split.annotations["label"]).tolist() == share  # class by class
        named = [source.labels.names[label] for label in split.annotations["label"]]
        assert [id.split("/")[0] for id in split.ids] == named
        assert split.read(0) == (tmp_path / split.ids[0]).read_bytes()
    assert any("80/10/10" in note for note in source.notes)


def test_a_split_depends_on_names_and_seed_alone(tmp_path):
    first = make(tmp_path / "one", {"a": 40, "b": 40})
    moved = shutil.copytree(first, tmp_path / "elsewhere" / "two")
    draw(moved / "c" / "new.png")  # another class moves no picture of these
    one, two = ids(read_classification(str(first))), ids(read_classification(str(moved)))
    assert {name: [id for id in of if id[0] != "c"] for name, of in two.items()} == {k: list(v) for k, v in one.items()}
    assert ids(read_classification(str(first), split_seed=1)) != one
    # Known names: a change of the hash would move everybody's test pictures.
    sides = splits.hashed([f"cat/{number}.jpg" for number in range(10)], [0] * 10, None, 0)
    assert (sides.index("test"), sides.index("val"), sides.count("train")) == (1, 5, 8)


def test_order_of_files_and_spelling_of_accents_do_not_matter():
    names = [f"caf\u00e9/{number}.jpg" for number in range(50)]
    sides = dict(zip(names, splits.hashed(names, [0] * 50, None, 3), strict=True))
    random.Random(0).shuffle(names)
    assert splits.hashed(names, [0] * 50, None, 3) == [sides[name] for name in names]
    apple = [name.replace("\u00e9", "e\u0301") for name in names]
    assert splits.hashed(apple, [0] * 50, None, 3) == [sides[name] for name in names]


@pytest.mark.parametrize(
    ("count", "shares"),
    [(1, (1, 0, 0)), (2, (2, 0, 0)), (3, (1, 1, 1)), (10, (8, 1, 1)), (14, (12, 1, 1)), (100, (80, 10, 10))],
)
def test_shares_of_small_classes(count, shares):
    sides = splits.hashed([f"{number}.png" for number in range(count)], [0] * count, None, 0)
    assert tuple(sides.count(name) for name in splits.NAMES) == shares


def test_a_group_stays_on_one_side(tmp_path):
    for label in "ab":
        for patient in range(10):
            for number in range(4):
                draw(tmp_path / label / f"patient{patient}{label}_{number}.png")
    source = read_classification(str(tmp_path), group=r"(patient\d+.)_")
    seen = {name: {id.split("/")[1].split("_")[0] for id in of} for name, of in ids(source).items()}
    assert {name: len(of) for name, of in seen.items()} == {"train": 16, "val": 2, "test": 2}
    assert not seen["train"] & seen["val"] | seen["train"] & seen["test"] | seen["val"] & seen["test"]
    with pytest.raises(DataError, match=r"finds nothing in 'a/patient0a_0\.png'"):
        read_classification(str(tmp_path), group="video")


@pytest.mark.parametrize(
    ("folders", "counts"),
    [
        (("train", "valid", "test"), {"train": 6, "val": 6, "test": 6}),  # Roboflow's words
        (("training", "Validation"), {"train": 6, "val": 6}),  # no test: none is invented
        (("train", "test"), {"train": 6, "test": 6}),  # no val: none is invented
    ],
)
def test_split_folders_are_used_as_they_lie(tmp_path, folders, counts):
    source = read_classification(
        str(make(tmp_path, {f"{folder}/{label}": 3 for folder in folders for label in ("cat", "dog")}))
    )
    assert {name: len(split) for name, split in source.splits.items()} == counts
    assert source.labels.names == ("cat", "dog")


def test_a_class_may_be_called_test(tmp_path):
    source = read_classification(str(make(tmp_path, {"test": 4, "train": 4})))
    assert source.labels.names == ("test", "train")


def test_litter_is_ignored_and_other_files_are_noted(tmp_path):
    make(tmp_path, {"a": 10, "b": 10})
    for name in (".DS_Store", "a/.DS_Store", "a/Thumbs.db", "a/._0.png", "__MACOSX/a/0.png", ".git/x/0.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"litter")
    (tmp_path / "a" / "readme.txt").write_text("words")
    source = read_classification(str(tmp_path))
    assert source.labels.names == ("a", "b")
    assert source.problems == ()
    assert [note for note in source.notes if "suffix" in note] == [
        "left out, without a picture's suffix: 1 (a/readme.txt)"
    ]


def spoil(root, bad, good):
    """`good` pictures in two classes and `bad` more that cannot be read: cut JPEGs and a text file by turns."""
    for number in range(good):
        draw(root / "ab"[number % 2] / f"{number}.jpg", 40 if number == 0 else 6)
    whole = (root / "a" / "0.jpg").read_bytes()
    for number in range(bad):
        name = root / "ab"[number % 2] / f"bad{number}.jpg"
        name.write_bytes(b"not a picture" if number % 2 else whole[: len(whole) // 3])
    return str(root)


@pytest.mark.parametrize(
    ("bad", "good", "policy", "stops"),
    [
        (0, 20, "fail", False),  # nothing wrong
        (1, 199, "auto", False),  # 0.5 %
        (1, 199, "fail", True),  # any is too many
        (1, 99, "auto", False),  # 1 % to the picture
        (3, 97, "auto", True),  # 3 %
        (3, 97, "skip", False),
    ],
)
def test_unreadable_files_are_named_counted_and_skipped_or_stop_the_run(tmp_path, bad, good, policy, stops):
    where = spoil(tmp_path, bad, good)
    if stops:
        with pytest.raises(DataError, match=f"{bad} of {bad + good} pictures cannot be read") as error:
            read_classification(where, on_bad_image=policy)
        assert all(f"bad{number}.jpg" in str(error.value) for number in range(bad))
        assert "--on-bad-image skip" in str(error.value)
        return
    source = read_classification(where, on_bad_image=policy)
    files = [problem.file for problem in source.problems]
    assert files == {0: [], 1: ["a/bad0.jpg"], 3: ["a/bad0.jpg", "a/bad2.jpg", "b/bad1.jpg"]}[bad]
    assert all("cut off" in p.what if "bad1" not in p.file else "not a picture" in p.what for p in source.problems)
    assert sum(map(len, source.splits.values())) == good
    assert not bad or f"cannot be read and left out: {bad} (" in source.notes[-1]


def test_bytes_behind_a_jpeg_do_not_make_it_unreadable(tmp_path):
    make(tmp_path, {"a": 3, "b": 3}, ".jpg")
    for name, padding in (("0", bytes(600)), ("1", b"ftypmp42" * 5000)):  # a camera's padding; a phone's film
        with (tmp_path / "a" / f"{name}.jpg").open("ab") as file:
            file.write(padding)
    assert read_classification(str(tmp_path), on_bad_image="fail").problems == ()


@pytest.mark.parametrize(
    ("counts", "error", "said"),
    [
        ({}, DataError, "it holds no folder"),
        ({"cat": 3}, DataError, "one class only ('cat')"),
        ({".": 3}, DataError, "its 3 pictures lie in no class folder"),
        ({"cat": 0, "dog": 0}, DataError, "there is no picture in its folders"),
    ],
)
def test_folders_without_classes(tmp_path, counts, error, said):
    for folder in counts:
        (tmp_path / folder).mkdir(exist_ok=True)
    make(tmp_path, counts)
    with pytest.raises(error) as raised:
        read_classification(str(tmp_path))
    assert said in str(raised.value)
    assert str(tmp_path) in str(raised.value)


def test_what_cannot_be_read_at_all(tmp_path):
    for where, options in (
        (str(tmp_path / "nowhere"), {}),
        (str(tmp_path / "labels.xml"), {}),
        ("digits", {"data_format": "folder"}),
        ("digits", {"on_bad_image": "never"}),
        ({"training_set": "digits"}, {}),
    ):
        (tmp_path / "labels.xml").touch()
        with pytest.raises(UsageError):
            read_classification(where, **options)


def table(path, rows, delimiter=","):
    with path.open("w", newline="", encoding="utf-8-sig") as file:  # with the mark that Excel writes
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return str(path)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv(tmp_path, delimiter):
    make(tmp_path / "images", {"deep": 4})
    rows = [("Path", "Class", "Split")]
    rows += [("deep/0.png", "10", "train"), ("images/deep/1.png", "2", "train")]  # under images/; beside the file
    rows += [("old\\place\\2.png", "2", "valid"), ("deep\\3.png", "10", "test")]  # by base name; with \
    source = read_classification(table(tmp_path / "labels.csv", rows, delimiter), on_bad_image="fail")
    assert source.labels.names == ("2", "10")  # numbers stay text
    assert ids(source) == {
        "train": ("deep/0.png", "images/deep/1.png"),
        "val": ("old/place/2.png",),
        "test": ("deep/3.png",),
    }
    assert source.splits["train"].annotations["label"].tolist() == [1, 0]
    assert source.splits["val"].read(0) == (tmp_path / "images" / "deep" / "2.png").read_bytes()


def test_csv_with_groups_and_a_folder_of_pictures(tmp_path):
    make(tmp_path / "pictures", {"x": 40})
    rows = [("file", "label", "patient"), *((f"x/{n}.png", "ab"[n % 2], f"p{n // 4 * 2 + n % 2}") for n in range(40))]
    where = table(tmp_path / "labels.csv", rows)
    source = read_classification(where, images=str(tmp_path / "pictures"), group="patient")
    patient = {row[0]: row[2] for row in rows[1:]}
    seen = [{patient[id] for id in split.ids} for split in source.splits.values()]
    assert [len(group) for group in seen] == [16, 2, 2]
    assert len(set.union(*seen)) == 20
    assert read_classification(where, images=str(tmp_path / "pictures"), group=r"x/(\d)").splits["train"]
    with pytest.raises(UsageError, match="nowhere"):
        read_classification(where, images=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("picture", "label"), ("a.png", "x")], "no column for the picture; found 'picture', 'label', expected"),
        ([("file", "kind"), ("a.png", "x")], "no column for the class; found 'file', 'kind'"),
        ([("file", "label")], "no rows"),
        ([("file", "label", "split"), ("a.png", "x", "holdout")], "row 2: split 'holdout'; train, val or test"),
        ([("file", "label"), ("a.png", "x"), ("b.png", "")], "row 3"),
        ([("file", "label"), ("a.png", "x"), ("b.png", "y")], "a.png: not found; tried a.png, "),
    ],
)
def test_csv_that_cannot_be_used(tmp_path, rows, said):
    with pytest.raises(DataError) as error:
        read_classification(table(tmp_path / "labels.csv", rows))
    assert said in str(error.value)


def test_splits_given_apart(tmp_path):
    make(tmp_path / "mine", {"cat": 10, "dog": 10})
    make(tmp_path / "theirs", {"dog": 2, "eel": 2})
    source = read_classification({"train": str(tmp_path / "mine"), "valid": str(tmp_path / "theirs")})
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 20, "val": 4}
    assert source.labels.names == ("cat", "dog", "eel")
    assert np.bincount(source.splits["val"].annotations["label"]).tolist() == [0, 2, 2]
    assert "classes without a picture in train" in source.notes[-1]
    assert "eel" in source.notes[-1]


def test_the_embedded_digits():
    source = read_classification("digits")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 1439, "val": 179, "test": 179}
    assert source.labels.names == tuple("0123456789")
    from sklearn.datasets import load_digits

    from resnet_tasks.data import decode

    digits = load_digits()
    for split in source.splits.values():
        for place in range(0, len(split), 60):
            number = int(split.ids[place][-8:-4])
            image = decode.decode_array(split.read(place))
            np.testing.assert_array_equal(np.round(image[..., 1] / 255 * 16), digits.images[number])
            assert split.annotations["label"][place] == digits.target[number]


def test_tfds_as_it_lies_prepared(data_root):
    import tensorflow_datasets

    from resnet_tasks.data import decode

    folder = str(data_root / "tfds")
    source = read_classification("tfds:cifar10", data_dir=folder)
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 50000, "test": 10000}
    for split in source.splits.values():
        assert np.bincount(split.annotations["label"]).tolist() == [len(split) // 10] * 10
    assert source.labels.names[3] == "cat"
    theirs = tensorflow_datasets.load("cifar10", split="test[:20]", data_dir=folder)
    for place, example in enumerate(theirs.as_numpy_iterator()):
        np.testing.assert_array_equal(decode.decode_array(source.splits["test"].read(place)), example["image"])
        assert source.splits["test"].annotations["label"][place] == example["label"]
    assert source.splits["test"].ids[17] == "tfds:cifar10/test/17"


@pytest.mark.parametrize(
    ("where", "said"),
    [("tfds:cifar10", "tfds build cifar10 --data_dir"), ("tfds:cifar1O", "no 'cifar1O'; did you mean 'cifar10'")],
)
def test_tfds_that_is_not_there(tmp_path, where, said):
    with pytest.raises(DataError, match=said):
        read_classification(where, data_dir=str(tmp_path))
