"""The data doctor on a folder with one of every illness."""

import hashlib
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from resnet_tasks.data import duplicates
from resnet_tasks.data.check import check_classification

RANDOM = np.random.default_rng(0)


def picture(height=48, width=64):
    """Smooth like a photograph, and like no other."""
    coarse = RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


@pytest.fixture(scope="module")
def ill(tmp_path_factory):
    root = tmp_path_factory.mktemp("ill")
    for split, count in (("train", 24), ("val", 6), ("test", 6)):
        for name in ("cat", "dog"):
            for number in range(count):
                save(picture(), root / split / name / f"{number}.png")
    shutil.copy(root / "train/cat/0.png", root / "test/cat/same.png")  # leaked, byte for byte
    save(Image.open(root / "train/cat/1.png"), root / "test/cat/saved_again.bmp")  # leaked, as another file
    shutil.copy(root / "train/cat/2.png", root / "train/dog/two_classes.png")
    shutil.copy(root / "train/dog/3.png", root / "train/dog/twice.png")
    with Image.open(root / "train/dog/4.png") as image:
        small = ImageEnhance.Brightness(image.resize((40, 30))).enhance(1.02)
        save(small, root / "val/dog/nearly.jpg")
    save(picture(4, 4), root / "train/dog/tiny.png")
    save(picture(40, 400), root / "train/dog/strip.png")
    save(picture(), root / "train/bird/only.png")
    whole = (root / "train/cat/5.png").read_bytes()
    (root / "train/cat/cut.png").write_bytes(whole[: len(whole) // 2])
    stream = io.BytesIO()
    picture().save(stream, "PNG")
    data = bytearray(stream.getvalue())
    data[len(data) // 2] ^= 0xFF  # damage in the middle, which only decoding finds
    (root / "train/cat/damaged.png").write_bytes(data)
    return root


@pytest.fixture(scope="module")
def report(ill):
    before = fingerprint(ill)
    report = check_classification(str(ill))
    assert fingerprint(ill) == before  # not a byte, not a date
    return report


def fingerprint(root):
    return {
        str(path): (path.stat().st_mtime_ns, path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(root.rglob("*"))
    }


@pytest.mark.parametrize(
    ("level", "what", "files"),
    [
        ("error", "2 of 82 pictures cannot be read (2.4%)", ["train/cat/cut.png", "train/cat/damaged.png"]),
        ("error", "train and in another split, where its score says nothing: 2 times", ["cat/0.png", "again.bmp"]),
        ("warning", "the same picture has different classes: 1 times", ["train/dog/two_classes.png (train, dog)"]),
        ("warning", "the same picture stands twice in one split: 2 times", ["twice.png", "two_classes.png"]),
        ("warning", "is in different splits: 1 times", ["dog/4.png (train, dog) = val/dog/nearly.jpg (val, dog)"]),
        ("warning", "smaller than a 4th of the median: 1", ["tiny.png (4x4)"]),
        ("warning", "more than 4 times as long as wide: 1", ["strip.png (40x400)"]),
        ("warning", "no picture in val of 1 of the classes: bird", []),
        ("warning", "no picture in test of 1 of the classes: bird", []),
        ("warning", "fewer than 10 pictures in train of 1 of the classes: bird (1)", []),
        ("warning", "out of balance: dog has 28 pictures, bird 1", []),
        ("note", "from 4x4 to 40x400", []),
    ],
)
def test_each_illness_is_found(report, level, what, files):
    (finding,) = [finding for finding in report.findings if what in finding.what]
    assert finding.level == level
    for file in files:
        assert any(file in named for named in finding.files)


def test_the_report_as_text_json_and_a_page(report):
    assert report.errors
    assert report.counts["train"] == {"bird": 1, "cat": 25, "dog": 28}  # damaged.png is readable by its ends
    text = report.text()
    assert "error: the same picture is in train and in another split" in text
    assert re.search(r"dog\s+28\s+7\s+6", text)
    assert json.loads(json.dumps(report.to_json()))["findings"][0]["level"] == "error"
    page = report.html()
    assert not re.search(r'(src|href)="(?!data:)', page)  # opens offline
    assert page.count("data:image/png;base64,") >= 8
    assert "&lt;" not in report.where


def test_names_cannot_break_the_page(tmp_path):
    for name in ("<b>a", "c"):
        for number in range(3):
            save(picture(), tmp_path / name / f"{number}.png")
    shutil.copy(tmp_path / "<b>a" / "0.png", tmp_path / "<b>a" / "1.png")
    page = check_classification(str(tmp_path)).html()
    assert "<figcaption>" in page
    assert "<b>a" not in page
    assert "&lt;b&gt;a" in page


def test_healthy_data_have_no_errors(tmp_path):
    for name in ("cat", "dog"):
        for number in range(20):
            save(picture(), tmp_path / name / f"{number}.png")
    report = check_classification(str(tmp_path))
    assert not report.errors
    assert {finding.level for finding in report.findings} == {"note"}


def test_near_duplicates_survive_another_file_and_strangers_do_not():
    originals = [picture(60, 80) for _ in range(200)]
    changed = []
    for image in originals[:50]:
        stream = io.BytesIO()
        ImageEnhance.Brightness(image.resize((72, 54))).enhance(1.03).save(stream, "JPEG", quality=60)
        changed.append(Image.open(stream).convert("RGB"))
    prints = [duplicates.take_print(np.asarray(image)) for image in originals + changed]
    assert duplicates.exact(prints) == []
    assert sorted(duplicates.near(prints)) == [[place, 200 + place] for place in range(50)]


def test_hashes_are_compared_as_one_by_one_would():
    """The search by bands finds every pair at most 7 bits apart; 4,000 hashes around 40 centres make thousands."""
    centres = RANDOM.integers(0, 1 << 63, 40, dtype=np.uint64)
    flips = np.bitwise_or.reduce(np.uint64(1) << RANDOM.integers(0, 64, (100, 40, 5), dtype=np.uint64), axis=-1)
    bits = np.unique(centres ^ flips)
    apart = np.array([[(int(one) ^ int(other)).bit_count() for other in bits[:1000]] for one in bits[:1000]])
    expected = {(one, other) for one, other in np.argwhere(apart <= duplicates.NEAR_BITS).tolist() if one < other}
    pairs = duplicates._alike(bits[:1000])
    found = {pair for left, right in pairs for pair in zip(left.tolist(), right.tolist(), strict=True)}
    assert len(expected) > 1000
    assert found == expected


def test_many_blank_pages_are_one_group():
    blank = duplicates.take_print(np.full((20, 20, 3), 255, np.uint8))
    pages = [duplicates.Print(bytes([n // 256, n % 256]), blank.bits, blank.miniature, (20, 20)) for n in range(20000)]
    (group,) = duplicates.near(pages)
    assert len(group) == 20000
