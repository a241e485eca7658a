"""The data doctor on masks: a source with one of every illness, and pairs that EXIF turns on one side only."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from resnet_tasks.data.check_mask_pairs import kind_of, pair_findings
from resnet_tasks.data.check_masks import check_segmentation, report_of
from resnet_tasks.data.check_report import Finding, Report
from resnet_tasks.data.drawing import class_colors
from resnet_tasks.data.drawing_masks import overlay
from resnet_tasks.data.examples import LabelMap, Pairs, Problem, Source, Split
from resnet_tasks.data.masks import IGNORE, Masks, grey_png, read_grey
from resnet_tasks.data.readers.pairs_of_masks import DOUBT

RANDOM = np.random.default_rng(0)
NAMES = ("sky", "road", "pole", "ghost")
SKY, ROAD, POLE = range(3)
HEIGHT, WIDTH = 60, 80


def picture(height=HEIGHT, width=WIDTH) -> Image.Image:
    """Smooth like a photograph, and like no other."""
    coarse = RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def saved(path, orientation=1, **size) -> str:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture(**size).save(path, exif=exif, quality=90) if path.suffix == ".jpg" else picture(**size).save(path)
    return str(path)


def usual(height=HEIGHT, width=WIDTH) -> np.ndarray:
    """Half sky, half road, with a pole of 2 x 10 pixels and a void row."""
    mask = np.full((height, width), SKY, np.uint8)
    mask[height // 2 :] = ROAD
    mask[10:20, 40:42] = POLE
    mask[-1] = IGNORE
    return mask


def split_of(name, folder, masks, files) -> Split:
    """A split of pictures with `masks`; `files` names each and its EXIF orientation."""
    counts = [np.bincount(mask.ravel(), minlength=256) for mask in masks]
    pixels = np.array([[*count[: len(NAMES)], count[IGNORE]] for count in counts])
    paths = []
    for (file, orientation), mask in zip(files, masks, strict=True):
        height, width = mask.shape if orientation < 5 else mask.shape[::-1]
        paths.append(saved(folder / file, orientation, height=height, width=width))
    ids = tuple(file for file, _ in files)
    return Split(
        name,
        ids,
        paths=tuple(paths),
        annotations={"pixels": pixels, "present": pixels[:, :-1] > 0},
        masks=Masks(tuple(map(grey_png, masks)), read_grey, ids, plain=True),
    )


@pytest.fixture(scope="module")
def ill(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    train, files = [usual() for _ in range(12)], [(f"train{number:02d}.png", 1) for number in range(12)]
    train[1] = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
    train[2] = np.full((HEIGHT, WIDTH), IGNORE, np.uint8)
    files[4], files[5] = ("train04.jpg", 6), ("train05.jpg", 3)
    train[8] = usual(15, 12)
    val = [np.where(usual() == POLE, SKY, usual()).astype(np.uint8) for _ in range(3)]
    val[2] = np.flipud(val[2])
    splits = {
        "train": split_of("train", folder, train, files),
        "val": split_of("val", folder, val, [(f"val{number:02d}.png", 1) for number in range(3)]),
    }
    (folder / "val02.png").write_bytes((folder / "train07.png").read_bytes())  # leaked, with another mask
    whole = (folder / "train09.png").read_bytes()
    (folder / "train09.png").write_bytes(whole[: len(whole) // 2])
    dropped = [
        ("t003.png", "size: the mask is 65 wide and 48 high, the picture 131 and 97"),
        ("t004.jpg", "size: the mask is 80 wide and 60 high, the picture 60 and 80; it fits the picture as it lies in "
         "the file, before EXIF turns it upright: save both upright, without an EXIF orientation"),
        ("t009.png", "ids: t009_mask.png holds value 9 without a class (961 pixels)"),
        ("t014.png", "jpeg: t014.jpg is saved as JPEG, which blurs ids into others; save it as PNG"),
        ("t017.png", "no mask: none was found for this picture"),
        ("t020.png", "no picture: none was found for the mask t020.png"),
        ("t021.png", "unreadable: t021.png: broken data stream"),
        ("t022.png", "no mask: none was found for this picture"),
    ]  # fmt: skip
    return Source(
        where="hand",
        format="masks",
        labels=LabelMap(NAMES, (0, 1, 2, 7)),
        splits=splits,
        problems=(Problem("bad.png", "no picture"),),
        notes=(
            "15 pictures",
            "pairs that cannot be used and are left out: 8 (2 no mask, ...): t003.png: " + dropped[0][1],
        ),
        pairs=Pairs(total=100, dropped=tuple(Problem(*row) for row in dropped)),
    )


@pytest.fixture(scope="module")
def report(ill):
    return report_of(ill, (24, 24))


@pytest.mark.parametrize(
    ("level", "what", "files"),
    [
        ("error", "8 of 100 pairs of a picture and a mask cannot be used (8.0%); training stops above 5%", []),
        ("error", "no mask: a picture without a mask of its name: 2 of 100 pairs", ["t017.png", "t022.png"]),
        ("error", "no picture: a mask without a picture", ["t020.png: no picture"]),
        ("error", "size: mask and picture differ in size: 1 of", ["t003.png: size: the mask is 65 wide"]),
        ("error", "EXIF on one side only: the mask has the size of the picture as it lies", ["t004.jpg: size"]),
        ("error", "ids: the mask holds values without a class", ["t009.png: ids: t009_mask.png holds value 9"]),
        ("error", "jpeg: the mask is saved as JPEG", ["t014.png"]),
        ("error", "unreadable: the mask cannot be read: 1 of", ["t021.png: unreadable: t021.png: broken data stream"]),
        ("error", "2 of 16 pictures cannot be read", ["bad.png: no picture", "train09.png"]),
        ("note", "turns on their side, with masks of the upright size: 1", ["train04.jpg: orientation 6, 80 wide"]),
        ("warning", "EXIF turns and that keep their size: 1;", ["train05.jpg: orientation 3, 80 wide and 60 high"]),
        ("warning", "for want of a picture in any split, of 1 of the classes: ghost", []),
        ("warning", "no picture in val of 1 of the classes: pole", []),
        ("note", "less than 1% of train's pixels: 1; cross-entropy", ["pole: 0.38%"]),
        ("note", "masks of a single class in train: 1 of 12", ["train01.png: road"]),
        ("warning", "masks that are all void, and teach and measure nothing: 1", ["train02.png (train)"]),
        ("note", "of the pixels: train 10.4%, val 1.7%", []),
        ("note", "on a canvas of 24x24 the pictures lie at 0.30 of their size in the median, and what is thinner", []),
        ("warning", "smaller than a 4th of the median: 1", ["train08.png (15x12)"]),
        (
            "error",
            "the same picture is in train and in another split",
            ["train07.png (train, 3 classes) = val02.png (val, 2 classes)"],
        ),
        ("warning", "the same picture has different masks: 1 times", ["val02.png (val, 2 classes)"]),
        ("note", "15 pictures", []),
    ],
)
def test_each_illness_is_found(report, level, what, files):
    found = [finding for finding in report.findings if what in finding.what]
    (finding,) = found
    assert finding.level == level
    for file in files:
        assert any(file in named for named in finding.files)


def test_the_report_counts_pixels_and_pictures(report):
    """Nine of the masks of 60 x 80 are usual: 30 rows of sky less 20 pixels of pole, 29 of road, one of void."""
    sky, road, pole = 30 * 80 - 20, 29 * 80, 20
    small = np.bincount(usual(15, 12).ravel(), minlength=256)
    assert report.counts["train"] == {
        "sky": 9 * sky + small[SKY],
        "road": 9 * road + 4800 + small[ROAD],
        "pole": 9 * pole + small[POLE],
        "ghost": 0,
    }
    assert report.counts["val"] == {"sky": 3 * 2400, "road": 3 * road, "pole": 0, "ghost": 0}
    assert report.present["train"] == {"sky": 10, "road": 11, "pole": 9, "ghost": 0}
    void = 9 * 80 + 4800 + 12
    assert report.pictures["train"] == {"pictures": 12, "of one class": 1, "all void": 1, "void pixels": void}
    told = json.loads(json.dumps(report.to_json()))
    assert told["counts"] == report.counts
    assert told["pictures_with"]["val"] == {"sky": 3, "road": 3, "pole": 0, "ghost": 0}
    assert told["source_ids"]["ghost"] == 7
    assert told["pictures"]["val"]["void pixels"] == 240
    assert report.errors


def test_the_text_tells_shares(report):
    text = report.text()
    counted = report.counts["train"]
    sky = f"{counted['sky'] / sum(counted.values()):.2%}"
    assert re.search(rf"^sky +0 +{sky} +10 +50\.85% +3$", text, re.M)  # 2400 of 4720
    assert re.search(rf"^all +{sum(counted.values())} +12 +14160 +3$", text, re.M)
    assert re.search(r"^void +10\.44% +1\.67%$", text, re.M)  # 5532 of 52,980 pixels; a row of 60
    assert re.search(r"^all void +1 +0$", text, re.M)
    assert f"pixels: {sum(counted.values()) + 14160}, pictures: 15, errors:" in text
    assert text.count("t003.png") == 1  # not once more as a note of the reader


def test_the_page_shows_masks_over_pictures(report, ill):
    page = report.html()
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert page.count("data:image/jpeg") == len(report.drawn) == 14
    captions = [caption for caption, _ in report.drawn]
    turned = [caption for caption in captions[:2] if caption.startswith("train04.jpg")]
    assert turned == ["train04.jpg (train: sky 50 %, road 48 %, void 2 %, pole 0 %)"]
    assert any(caption.startswith("train05.jpg") for caption in captions[:2])
    assert captions[-1] == "train02.png (train: void 100 %)"
    assert "Pictures with their masks" in page
    assert page.count('class="swatch"') == 2 * len(NAMES)
    assert f"background:rgb{class_colors(1)[0]}" in page
    place = captions.index(next(caption for caption in captions if caption.startswith("train00.png")))
    image = Image.open(ill.splits["train"].paths[0]).resize((400, 300), Image.Resampling.NEAREST)  # 400 / 80 = 5
    mask = np.kron(usual(), np.ones((5, 5), np.uint8))
    np.testing.assert_array_equal(np.asarray(report.drawn[place][1]), overlay(image, mask, class_colors(4)))


def test_endless_lines_are_cut_in_the_text_alone():
    files = (" = ".join(f"frame{number:04d}.png" for number in range(100)), "short.png")
    told = Report("", "masks", {"train": {"sky": 1}}, (Finding("note", "alike: 2 times", files),))
    line = next(line for line in told.text().splitlines() if "frame0000" in line)
    assert line.endswith(f" ... ({len(files[0]) - 600} characters more)") and "frame0099" not in line
    assert "short.png" in told.text()
    assert told.to_json()["findings"][0]["files"] == list(files)


def test_few_broken_pairs_are_a_warning(ill):
    pairs = Pairs(total=100, dropped=ill.pairs.dropped[:5])
    found = list(pair_findings(Source("", "", ill.labels, {}, pairs=pairs)))
    assert {finding.level for finding in found} == {"warning"}
    assert [kind_of(problem) for problem in pairs.dropped] == [
        "size",
        "EXIF on one side only",
        "ids",
        "jpeg",
        "no mask",
    ]
    assert not list(pair_findings(Source("", "", ill.labels, {}, pairs=Pairs(total=9))))
    assert not list(pair_findings(Source("", "", ill.labels, {})))


def test_most_masks_of_one_class_and_most_pixels_void_are_warnings(tmp_path):
    masks = [np.full((20, 30), SKY, np.uint8) for _ in range(5)]
    for mask in masks[:3]:
        mask[:18] = IGNORE
    masks[4][:5] = ROAD
    split = split_of("train", tmp_path, masks, [(f"{number}.png", 1) for number in range(5)])
    found = {
        finding.what: finding
        for finding in report_of(Source("", "", LabelMap(NAMES), {"train": split}), (32, 32)).findings
    }
    (plain,) = [finding for what, finding in found.items() if "single class in train: 4 of 5" in what]
    (void,) = [finding for what, finding in found.items() if "train 54.0%" in what]  # 3 * 18 of 5 * 20 rows
    assert plain.level == void.level == "warning"


def test_nothing_that_could_be_used_is_an_error_not_a_crash():
    pairs = Pairs(total=1, dropped=(Problem("a.png", "jpeg: a.jpg is saved as JPEG"),))
    report = report_of(Source("nothing", "masks", LabelMap(NAMES), {}, pairs=pairs), (32, 32))
    assert "no picture with a mask that could be used" in report.text()
    assert "a.png: jpeg" in report.html()
    assert report.errors and report.to_json()["counts"] == {}


def test_what_training_refuses_is_an_error(tmp_path):
    void = [np.full((20, 30), IGNORE, np.uint8) for _ in range(2)]
    split = split_of("train", tmp_path, void, [("a.png", 1), ("b.png", 1)])
    report = report_of(Source("", "", LabelMap(NAMES), {"train": split}), (32, 32))
    assert "all masks are void, no pixel is of a class" in [
        each.what for each in report.findings if each.level == "error"
    ]
    (tmp_path / "one" / "images").mkdir(parents=True)
    (tmp_path / "one" / "masks").mkdir()
    picture().save(tmp_path / "one" / "images" / "a.png")
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(tmp_path / "one" / "masks" / "a.png")
    report = check_segmentation(str(tmp_path / "one"))
    (finding,) = [each for each in report.findings if "one class only (0); a segmenter needs two" in each.what]
    assert finding.level == "error"


def test_where_the_reader_doubts_the_masks_is_a_warning(tmp_path):
    split = split_of("train", tmp_path, [usual()], [("a.png", 1)])
    notes = (f"train: {DOUBT}they are odd", "1 picture")
    found = report_of(Source("", "", LabelMap(NAMES), {"train": split}, notes=notes), (32, 32)).findings
    assert {each.what: each.level for each in found if each.what in notes} == {notes[0]: "warning", notes[1]: "note"}


@pytest.fixture
def folder(tmp_path):
    """CamVid's layout with an illness of each kind among 24 pairs."""
    for split, count in (("train", 24), ("val", 4)):
        for part in ("images", "masks"):
            (tmp_path / split / part).mkdir(parents=True)
        for number in range(count):
            stem, mask = (
                f"{split[0]}{number:03d}",
                Image.fromarray(np.where(usual() == IGNORE, 4, usual()).astype(np.uint8)),
            )
            if (split, number) == ("train", 5):  # drawn on the picture as it lies in the file
                mask = mask.transpose(Image.Transpose.ROTATE_90)
                saved(tmp_path / split / "images" / f"{stem}.jpg", 6, height=WIDTH, width=HEIGHT)
                Image.fromarray(np.asarray(mask)).save(tmp_path / split / "masks" / f"{stem}.png")
                continue
            if (split, number) != ("train", 20):
                saved(tmp_path / split / "images" / f"{stem}.png")
            if (split, number) == ("train", 3):
                mask = mask.resize((WIDTH // 2, HEIGHT // 2), Image.Resampling.NEAREST)
            if (split, number) == ("train", 9):
                mask.paste(9, (20, 20, 50, 50))
            if (split, number) == ("train", 14):
                mask.save(tmp_path / split / "masks" / f"{stem}.jpg", quality=60)
            elif (split, number) != ("train", 17):
                mask.save(tmp_path / split / "masks" / f"{stem}.png")
    (tmp_path / "classes.json").write_text(json.dumps({"names": NAMES[:3], "ignore_id": 4}))
    return tmp_path


def test_what_the_reader_leaves_out_is_named_and_nothing_is_changed(folder):
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    report = check_segmentation(str(folder))
    assert {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()} == before
    errors = {finding.what.split(":")[0]: finding.files for finding in report.findings if finding.level == "error"}
    kinds = {"size": 3, "EXIF on one side only": 5, "ids": 9, "jpeg": 14, "no mask": 17, "no picture": 20}
    for kind, number in kinds.items():
        (file,) = errors[kind]
        assert f"t{number:03d}" in file
    assert "6 of 28 pairs of a picture and a mask cannot be used (21.4%); training stops above 5%" in errors
    assert report.pictures["train"]["pictures"] == 18 and report.present["val"]["pole"] == 4
    assert report.counts["val"] == {"sky": 4 * 2380, "road": 4 * 2320, "pole": 80}


@pytest.mark.real_data
def test_camvid_has_no_errors(data_root):
    report = check_segmentation(str(data_root / "camvid"))
    assert not report.errors
    assert [kinds["pictures"] for kinds in report.pictures.values()] == [367, 101, 233]
    assert list(report.counts["train"])[:3] == ["sky", "building", "pole"]
    assert all(
        0.01 < kinds["void pixels"] / (kinds["pictures"] * 360 * 480) < 0.05 for kinds in report.pictures.values()
    )
