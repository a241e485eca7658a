"""Identities: how they are split and numbered, pairs from lists and made, landmarks, and what is refused."""

import csv
import io
import itertools
import os
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from resnet_tasks.data.check_faces import check_faces
from resnet_tasks.data.readers import face_landmarks, identity_splits
from resnet_tasks.data.readers.face_pairs import make_pairs
from resnet_tasks.data.readers.faces import read_faces
from resnet_tasks.errors import DataError, UsageError

RANDOM = np.random.default_rng(0)
FACE = [38, 52, 74, 52, 56, 72, 42, 92, 71, 92]


def draw(path, side=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RANDOM.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)


def make(root, counts, name="{number}.png"):
    for folder, count in counts.items():
        for number in range(1, count + 1):
            draw(root / folder / name.format(number=number, folder=folder))
    return root


HEAD = ["first", "second", "same"]


def write(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def people(source):
    return {name: sorted({id.split("/")[-2] for id in split.ids}) for name, split in source.splits.items()}


def said(source, words):
    return [note for note in source.notes if words in note]


def named(split):
    """The pairs as `{(first file, second file, same, fold)}`."""
    return {(split.ids[a], split.ids[b], same, fold) for a, b, same, fold in split.pairs.tolist()}


def test_no_identity_is_in_two_splits_and_each_has_its_number(tmp_path):
    root = make(tmp_path, {f"p{number}": 3 for number in range(20)})
    source = read_faces(str(root), val_share=0.1, test_share=0.25)
    who = people(source)
    assert {name: len(of) for name, of in who.items()} == {"train": 13, "val": 2, "test": 5}
    assert len({person for of in who.values() for person in of}) == 20
    assert source.labels.names == tuple(sorted(who["train"], key=lambda name: int(name[1:])))  # as people sort
    train, val, test = (source.splits[name] for name in ("train", "val", "test"))
    assert [source.labels.names[label] for label in train.annotations["label"]] == [i.split("/")[0] for i in train.ids]
    for split, numbers in ((val, range(13, 15)), (test, range(15, 20))):
        assert np.bincount(split.annotations["label"])[13:].tolist()[-len(numbers) :] == [3] * len(numbers)
        assert sorted(set(split.annotations["label"].tolist())) == list(numbers)
        same = split.annotations["label"][split.pairs[:, 0]] == split.annotations["label"][split.pairs[:, 1]]
        assert np.array_equal(same, split.pairs[:, 2] == 1)
    assert train.pairs is None
    assert (len(test.pairs), test.pairs[:, 2].sum()) == (30, 15)  # 5 people x 3 pairs, and as many different ones
    assert test.read(0) == (root / test.ids[0]).read_bytes()
    assert said(source, "13 for train, 2 for val, 5 for test")
    again = read_faces(str(root), val_share=0.1, test_share=0.25)
    assert {name: split.fingerprint() for name, split in again.splits.items()} == {
        name: split.fingerprint() for name, split in source.splits.items()
    }
    assert people(read_faces(str(root), val_share=0.1, test_share=0.25, split_seed=1)) != who


def test_known_names_keep_their_side():
    """A change of the hash would move everybody's test identities."""
    side, _ = identity_splits.disjoint([f"p{number}" for number in range(10)], None, 0, 0.2, 0.2)
    assert sorted(name for name in side if side[name] == "test") == KNOWN["test"]
    assert sorted(name for name in side if side[name] == "val") == KNOWN["val"]


KNOWN = {"test": ["p2", "p9"], "val": ["p1", "p3"]}


@pytest.mark.parametrize(
    ("count", "val", "test", "expected"),
    [
        (40, 0.0, 0.25, (30, 0, 10)),
        (40, 0.1, 0.1, (32, 4, 4)),
        (10, 0.1, 0.1, (6, 2, 2)),  # one alone would make no pair of different ones
        (5, 0.1, 0.1, (3, 0, 2)),  # val goes first
        (3, 0.1, 0.1, (3, 0, 0)),
        (10, 0.0, 0.0, (10, 0, 0)),
    ],
)
def test_shares_of_identities(count, val, test, expected):
    side, note = identity_splits.disjoint([f"{number}" for number in range(count)], None, 3, val, test)
    assert tuple(list(side.values()).count(name) for name in ("train", "val", "test")) == expected
    assert ("too few" in note) == (count in (3, 5))


def test_a_family_stays_together(tmp_path):
    root = make(tmp_path, {f"family{number // 2}_{number}": 2 for number in range(20)})
    source = read_faces(str(root), group=r"(family\d+)_", test_share=0.3, val_share=0.2)
    families = {name: {person.split("_")[0] for person in of} for name, of in people(source).items()}
    assert {name: len(of) for name, of in families.items()} == {"train": 5, "val": 2, "test": 3}
    assert not any(one & other for one, other in itertools.combinations(families.values(), 2))


def test_a_closed_set_has_half_of_each_identity_in_the_test(tmp_path):
    root = make(tmp_path, {"a": 10, "b": 5, "c": 1, "d": 24})
    source = read_faces(str(root), closed=True, val_share=0.25)
    counts = {name: np.bincount(split.annotations["label"]).tolist() for name, split in source.splits.items()}
    assert source.labels.names == ("a", "b", "c", "d")
    assert counts == {"train": [5, 3, 1, 9], "val": [0, 0, 0, 3], "test": [5, 2, 0, 12]}
    assert len({id for split in source.splits.values() for id in split.ids}) == 40


def test_split_folders_are_used_and_namesakes_said(tmp_path):
    root = make(tmp_path, {"train/a": 3, "train/b": 3, "test/a": 2, "test/z": 2})
    source = read_faces(str(root))
    assert source.labels.names == ("a", "b")
    assert source.splits["test"].annotations["label"].tolist() == [2, 2, 3, 3]
    assert said(source, "1 identities of train have namesakes in val or test, taken for other people (a)")
    closed = read_faces(str(root), closed=True)
    assert closed.splits["test"].annotations["label"].tolist() == [0, 0, 2, 2]
    assert not said(closed, "namesakes")


def test_data_given_split_by_split(tmp_path):
    one, other = make(tmp_path / "one", {"a": 3, "b": 3}), make(tmp_path / "two", {"c": 2, "d": 2})
    write(
        tmp_path / "pairs.csv", [["first", "second", "same"], ["c/1.png", "d/1.png", 0], ["c/1.png", "c/2.png", 1]]
    )  # both
    source = read_faces({"train": str(one), "valid": str(other)})
    assert people(source) == {"train": ["a", "b"], "val": ["c", "d"]}
    assert source.splits["val"].annotations["label"].tolist() == [2, 2, 3, 3]
    assert len(source.splits["val"].pairs) == 4  # the list beside it is a test's
    tested = read_faces({"train": str(one), "test": str(other)})
    assert named(tested.splits["test"]) == {("c/1.png", "d/1.png", 0, 0), ("c/1.png", "c/2.png", 1, 0)}
    alone = read_faces({"test": str(other)})
    assert (alone.labels.names, alone.splits["test"].annotations["label"].tolist()) == ((), [0, 0, 1, 1])
    with pytest.raises(UsageError, match="train, val or test"):
        read_faces({"prod": str(one)})


def test_pairs_of_a_csv_file_make_the_test(tmp_path):
    root = make(tmp_path / "faces", {"a": 3, "b": 3, "c": 4, "d": 4, "caf\u00e9": 2})
    (root / "b" / "2.png").write_bytes(b"no picture")
    rows = [["first", "second", "same", "fold"]]
    rows += [
        ["a/1.png", "a/2.png", "1", "1"],
        ["a\\1.png", "faces/b/1.png", "0", "7"],
        ["a/1.png", "b/2.png", "0", "7"],
    ]
    write(tmp_path / "pairs.csv", rows)
    source = read_faces(str(root), val_share=0.0, on_bad_image="skip")
    assert people(source) == {"train": ["c", "caf\u00e9", "d"], "test": ["a", "b"]}
    assert source.splits["test"].ids == ("a/1.png", "a/2.png", "b/1.png")
    assert named(source.splits["test"]) == {("a/1.png", "a/2.png", 1, 0), ("a/1.png", "b/1.png", 0, 1)}
    assert said(source, "1 same, 1 different, in 2 folds; 1 more name a picture that cannot be read")
    assert said(source, "never trained on; 2 more pictures")
    by_file = read_faces(str(tmp_path / "pairs.csv"), images=str(root), val_share=0.0, on_bad_image="skip")
    assert named(by_file.splits["test"]) == named(source.splits["test"])
    closed = read_faces(str(root), closed=True, val_share=0.0, on_bad_image="skip")
    assert np.bincount(closed.splits["train"].annotations["label"]).tolist() == [1, 1, 4, 2, 4]


def test_identities_that_pairs_name_leave_the_other_splits(tmp_path):
    own = tmp_path / "own"
    root = make(own, {f"train/{name}": 3 for name in "abcd"} | {"test/y": 2, "test/z": 2, "val/v": 2, "val/w": 2})
    write(root / "pairs.csv", [["first", "second", "same"], ["a/1.png", "train/b/1.png", 0], ["y/1.png", "y/2.png", 1]])
    source = read_faces(str(root))
    assert people(source) == {"train": ["c", "d"], "val": ["v", "w"], "test": ["a", "b", "y", "z"]}
    assert len(source.splits["test"]) == 6  # a and b with a picture each, and what lay there
    free = read_faces(str(make(tmp_path / "free", {f"{number}": 2 for number in range(30)})), val_share=0.0)
    assert len(free.labels) == 27
    write(
        tmp_path / "free" / "pairs.csv",
        [HEAD, ["1/1.png", "2/1.png", 0], ["1/1.png", "1/2.png", 1]],
    )
    listed = read_faces(str(tmp_path / "free"), val_share=0.0)
    assert (len(listed.labels), listed.splits["test"].ids) == (
        28,
        ("1/1.png", "1/2.png", "2/1.png"),
    )  # no other is held back


def lfw(lines, *head):
    return "\n".join(["\t".join(map(str, head)), *("\t".join(map(str, line)) for line in lines), ""])


FOLDS = [("a", 1, 2), ("b", 1, 3), ("a", 1, "b", 2), ("b", 3, "c", 1), ("c", 1, 2), ("c", 2, 3)]
FOLDS += [("a", 2, "c", 3), ("b", 1, "a", 1)]


@pytest.mark.parametrize("name", ["{folder}_{number:04d}.jpg", "{number}.png"])
def test_pairs_of_lfw(tmp_path, name):
    root = make(tmp_path, dict.fromkeys("abcdef", 4), name)
    (root / "pairs.txt").write_text(lfw(FOLDS, 2, 2))
    (root / "pairsDevTest.txt").write_text("ignored")
    source = read_faces(str(root), val_share=0.0)
    test = source.splits["test"]

    def file(person, number):
        return f"{person}/" + name.format(folder=person, number=number)

    expected = set()
    for place, (person, one, other, *last) in enumerate(FOLDS):
        second = file(other, *last) if last else file(person, other)
        expected.add((file(person, one), second, 0 if last else 1, place // 4))
    assert named(test) == expected
    assert people(source) == {"train": ["d", "e", "f"], "test": ["a", "b", "c"]}
    assert len(test) == 8  # a3 and the fourth pictures are in no pair
    assert said(source, "pairsDevTest.txt is not used")
    (root / "pairs.txt").unlink()
    (root / "pairsDevTest.txt").write_text(lfw(sorted(FOLDS, key=len), 4))
    folds = read_faces(str(root), val_share=0.0).splits["test"].pairs[:, 2:]
    assert sorted(map(tuple, folds.tolist())) == sorted(itertools.product((0, 1), range(4)))  # one of each a fold


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (lfw(FOLDS[:-1], 2, 2), "announces 2 folds .* 8 lines, and 7 follow"),
        (lfw([("a", 1)], 1), "announces"),
        (lfw([("a", 1), ("b", 1)], 1), r"line 2: 2 fields"),
        (lfw([("a", 1, "x"), ("b", 1, "a", 2)], 1), "'x' is no picture's number"),
        ("", "no pairs"),
    ],
)
def test_bad_lists_of_lfw(tmp_path, text, message):
    root = make(tmp_path, dict.fromkeys("abc", 4))
    (root / "pairs.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_faces(str(root))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["one", "second", "same"], ["a/1.png", "b/1.png", 0]], "no column for the first picture"),
        ([["first", "second", "same"], ["a/1.png", "b/1.png", "perhaps"]], "row 2: 'perhaps' under 'same'"),
        ([["first", "second", "same", "fold"], ["a/1.png", "b/1.png", 0, "x"]], "row 2: the fold is 'x'"),
        ([["first", "second", "same", "fold"], *(["a/1.png", "b/1.png", 0, n] for n in range(11))], "11 folds"),
        ([["first", "second", "same"]], "no rows"),
    ],
)
def test_bad_csv_lists(tmp_path, rows, message):
    root = make(tmp_path, {"a": 2, "b": 2, "c": 2})
    write(root / "pairs.csv", rows)
    with pytest.raises(DataError, match=message):
        read_faces(str(root))


