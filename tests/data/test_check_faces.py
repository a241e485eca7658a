"""The doctor of identities on a folder with one of every illness."""

import csv
import hashlib
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from resnet_tasks.data.check import check_faces
from resnet_tasks.data.readers.faces import read_faces
from resnet_tasks.errors import DataError

RANDOM = np.random.default_rng(0)
FACE = np.array([[38, 52], [74, 52], [56, 72], [42, 92], [71, 92]], float)


def picture(height=112, width=112):
    """Smooth like a photograph, and like no other."""
    coarse = RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def people(root, counts, **size):
    for name, count in counts.items():
        for number in range(1, count + 1):
            save(picture(**size), root / name / f"{number}.png")
    return root


def write(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def state(root):
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).digest()) for path in files}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = people(tmp_path_factory.mktemp("ill"), {f"p{number}": 3 for number in range(12)} | {"q": 4, "r": 4})
    save(picture(), root / "lonely" / "1.png")
    save(picture(20, 24), root / "p0" / "tiny.png")
    shutil.copy(root / "q/1.png", root / "r/same.png")
    stream = io.BytesIO()
    Image.open(root / "q/2.png").resize((100, 100)).save(stream, "JPEG", quality=80)
    (root / "r" / "nearly.jpg").write_bytes(stream.getvalue())
    shutil.copy(root / "r/3.png", root / "r/twice.png")
    (root / "nobody").mkdir()
    (root / "q" / "bad.png").write_bytes(b"words")
    rows = [["first", "second", "same"], ["q/1.png", "q/2.png", 1], ["q/1.png", "r/1.png", 1]]
    write(root / "pairs.csv", [*rows, ["q/1.png", "r/2.png", 0], ["q/3.png", "gone.png", 0]])
    before = state(root)
    report = check_faces(str(root), val_share=0.0)
    assert state(root) == before  # not a byte, not a date
    return report


@pytest.mark.parametrize(
    ("level", "what", "files"),
    [
        ("error", "identity folders without a picture: 1", ["nobody"]),
        ("error", "names 1 times a picture that is not there", ["gone.png (pairs.csv, row 5)"]),
        ("error", "1 of 43 pictures cannot be read (2.3%)", ["q/bad.png"]),
        ("error", "pairs of test that their folders contradict: 1", ["q/1.png, r/1.png: same"]),
        ("note", "identities of train with one picture: 1 of 13", ["lonely"]),
        ("warning", "seem not to be aligned: there are no landmarks, and they are of", []),
        ("warning", "tiny: 1 of", ["p0/tiny.png (20x24)"]),
        ("note", "those of pairs.csv: 2 same, 1 different", []),
        ("note", "there is no split 'val'", []),
    ],
)
def test_each_illness_is_found(report, level, what, files):
    (finding,) = [finding for finding in report.findings if what in finding.what]
    assert finding.level == level
    assert len(finding.files) == len(files)
    for file, named in zip(files, finding.files):
        assert file in named


def test_the_report_as_text_json_and_a_page(report):
    assert report.errors and report.counts["test"]["q"] == 2 and report.counts["train"]["p0"] == 4
    assert report.histogram.bins["2 to 4"] == {"train": 12, "test": 2}
    assert "error: identity folders without a picture" in report.text()
    assert json.loads(json.dumps(report.to_json()))["errors"] is True
    assert "alignment turns, scales and shifts" in report.html()


def test_one_picture_under_two_names(tmp_path):
    root = people(tmp_path, {"a": 3, "b": 3, "c": 3})
    shutil.copy(root / "a/1.png", root / "b/same.png")
    shutil.copy(root / "c/1.png", root / "c/twice.png")
    with Image.open(root / "a/2.png") as image:
        image.resize((100, 100)).save(root / "b/nearly.jpg", quality=80)
    findings = {finding.what: finding for finding in check_faces(str(root), val_share=0.0, test_share=0.0).findings}
    torn = findings["the same picture is under different identities: 1 times"]
    assert (torn.level, torn.files) == ("error", ("a/1.png (train, a) = b/same.png (train, b)",))
    near = findings["nearly the same picture is under different identities: 1 times"]
    assert (near.level, near.files) == ("warning", ("a/2.png (train, a) = b/nearly.jpg (train, b)",))
    twice = findings["the same picture stands twice under one identity: 1 times"]
    assert (twice.level, twice.files) == ("warning", ("c/1.png (train, c) = c/twice.png (train, c)",))


