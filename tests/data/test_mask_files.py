"""One mask file to ids, and the classes that a folder of masks has."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_tasks.data.formats import Unreadable
from resnet_tasks.data.readers import mask_classes, mask_files, masks_voc
from resnet_tasks.data.readers.mask_files import Table
from resnet_tasks.data.readers.pairs_of_masks import DOUBT, JpegMask, UnknownIds
from resnet_tasks.errors import DataError

VALUES = np.array([[0, 1, 2, 2], [1, 7, 255, 0]], np.uint8)
IDS = [[0, 1, 2, 2], [1, 3, 255, 0]]
TABLE = Table({0: 0, 1: 1, 2: 2, 7: 3, 255: 255})
RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)
PALETTE = [*(9, 9, 9), *RED, *GREEN, *(0,) * 12, *BLUE]


def saved(path, array, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(array, np.uint8) if palette else np.asarray(array))
    if palette:
        image.putpalette(palette)
    image.save(path)
    return str(path)


@pytest.mark.parametrize(
    ("name", "array", "options"),
    [
        ("grey.png", VALUES, {}),
        ("grey.tif", VALUES, {}),
        ("grey.bmp", VALUES, {}),
        ("palette.png", VALUES, {"palette": PALETTE + [0] * 3 * 248}),
        ("palette.tif", VALUES, {"palette": PALETTE + [0] * 3 * 248}),
        ("of 16 bits.png", VALUES.astype(np.uint16), {}),
        ("grey as rgb.png", np.repeat(VALUES[..., None], 3, axis=2), {}),
        ("with alpha.png", np.dstack([VALUES, VALUES[::-1]]), {}),
    ],
)
def test_values_of_every_kind_of_file_are_the_same_ids(tmp_path, name, array, options):
    ids = TABLE.read(saved(tmp_path / name, array, **options))
    assert (ids.dtype, ids.tolist()) == (np.uint8, IDS)


def test_levels_of_few_bits_are_as_they_are_stored(tmp_path):
    levels = np.array([[0, 1, 2, 3], [3, 2, 1, 0]], np.uint8)
    palette = Image.fromarray(levels)
    palette.putpalette([0, 0, 0, 85, 85, 85, 170, 170, 170, 255, 255, 255])
    palette.save(tmp_path / "two.png", bits=2)
    data = bytearray((tmp_path / "two.png").read_bytes())
    assert (data[24], data[25]) == (2, 3)  # the same samples as grey: PNG's colour type 0, its checksum, no palette
    data[25] = 0
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    start = data.index(b"PLTE") - 4
    del data[start : start + 12 + int.from_bytes(data[start : start + 4], "big")]
    (tmp_path / "two.png").write_bytes(data)
    assert Table({level: level for level in range(4)}).read(str(tmp_path / "two.png")).tolist() == levels.tolist()
    bits = saved(tmp_path / "one.png", np.array([[True, False], [False, True]]))
    assert Table({0: 4, 1: 6}).read(bits).tolist() == [[6, 4], [4, 6]]
    assert Table({0: 4, 255: 6}).read(bits).tolist() == [[6, 4], [4, 6]]


def test_colours_by_a_table(tmp_path):
    table = Table({0: 0, 1: 1}, {0xC80000: 0, 0x00C800: 1, 0x0000C8: 255})
    seen = np.array([[RED, GREEN], [BLUE, RED]], np.uint8)
    assert table.read(saved(tmp_path / "rgb.png", seen)).tolist() == [[0, 1], [255, 0]]
    alpha = np.dstack([seen, np.array([[0, 255], [9, 9]], np.uint8)])
    assert table.read(saved(tmp_path / "rgba.png", alpha)).tolist() == [[0, 1], [255, 0]]
    # An indexed file that was saved for its colours: its indices say nothing.
    indexed = saved(tmp_path / "p.png", [[2, 1], [0, 2]], palette=[*BLUE, *GREEN, *RED])
    assert table.read(indexed).tolist() == [[0, 1], [255, 0]]
    # One whose colours are others is of ids.
    assert table.read(saved(tmp_path / "i.png", [[1, 0]], palette=[1, 2, 3, 4, 5, 6])).tolist() == [[1, 0]]


def test_what_is_not_in_the_table_is_said_with_its_pixels(tmp_path):
    with pytest.raises(UnknownIds) as caught:
        Table({0: 0, 1: 1, 255: 255}).read(saved(tmp_path / "a.png", VALUES))
    assert (caught.value.values, caught.value.pixels) == ((2, 7), 3)
    with pytest.raises(UnknownIds) as caught:
        TABLE.read(saved(tmp_path / "b.png", np.array([[0, 300, 300, 65535]], np.uint16)))
    assert (caught.value.values, caught.value.pixels) == ((300, 65535), 3)
    with pytest.raises(UnknownIds) as caught:
        Table({}, {0xC80000: 0}).read(saved(tmp_path / "c.png", np.array([[RED, GREEN, (1, 2, 3)]], np.uint8)))
    assert (caught.value.values, caught.value.pixels) == (("#00c800", "#010203"), 2)
    with pytest.raises(UnknownIds) as caught:
        TABLE.read(saved(tmp_path / "d.png", np.array([[RED]], np.uint8)))
    assert caught.value.values == ("#c80000",)


def test_files_that_hold_no_ids_are_refused(tmp_path):
    saved(tmp_path / "a.jpg", VALUES)
    (tmp_path / "a.jpg").rename(tmp_path / "a.png")
    with pytest.raises(JpegMask):
        TABLE.read(str(tmp_path / "a.png"))
    whole = (tmp_path / "b.png", np.random.default_rng(0).integers(0, 3, (90, 90), np.uint8))
    data = Path(saved(*whole)).read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.png").write_text("road")
    saved(tmp_path / "float.tif", VALUES.astype(np.float32))
    for name in ("cut.png", "text.png", "float.tif", "missing.png"):
        with pytest.raises(Unreadable):
            TABLE.read(str(tmp_path / name))


def test_a_webp_with_loss_is_refused_as_a_jpeg_is(tmp_path):
    noise = np.random.default_rng(0).integers(0, 3, (40, 40, 3), np.uint8)
    alpha = np.dstack([noise, np.full((40, 40), 9, np.uint8)])  # which makes the file an extended one
    table = Table({}, {red << 16 | green << 8 | blue: 0 for red in range(3) for green in range(3) for blue in range(3)})
    for name, array in (("rgb", noise), ("rgba", alpha)):
        Image.fromarray(array).save(tmp_path / f"{name}.webp", lossless=True, exact=True)
        assert (table.read(str(tmp_path / f"{name}.webp")) == 0).all()
        Image.fromarray(array).save(tmp_path / f"{name}.webp", quality=90)
        with pytest.raises(JpegMask, match="saved as lossy WebP, which blurs ids"):
            table.read(str(tmp_path / f"{name}.webp"))


def found(folder, *masks, **files):
    """The classes that are found for masks (arrays) in a folder that holds files of classes (their text)."""
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text if isinstance(text, str) else json.dumps(text))
    paths = [saved(folder / "m" / f"{place}.png", mask) for place, mask in enumerate(masks)]
    classes, notes = mask_classes.find(paths, [folder])
    return classes.labels, [classes.read(path).tolist() for path in paths], classes.plain, notes


def test_classes_json(tmp_path):
    labels, ids, plain, notes = found(
        tmp_path, VALUES[:1], np.array([[3, 1]], np.uint8), classes__json={"names": ["a", "b", "c"], "ignore_id": 3}
    )
    assert (labels.names, labels.source_ids, ids, plain) == (
        ("a", "b", "c"),
        (0, 1, 2),
        [[[0, 1, 2, 2]], [[255, 1]]],
        False,
    )
    assert notes == ["classes.json: 3 classes, 3 is void"]


def test_void_by_name_that_is_learnt_is_said(tmp_path):
    for file, text in (("classes__json", {"names": ["a", "Void"]}), ("class_names__txt", "a\nVoid\n")):
        folder = tmp_path / file
        folder.mkdir()
        labels, _, _, notes = found(folder, VALUES[:1] % 2, **{file: text})
        assert labels.names == ("a", "Void")
        assert notes[1].startswith(f"{file.replace('__', '.')}: Void is learnt as a class like any other; where it is")
    meant = found(tmp_path, VALUES[:1] % 2, classes__json={"names": ["a", "void"], "ignore_id": 1})
    assert (meant[0].names, len(meant[3])) == (("a",), 1)


def test_palettes_that_disagree_beside_classes_without_colours_are_doubted(tmp_path):
    masks = [saved(tmp_path / "1.png", [[0, 1]], palette=[*RED, *GREEN])]
    masks += [saved(tmp_path / "2.png", [[0, 1]], palette=[*RED, *BLUE])]
    for names, doubts in (({"names": ["a", "b"]}, 1), ({"names": ["a", "b"], "colors": [RED, GREEN]}, 0)):
        (tmp_path / "classes.json").write_text(json.dumps(names))
        notes = mask_classes.find(masks, [tmp_path])[1]
        assert [DOUBT in note and "add colors to classes.json" in note for note in notes].count(True) == doubts
    (tmp_path / "classes.json").write_text(json.dumps({"names": ["a", "b"]}))
    assert len(mask_classes.find(masks[:1], [tmp_path])[1]) == 1


def test_a_folder_that_is_closed_to_us_holds_no_classes(tmp_path, monkeypatch):
    mask, listed = saved(tmp_path / "m" / "a.png", VALUES), Path.iterdir

    def closed(folder):
        if folder == tmp_path:
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", closed)
    assert mask_classes.find([mask], [tmp_path / "m", tmp_path])[0].labels.names == ("0", "1", "2", "7")


def test_classes_json_whose_void_has_a_name_and_a_colour(tmp_path):
    named = {"names": ["a", "void", "c"], "ids": [5, 6, 9], "ignore_id": 6, "colors": [RED, GREEN, BLUE]}
    grey = np.array([[5, 6, 9]], np.uint8)
    labels, ids, _, _ = found(tmp_path, grey, np.array([[RED, GREEN, BLUE]], np.uint8), classes__json=named)
    assert (labels.names, labels.source_ids, labels.colors) == (("a", "c"), (5, 9), (RED, BLUE))
    assert ids == [[[0, 255, 1]]] * 2


def test_masks_of_the_ids_themselves_are_plain(tmp_path):
    for kind, mask, expected in (("grey", VALUES[:1], True), ("colour", np.array([[[1, 1, 1]]], np.uint8), False)):
        folder = tmp_path / kind
        folder.mkdir()
        assert found(folder, mask, classes__json={"names": ["a", "b", "c"]})[2] is expected
        assert found(folder, mask, classes__json={"names": ["a", "b", "c"], "ignore_id": None})[2] is expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "JSON"),
        ("[]", "no list of names"),
        ({"names": []}, "one or more"),
        ({"names": ["a"], "ignore": 3}, "did you mean 'ignore_id'"),
        ({"names": ["a"], "ignore_id": 256}, "0 to 255"),
        ({"names": ["a"], "ignore_id": True}, "0 to 255"),
        ({"names": ["a", "b"], "ids": [1]}, "each of the 2 names"),
        ({"names": ["a", "b"], "ids": [1, 1]}, "different"),
        ({"names": ["a", "a"]}, r"classes\.json: names of classes must differ, but these stand twice: a"),
        ({"names": ["a", "b"], "colors": [[1, 2, 3], [1, 2]]}, r"\[128, 64, 128\]"),
        ({"names": ["a", "b"], "colors": [[1, 2, 3], [1, 2, 3]]}, "'a' and 'b' have the same colour, #010203"),
        ({"names": list(map(str, range(257)))}, "257 names"),
    ],
)
def test_a_classes_json_that_says_something_else_is_refused(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        found(tmp_path, VALUES, classes__json=text)


TABLES = {
    "label_colors__txt": "200 0 0\tRoad\n0 200 0 \t\tTrafficCone\n0 0 200\tVoid\n",
    "class_dict__csv": "name, r, g, b\nRoad,200,0,0\nTrafficCone,0,200,0\nVoid,0,0,200\n",
    "labelmap__txt": "# label:color_rgb:parts:actions\nRoad:200,0,0::\nTrafficCone:0,200,0::\nvoid:0,0,200::\n",
}


@pytest.mark.parametrize("file", sorted(TABLES))
def test_tables_of_colours(tmp_path, file):
    seen = np.array([[RED, GREEN], [BLUE, RED]], np.uint8)
    labels, ids, _, notes = found(tmp_path, seen, **{file: TABLES[file]})
    assert (labels.names, labels.colors, ids) == (("Road", "TrafficCone"), (RED, GREEN), [[[0, 1], [255, 0]]])
    assert "is void" in notes[0]
    # The same table beside masks of ids: they are places in it.
    labels, ids, _, _ = found(tmp_path, np.array([[1, 0, 2, 255]], np.uint8))
    assert (labels.source_ids, ids) == ((0, 1), [[[1, 0, 255, 255]]])


def test_a_table_of_greys_means_the_greys(tmp_path):
    table = "name,r,g,b\nship,255,255,255\nsea,0,0,0\n"
    labels, ids, _, _ = found(tmp_path, np.array([[0, 255, 0]], np.uint8), class_dict__csv=table)
    assert (labels.names, labels.source_ids, ids) == (("ship", "sea"), (), [[[1, 0, 1]]])


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("class_dict__csv", "name,r,g\na,1,2\n", "the columns name, r, g and b were expected; found name, r, g"),
        ("class_dict__csv", "name,r,g,b\na,1,2\n", "row 2"),
        ("class_dict__csv", "name,r,g,b\na,1,2,x\n", "row 2"),
        ("class_dict__csv", "name,r,g,b\na,1,2,256\n", "'a' has no colour"),
        ("class_dict__csv", "name,r,g,b\na,1,2,3\nb,1,2,3\n", "'a' and 'b' have the same colour"),
        ("class_dict__csv", "name,r,g,b\na,1,2,3\na,1,2,4\n", r"class_dict\.csv: names .* must differ.* twice: a"),
        ("label_colors__txt", "road\n", "no class with its colour"),
        ("class_names__txt", "\n", "0 names"),
        ("class_names__txt", "a\nb\na\n", r"class_names\.txt: names of classes must differ.* twice: a"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path, file, text, said):
    with pytest.raises(DataError, match=said):
        found(tmp_path, VALUES, **{file: text})


def test_names_a_line(tmp_path):
    labels, ids, plain, _ = found(tmp_path, VALUES % 7, class_names__txt="__ignore__\n_background_\ncat\ndog\neel\n")
    assert (labels.names, labels.source_ids) == (("_background_", "cat", "dog", "eel"), (0, 1, 2, 3))
    assert (ids, plain) == ([[[0, 1, 2, 2], [1, 0, 3, 0]]], True)


def test_vocs_colours():
    assert [masks_voc.color(index) for index in (0, 1, 2, 15, 20, 255)] == [
        *((0, 0, 0), (128, 0, 0), (0, 128, 0), (192, 128, 128), (0, 64, 128), (224, 224, 192))
    ]
    assert mask_files.rgb(mask_files.packed((1, 2, 3))) == (1, 2, 3)