def test_a_list_of_missing_files_names_the_first_ten(tmp_path):
    root = make(tmp_path, {"a": 2, "b": 2, "c": 2})
    write(root / "pairs.csv", [["first", "second", "same"], *(["a/1.png", f"b/no{n}.png", 0] for n in range(12))])
    with pytest.raises(DataError) as caught:
        read_faces(str(root))
    assert caught.value.exit_code == 3
    assert "12 times" in str(caught.value) and "b/no9.png (pairs.csv, row 11)" in str(caught.value)
    assert "no10" not in str(caught.value) and "and 2 more" in str(caught.value)


def test_landmarks(tmp_path):
    root = make(tmp_path, dict.fromkeys("abcdef", 3))
    rows = [["image", *["x", "y"] * 5], ["a/1.png", *FACE]]
    rows += [["b\\2.png", *(number + 0.5 for number in FACE)], ["c/1.png", *[""] * 10], ["gone.png", *FACE]]
    write(root / "landmarks.csv", rows)
    source = read_faces(str(root), test_share=0.3, val_share=0.0)
    points = {id: at for s in source.splits.values() for id, at in zip(s.ids, s.annotations["landmarks"])}
    assert points["a/1.png"].tolist() == np.reshape(FACE, (5, 2)).tolist()
    assert points["b/2.png"].tolist() == (np.reshape(FACE, (5, 2)) + 0.5).tolist()
    assert np.isnan(points["c/1.png"]).all() and points["c/1.png"].dtype == np.float32
    assert sum(np.isfinite(at).all() for at in points.values()) == 2
    assert said(source, "landmarks of 2 of 18") and said(source, "names 1 files that are not there (gone.png)")
    write(root / "landmarks.csv", rows[1:2])  # a header is not needed
    assert said(read_faces(str(root)), "landmarks of 1 of 18")
    (root / "landmarks.csv").unlink()
    plain = read_faces(str(root))
    assert not any("landmarks" in split.annotations for split in plain.splits.values())
    assert said(plain, "used as they are, not aligned")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["a/1.png", *FACE], ["b/1.png", *FACE[:9]]], "line 2: a file and ten numbers expected"),
        ([["a/1.png", *FACE], ["b/1.png", *FACE[:9], "inf"]], "line 2"),
        ([["a/1.png", *FACE], ["a/1.png", *FACE]], "line 2: a/1.png has landmarks in line 1"),
        ([["x.png", *FACE]], "none of the 1 files .* among them x.png"),
        ([["image", "left_x", *["y"] * 9], ["a/1.png", *FACE]], "do not say the order of ten numbers"),
        ([["image", *["x1", "y1"] * 5], ["a/1.png", *FACE]], "do not say the order"),
        ([["image", *"abcdefghij"], ["a/1.png", *FACE]], "left_eye_x"),
        ([["image", *["x", "y"] * 5]], "it holds no row; a file and ten numbers were expected"),
        ([], "it holds no row"),
    ],
)
def test_bad_landmarks(tmp_path, rows, message):
    root = make(tmp_path, dict.fromkeys("abcdef", 3))
    write(root / "landmarks.csv", rows)
    with pytest.raises(DataError, match=message):
        read_faces(str(root))