def test_landmarks_that_are_no_faces(tmp_path):
    root = people(tmp_path, {"a": 5, "b": 5})
    swapped = FACE[[1, 0, 2, 4, 3]]
    turned = 111 - FACE  # a face on its head, left and right as they should be
    rows = [
        ["a/1.png", *swapped.ravel()],
        ["a/2.png", *turned.ravel()],
        ["a/3.png", *(FACE + np.array([45, 0])).ravel()],
    ]
    rows += [["a/4.png", *[50] * 10], *([f"b/{n}.png", *FACE.ravel()] for n in range(1, 6))]
    write(root / "landmarks.csv", rows)
    report = check_faces(str(root), val_share=0.0, test_share=0.0)
    found = {finding.what.rpartition(":")[0]: finding for finding in report.findings if finding.files}
    assert {what: (finding.level, finding.files) for what, finding in found.items()} == {
        "landmarks all in one place, by which nothing is aligned": ("error", ("a/4.png",)),
        "left and right are swapped: the first eye is the one on the viewer's left": ("warning", ("a/1.png",)),
        "the mouth is above the eyes": ("warning", ("a/2.png",)),
        "landmarks outside of their picture": ("warning", ("a/3.png",)),
    }
    assert not any("seem not to be aligned" in finding.what for finding in report.findings)


def test_landmarks_in_another_order_are_an_error(tmp_path):
    """x of all points before y of all, without a header that would say so; of few pictures it is a warning."""
    root = people(tmp_path, {"a": 3, "b": 3})
    files = [f"{name}/{n}.png" for name in "ab" for n in (1, 2, 3)]
    for wrong, level in ((6, "error"), (1, "warning")):
        rows = [[file, *(FACE.T if place < wrong else FACE).ravel()] for place, file in enumerate(files)]
        write(root / "landmarks.csv", rows)
        findings = check_faces(str(root), val_share=0.0, test_share=0.0).findings
        (found,) = [finding for finding in findings if "lie as no frontal face's do" in finding.what]
        assert (found.level, found.files) == (level, tuple(files[:wrong]))
        assert not any("swapped" in finding.what for finding in findings)


def test_a_pair_of_one_picture_is_a_warning(tmp_path):
    root = people(tmp_path, {"a": 3, "b": 3, "c": 3, "d": 3})
    rows = [["first", "second", "same"], ["a/1.png", "a/1.png", 1], ["a/1.png", "b/1.png", 0]]
    write(root / "pairs.csv", rows)
    report = check_faces(str(root), val_share=0.0)
    (finding,) = [finding for finding in report.findings if "with itself" in finding.what]
    assert (finding.level, finding.files) == ("warning", ("a/1.png, a/1.png: same",))
    assert not report.errors


def test_sound_crops_have_notes_only(tmp_path):
    root = people(tmp_path, {f"{number}": 3 for number in range(20)})
    report = check_faces(str(root))
    assert {finding.level for finding in report.findings} == {"note"}
    assert any(
        "all pictures are 112x112: they are taken for aligned crops" in finding.what for finding in report.findings
    )
    (root / "0" / "1.png").unlink()
    assert not check_faces(str(root)).errors


def test_a_single_identity_is_an_error_of_the_report_too(tmp_path):
    root = people(tmp_path, {"a": 3})
    assert any("1 identities; two or more" in finding.what for finding in check_faces(str(root)).findings)
    with pytest.raises(DataError):
        read_faces(str(root))


@pytest.mark.real_data
def test_orl_is_sound_but_not_aligned(data_root):
    report = check_faces(str(data_root / "orl_faces"), val_share=0.0, test_share=0.25)
    (finding,) = [finding for finding in report.findings if finding.level != "note"]
    assert "seem not to be aligned" in finding.what and "112x92" in finding.what
    assert sum(report.counts["train"].values()) == 300 and report.histogram.bins["10 to 19"] == {
        "train": 30,
        "test": 10,
    }