NAMED = ["nose_x", "nose_y", "mouth_left_x", "mouth_left_y", "left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y"]
CELEBA = [f"{point}_{axis}" for point in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"]


@pytest.mark.parametrize(
    ("header", "order"),
    [
        ([f"{axis}{n}" for axis in "xy" for n in range(1, 6)], [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]),  # MTCNN's
        ([*"xxxxxyyyyy"], [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]),
        ([f"{axis}{n}" for n in range(1, 6) for axis in "xy"], range(10)),
        ([f"p{n}_{axis}" for n in range(5) for axis in "XY"], range(10)),
        ([*NAMED, "Right Mouth Y", "Right Mouth X"], [4, 5, 6, 7, 0, 1, 2, 3, 9, 8]),
        (CELEBA, range(10)),
    ],
)
def test_a_header_says_the_order_of_landmarks(tmp_path, header, order):
    root = make(tmp_path, dict.fromkeys("abc", 2))
    write(root / "landmarks.csv", [["file", *header], [], ["a/1.png", *(FACE[place] for place in order)]])
    source = read_faces(str(root), val_share=0.0, test_share=0.0)
    assert source.splits["train"].annotations["landmarks"][0].ravel().tolist() == FACE


def test_a_list_that_names_everybody_leaves_nobody_to_train_on(tmp_path):
    root = make(tmp_path, dict.fromkeys("abcd", 3))
    write(root / "pairs.csv", [HEAD, ["a/1.png", "a/2.png", 1], ["a/1.png", "b/1.png", 0], ["c/1.png", "d/1.png", 0]])
    source = read_faces(str(root))
    assert list(source.splits) == ["test"]
    (told,) = said(source, "nobody is left to train on: the pairs of pairs.csv name all 4 identities")
    assert told.endswith("move the list away, or take data.closed=true") and not said(source, "split by identity")
    errors = [finding.what for finding in check_faces(str(root)).findings if finding.level == "error"]
    assert errors == [f"there is no split 'train': {told}"]
    assert not check_faces({"test": str(root)}).errors  # given apart, it may be a test alone
    assert not said(read_faces({"test": str(root)}), "nobody")
    closed = read_faces(str(root), closed=True)
    assert len(closed.labels) == 4 and not said(closed, "nobody") and not check_faces(str(root), closed=True).errors
    alone = make(tmp_path / "alone", {"e": 2, **dict.fromkeys("abcd", 3)})
    shutil.copy(root / "pairs.csv", alone)
    assert any("one identity only in train" in finding.what for finding in check_faces(str(alone)).findings)


@pytest.mark.parametrize(
    ("group", "expected"),
    [("p(0|1)", (10, 0, 2)), ("(p)", (12, 0, 0)), ("p(..)", (8, 2, 2))],
)
def test_a_large_group_is_trained_on(tmp_path, group, expected):
    root = make(tmp_path, {f"p{number:02d}": 1 for number in range(12)})
    source = read_faces(str(root), group=group)
    who = people(source)
    assert tuple(len(who.get(name, ())) for name in ("train", "val", "test")) == expected
    assert bool(said(source, "groups are too few or too large")) == (0 in expected)


def test_pairs_that_cannot_be_right_are_said(tmp_path):
    root = make(tmp_path, dict.fromkeys("abcd", 2))
    rows = [["a/1.png", "a/2.png", 0], ["a/1.png", "b/1.png", 1], ["a/1.png", "a/1.png", 1], ["a/2.png", "b/2.png", 0]]
    write(root / "pairs.csv", [HEAD, *rows])
    source = read_faces(str(root), val_share=0.0)
    assert said(source, "2 pairs of test contradict their folders, and count as the list says: run check")
    assert said(source, "1 pairs of test are of a picture with itself")
    write(root / "pairs.csv", [HEAD, ["a/1.png", "a/2.png", 1], rows[3]])
    assert not said(read_faces(str(root), val_share=0.0), "run check")


def test_what_is_refused(tmp_path):
    root = make(tmp_path / "faces", {"a": 2, "b": 2, "c": 1})
    (root / "nobody").mkdir()
    (root / "nobody" / "words.txt").write_text("words")
    with pytest.raises(DataError, match=r"1 identity folders hold no picture \(nobody\)"):
        read_faces(str(root))
    (tmp_path / "hollow" / "anna").mkdir(parents=True)
    with pytest.raises(DataError, match=r"its identity folders are empty \(anna\)"):
        read_faces(str(tmp_path / "hollow"))
    with pytest.raises(DataError, match="one identity only \\('a'\\)"):
        read_faces(str(make(tmp_path / "one", {"a": 3})))
    with pytest.raises(DataError, match="one identity only in train"):
        read_faces({"train": str(tmp_path / "one"), "test": str(make(tmp_path / "two", {"x": 2, "y": 2}))})
    with pytest.raises(DataError, match="no pictures found, it holds no identity folder"):
        read_faces(str(root / "nobody"))
    for wrong in ({"val_share": 0.6, "test_share": 0.4}, {"test_share": -0.1}, {"data_format": "csv"}):
        with pytest.raises(UsageError):
            read_faces(str(root), **wrong)
    for path in (root / "none", root / "nobody" / "words.md"):
        (root / "nobody" / "words.md").write_text("words")
        with pytest.raises(UsageError):
            read_faces(str(path))


def test_identities_with_one_picture_are_said(tmp_path):
    source = read_faces(
        {"train": str(make(tmp_path / "a", {"a": 2, "b": 1})), "test": str(make(tmp_path / "b", {"c": 1, "d": 1}))}
    )
    assert said(source, "identities of train with one picture, learnt from like any other: 1 (b)")
    assert said(source, "identities of test with one picture, in no pair of the same: 2 (c, d)")
    assert source.splits["test"].pairs is None and said(source, "nothing can be verified")


def test_pairs_made_are_all_that_there_are_or_a_fair_sample():
    labels = np.array([2, 0, 1, 0, 2, 0, 1, 3])  # 3 + 1 + 1 same pairs
    pairs = make_pairs(labels, seed=0)
    is_same = labels[pairs[:, 0]] == labels[pairs[:, 1]]
    every = {(a, b) for a, b in itertools.combinations(range(8), 2) if labels[a] == labels[b]}
    assert {(a, b) for a, b, same, _ in pairs.tolist() if same} == every
    assert np.array_equal(is_same, pairs[:, 2] == 1) and (pairs[:, 0] < pairs[:, 1]).all()
    assert len(pairs) == 10 == len({(a, b) for a, b, *_ in pairs.tolist()})
    assert pairs.dtype == np.int32 and np.array_equal(pairs, make_pairs(labels, seed=0))
    assert not np.array_equal(pairs, make_pairs(labels, seed=1))
    # NumPy's own draws must not change, or runs would no longer compare.
    assert make_pairs(np.arange(6) // 2, 0)[:, :2].tolist() == GOLDEN


GOLDEN = [[4, 5], [1, 4], [2, 3], [3, 5], [0, 1], [1, 2]]


def test_many_pairs_are_sampled_evenly():
    labels = np.repeat(np.arange(40), 50)
    pairs = make_pairs(labels, seed=5)
    assert (len(pairs), pairs[:, 2].sum()) == (6000, 3000)
    assert len({(a, b) for a, b, *_ in pairs.tolist()}) == 6000
    assert np.bincount(pairs[:, 3] * 2 + pairs[:, 2]).tolist() == [300] * 20
    assert np.array_equal(labels[pairs[:, 0]] == labels[pairs[:, 1]], pairs[:, 2] == 1)
    for same in (0, 1):  # every identity has its share: 75 same pairs, 150 places in different ones
        shown = np.bincount(labels[pairs[pairs[:, 2] == same, :2].ravel()], minlength=40)
        assert (shown.min(), shown.max()) > (100, 100) and shown.max() < 200
    assert len(make_pairs(np.repeat(np.arange(20000), 30), seed=0)) == 6000  # of 1.8e11 pairs, at once
    few = make_pairs(labels, seed=5, most=10)
    assert (len(few), few[:, 2].sum(), sorted(few[few[:, 2] == 1, 3])) == (10, 5, [0, 1, 2, 3, 4])
    for empty in ([], [0], [0, 0, 0], [0, 1, 2]):
        assert make_pairs(np.array(empty, np.int32), 0).shape == (0, 4)
    assert make_pairs(np.array([0] * 20 + [1]), 0)[:, 2].mean() == 0.5  # balanced, though same pairs abound


def test_digits_make_an_open_test():
    source = read_faces("digits")
    train, test = source.splits["train"], source.splits["test"]
    assert list(source.splits) == ["train", "test"]
    assert {name[0] for name in source.labels.names} == set("0123456")  # 7, 8 and 9 are never trained on
    assert np.bincount(test.annotations["label"]).tolist() == [0] * len(source.labels) + [179, 174, 180]
    counts = dict(zip(source.labels.names, np.bincount(train.annotations["label"]).tolist()))
    assert [counts[digit] for digit in "0123456"] == [178, 182, 177, 183, 181, 182, 181]
    assert len(counts) == 7 + 4 * 7 and all(count == counts[name[0]] for name, count in counts.items())
    pixels = {id: np.asarray(Image.open(io.BytesIO(png))) for id, png in zip(train.ids, train.encoded)}
    plain = pixels["digits/2/0002.png"]  # a 2
    assert np.array_equal(pixels["digits/2 turned-90/0002.png#turned-90"], np.rot90(plain))
    assert np.array_equal(pixels["digits/2 mirrored-turned-180/0002.png#mirrored-turned-180"], plain[::-1])
    assert test.ids[0] == "digits/7/0007.png" and len(test.pairs) == 6000
    closed = read_faces("digits", closed=True, val_share=0.0)
    assert len(closed.labels) == 10 and abs(len(closed.splits["test"]) - 898) <= 10


def prepared(root, name, features, splits):
    """A prepared data set as TFDS lays it out, one file a split."""
    folder = root / name / "1.0.0"
    folder.mkdir(parents=True)
    features, infos = tfds.features.FeaturesDict(features), []
    adapter = tfds.core.file_adapters.ADAPTER_FOR_FORMAT[tfds.core.FileFormat.TFRECORD]
    for split, labels in splits.items():
        template = tfds.core.ShardedFileTemplate(
            dataset_name=name, split=split, filetype_suffix="tfrecord", data_dir=folder
        )
        image = RANDOM.integers(0, 256, (len(labels), 5, 4, 3), dtype=np.uint8)
        made = [features.encode_example({"image": one, "label": label}) for one, label in zip(image, labels)]
        rows = [(place, features.serialize_example(example)) for place, example in enumerate(made)]
        adapter.write_examples(template.sharded_filepath(shard_index=0, num_shards=1), iter(rows))
        infos.append(tfds.core.SplitInfo(split, [len(labels)], 1000, template))
    tfds.folder_dataset.write_metadata(data_dir=folder, features=features, split_infos=infos, check_data=False)
    return str(root)


def test_tfds_with_names_or_classes(tmp_path):
    image = tfds.features.Image(shape=(5, 4, 3))
    names = [f"Ren\u00e9_{number % 10}" for number in range(30)]
    root = prepared(tmp_path, "like_lfw", {"label": tfds.features.Text(), "image": image}, {"train": names})
    source = read_faces("tfds:like_lfw", data_dir=root, test_share=0.3, val_share=0.0)
    train, test = source.splits["train"], source.splits["test"]
    assert (len(source.labels), len(train), len(test)) == (7, 21, 9)
    for split in (train, test):
        of = {names[int(id.rpartition("/")[2])] for id in split.ids}
        assert len(of) == len(set(split.annotations["label"].tolist()))
    assert [names[int(id.rpartition("/")[2])] for id in train.ids] == [
        source.labels.names[label] for label in train.annotations["label"]
    ]
    assert train.read(0).startswith(b"\x89PNG")
    classes = tfds.features.ClassLabel(names=["x", "y", "z"])
    root = prepared(
        tmp_path, "like_cifar", {"label": classes, "image": image}, {"train": [0, 2, 0, 2], "test": [1, 2, 1]}
    )
    source = read_faces("tfds:like_cifar", data_dir=root)
    assert source.labels.names == ("x", "z")
    assert source.splits["test"].annotations["label"].tolist() == [2, 3, 2] and said(source, "namesakes")
    root = prepared(tmp_path, "no_label", {"label": np.int64, "image": image}, {"train": [1, 2]})
    with pytest.raises(DataError, match="a picture and a label, a ClassLabel or a Text"):
        read_faces("tfds:no_label", data_dir=root)


@pytest.mark.real_data
def test_orl_is_split_into_thirty_and_ten(data_root):
    where, tested = str(data_root / "orl_faces"), set()
    for seed in range(5):
        source = read_faces(where, val_share=0.0, test_share=0.25, split_seed=seed)
        who = people(source)
        assert (len(who["train"]), len(who["test"]), len(source.labels)) == (30, 10, 30)
        assert not set(who["train"]) & set(who["test"])
        test = source.splits["test"]
        assert (len(test), len(test.pairs), test.pairs[:, 2].sum()) == (100, 900, 450)  # 10 x 45 same pairs
        tested.add(tuple(who["test"]))
    assert len(tested) == 5
    closed = read_faces(where, val_share=0.0, closed=True)
    for split in closed.splits.values():
        assert np.bincount(split.annotations["label"]).tolist() == [5] * 40
    assert {id for split in closed.splits.values() for id in split.ids} == {
        f"s{person}/{number}.pgm" for person in range(1, 41) for number in range(1, 11)
    }


def test_a_list_that_names_anothers_picture_does_not_mean_ones_own(tmp_path):
    """boris/3.png is not there, and anna/3.png is the only 3.png: it is not Boris."""
    root = make(tmp_path / "faces", {"anna": 3, "boris": 2, "clara": 2})
    write(
        root / "pairs.csv",
        [HEAD, ["boris/3.png", "clara/1.png", 0], ["anna/1.png", "anna/2.png", 1]],
    )
    with pytest.raises(DataError, match=r"boris/3\.png"):
        read_faces(str(root))
    (root / "pairs.csv").unlink()
    write(root / "landmarks.csv", [["boris/3.png", *FACE], ["elsewhere/anna/1.png", *FACE], ["3.png", *FACE]])
    source = read_faces(str(root), val_share=0.0, test_share=0.0)
    split = source.splits["train"]
    known = np.isfinite(split.annotations["landmarks"]).all(axis=(1, 2))
    assert [split.ids[place] for place in np.flatnonzero(known)] == ["anna/1.png", "anna/3.png"]
    assert said(source, "names 1 files that are not there (boris/3.png)")


def test_lists_of_a_neighbour_are_not_used_and_that_is_said(tmp_path):
    root = make(tmp_path / "mine", {"a": 2, "b": 2, "c": 2})
    write(tmp_path / "landmarks.csv", [["other/a/9.png", *FACE]])
    write(tmp_path / "pairs.csv", [["first", "second", "same"], ["other/x/1.png", "other/y/1.png", 0]])
    source = read_faces(str(root))
    assert len(said(source, "names none of its pictures, and is not used")) == 2
    assert "landmarks" not in source.splits["train"].annotations
    write(root / "landmarks.csv", [["other/a/9.png", *FACE]])
    with pytest.raises(DataError, match=r"none of the 1 files .* put the names right"):
        read_faces(str(root))


def test_lists_in_split_folders_are_named(tmp_path):
    root = make(tmp_path / "faces", {"train/a": 2, "train/b": 2, "test/c": 2, "test/d": 2})
    write(root / "test" / "pairs.csv", [["first", "second", "same"], ["c/1.png", "c/2.png", 1]])
    assert said(read_faces(str(root)), "not used, for lists are read from") == [
        f"not used, for lists are read from {root} alone, with names that start there: test/pairs.csv"
    ]


@pytest.mark.parametrize("same", [0, 1])
def test_pairs_of_one_kind_alone_are_refused_before_training(tmp_path, same):
    root = make(tmp_path / "faces", {"a": 3, "b": 3, "c": 3, "d": 3})
    row = ["c/1.png", "c/2.png", 1] if same else ["c/1.png", "d/2.png", 0]
    write(root / "pairs.csv", [["first", "second", "same"], row])
    with pytest.raises(DataError, match=f"1 pairs of test are all {'the same' if same else 'different'}"):
        read_faces(str(root), val_share=0.0)
    findings = check_faces(str(root), val_share=0.0).findings
    assert any(finding.level == "error" and "nothing can be measured" in finding.what for finding in findings)


def test_a_broken_first_row_of_landmarks_is_no_header(tmp_path):
    root = make(tmp_path / "faces", {"a": 2, "b": 2})
    write(root / "landmarks.csv", [["a/1.png", *FACE[:9]], ["a/2.png", *FACE]])
    with pytest.raises(DataError, match="line 1: a file and ten numbers expected"):
        read_faces(str(root))


def test_landmarks_of_single_pictures(tmp_path):
    """Of the list in their folder, or else the nearest above that names them; a bare name is no other folder's."""
    root = make(tmp_path / "faces", {"a": 2, "b": 2, "c": 2, "train/d/deep": 1, "train/e": 1})
    rows = [["a/1.png", *FACE], ["2.png", *FACE], ["b/1.png", *["nan"] * 10], ["train\\d/deep/1.png", *FACE]]
    write(root / "landmarks.csv", [*rows, ["c/2.png", *FACE]])
    write(root / "c" / "landmarks.csv", [["1.png", *np.add(FACE, 1)]])
    write(tmp_path / "landmarks.csv", [["train/e/1.png", *np.add(FACE, 2)], [str(root / "b/2.png"), *FACE]])
    nearby = face_landmarks.Nearby()
    names = ("a/1.png", "c/2.png", "train/d/deep/1.png", "b/2.png")
    for name in names:
        np.testing.assert_array_equal(nearby.find(root / name), np.reshape(FACE, (5, 2)), err_msg=name)
    assert nearby.find(root / "a/2.png") is nearby.find(root / "b/1.png") is None
    np.testing.assert_array_equal(nearby.find(root / "c/1.png"), np.reshape(FACE, (5, 2)) + 1)
    np.testing.assert_array_equal(nearby.find(root / "train/e/1.png"), np.reshape(FACE, (5, 2)) + 2)
    write(root / "landmarks.csv", [["a/1.png", *FACE], ["./a/1.png", *FACE]])
    with pytest.raises(DataError, match="line 2: a/1.png has landmarks in a line before"):
        face_landmarks.Nearby().find(root / "a/1.png")


def test_names_that_are_no_text_are_left_out_and_said(tmp_path):
    root = make(tmp_path / "faces", {f"{number}": 20 for number in range(10)})
    os.rename(root / "0" / "1.png", os.fsencode(root / "0") + b"/caf\xe9.png")
    source = read_faces(str(root))
    assert [(problem.file, problem.what) for problem in source.problems] == [
        ("0/caf\\udce9.png", "its name is not in UTF-8; rename it")
    ]
    assert sum(len(split) for split in source.splits.values()) == 199
    os.rename(root / "0", os.fsencode(root) + b"/caf\xe9")
    with pytest.raises(DataError, match=r"caf.udce9"):
        read_faces(str(root))
