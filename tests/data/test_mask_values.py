"""Classes of masks that no file names: by their values, their colours, their palettes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_tasks.data.readers import mask_values
from resnet_tasks.data.readers.pairs_of_masks import DOUBT, UnknownIds
from resnet_tasks.errors import DataError

VALUES = np.array([[0, 1, 2, 2], [1, 7, 255, 0]], np.uint8)
IDS = [[0, 1, 2, 2], [1, 3, 255, 0]]
RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)
PALETTE = [*(9, 9, 9), *RED, *GREEN, *(0,) * 12, *BLUE]
BINARY = np.array([[0, 0, 255, 255]], np.uint8)
SMOOTHED = np.array([[0, 60, 200, 255]], np.uint8)


def saved(path: Path, array, palette=None) -> str:
    image = Image.fromarray(np.asarray(array, np.uint8) if palette else np.asarray(array))
    if palette:
        image.putpalette(palette)
    image.save(path)
    return str(path)


def found(folder, *masks):
    """The classes of masks (arrays), the ids of each (what is said of one that has others), and the sentences."""
    paths = [saved(folder / f"{place}.png", mask) for place, mask in enumerate(masks)]
    classes, notes = mask_values.classes_of(paths)

    def read(path):
        try:
            return classes.read(path).tolist()
        except UnknownIds as error:
            return str(error)

    return classes.labels, [read(path) for path in paths], classes.plain, notes


def test_classes_by_what_masks_hold(tmp_path):
    labels, ids, plain, notes = found(tmp_path, VALUES, np.array([[9]], np.uint8))
    assert (labels.names, labels.source_ids, labels.colors) == (("0", "1", "2", "7", "9"), (0, 1, 2, 7, 9), ())
    assert (ids, plain) == ([IDS, [[4]]], False)
    assert notes == ["no classes.json: 5 classes by the values in the masks", "255 in the masks is taken as void"]


def test_black_and_white_is_two_classes(tmp_path):
    labels, ids, _, notes = found(tmp_path, np.array([[0, 255]], np.uint8), np.array([[0]], np.uint8))
    assert (labels.names, labels.source_ids, ids) == (("0", "255"), (0, 255), [[[0, 1]], [[0]]])
    assert "taken as a class, not as void" in notes[1]


def test_classes_by_colours(tmp_path):
    labels, ids, _, _ = found(tmp_path, np.array([[GREEN, RED]], np.uint8), np.array([[0, 0]], np.uint8))
    assert labels.names == ("#000000", "#00c800", "#c80000")
    assert (labels.colors, ids) == (((0, 0, 0), GREEN, RED), [[[1, 2]], [[0, 0]]])


def test_classes_by_a_palette(tmp_path):
    one = saved(tmp_path / "1.png", [[0, 2, 255]], palette=PALETTE + [0] * 3 * 248)
    two = saved(tmp_path / "2.png", [[1, 7, 7]], palette=PALETTE)
    classes, _ = mask_values.classes_of([one, two])
    assert (classes.labels.names, classes.labels.source_ids) == (
        ("#090909", "#c80000", "#00c800", "#0000c8"),
        (0, 1, 2, 7),
    )
    assert classes.labels.colors == ((9, 9, 9), RED, GREEN, BLUE)
    assert (classes.read(one).tolist(), classes.read(two).tolist()) == ([[0, 2, 255]], [[1, 3, 3]])


def test_palettes_that_disagree_are_read_by_their_colours(tmp_path):
    """Programs that number the colours of each file anew write such."""
    one = saved(tmp_path / "1.png", [[0, 1, 1]], palette=[*RED, *GREEN])
    two = saved(tmp_path / "2.png", [[0, 1, 2]], palette=[*GREEN, *RED, *BLUE])
    classes, notes = mask_values.classes_of([one, two])
    assert classes.labels.names == ("#0000c8", "#00c800", "#c80000")
    assert (classes.read(one).tolist(), classes.read(two).tolist()) == ([[2, 1, 1]], [[1, 2, 0]])
    assert notes[1] == "an index has several colours in the masks' palettes: the colours are taken"
    grey = saved(tmp_path / "3.png", np.array([[0, 1]], np.uint8))  # has no colours: only indices are left
    classes, notes = mask_values.classes_of([one, two, grey])
    assert (classes.labels.names, classes.read(two).tolist()) == (("0", "1", "2"), [[0, 1, 2]])
    assert notes[-1] == mask_values.DISAGREE and notes[-1].startswith(DOUBT)
    # What no mask uses may differ.
    other = saved(tmp_path / "4.png", [[0, 0, 0]], palette=[*RED, *BLUE])
    assert mask_values.classes_of([one, other])[0].labels.source_ids == (0, 1)


def test_a_smoothed_mask_among_black_and_white_ones_is_broken_and_spoils_no_other(tmp_path):
    labels, ids, _, notes = found(tmp_path, *[BINARY] * 9, SMOOTHED, np.zeros((1, 4), np.uint8))
    assert (labels.names, labels.source_ids) == (("0", "255"), (0, 255))
    assert ids == [[[0, 0, 1, 1]]] * 9 + ["values 60, 200 without a class (2 pixels)", [[0] * 4]]
    assert notes[1] == "9 of 10 masks hold 0 and 255 alone: 255 is taken as a class, not as void"


def test_black_and_white_beside_values_is_doubted(tmp_path):
    labels, _, _, notes = found(tmp_path, *[BINARY] * 4, SMOOTHED)
    assert labels.names == ("0", "60", "200")
    assert notes[1:] == [
        "255 in the masks is taken as void",
        f"{DOUBT}4 of 5 hold 0 and 255 alone; if 255 is a class, say so in a classes.json",
    ]
    # Void around a thing, and nothing but ground on most: void it stays.
    ground = np.zeros((1, 4), np.uint8)
    labels, _, _, notes = found(tmp_path, *[ground] * 20, np.array([[0, 1, 255, 0]], np.uint8))
    assert (labels.names, len(notes)) == (("0", "1"), 2)


def test_the_white_of_one_bit_is_that_of_eight(tmp_path):
    bits = np.array([[True, False, False, True]])
    labels, ids, _, _ = found(tmp_path, BINARY, bits)
    assert (labels.names, ids) == (("0", "255"), [[[0, 0, 1, 1]], [[1, 0, 0, 1]]])
    labels, ids, _, _ = found(tmp_path, bits, bits)
    assert (labels.names, ids[0]) == (("0", "1"), [[1, 0, 0, 1]])
    labels, ids, _, _ = found(tmp_path, np.array([[0, 1, 255]], np.uint8), bits)  # a class, and void around
    assert (labels.names, ids[1]) == (("0", "1"), [[1, 0, 0, 1]])


def test_edges_that_are_smoothed_in_all_masks_are_doubted(tmp_path):
    wide = np.repeat(np.uint8([0, 255]), 20_000)
    masks = [np.concatenate([wide, np.arange(start, 250, 7, np.uint8)])[None] for start in range(1, 8)]
    notes = found(tmp_path, *masks)[3]
    assert notes[-1].startswith(f"{DOUBT}they hold 251 different values, 249 of them on less than 1% of the pixels")
    colors = [np.stack([mask, mask, np.zeros_like(mask)], axis=-1) for mask in masks]
    assert found(tmp_path, *colors)[3][-1].startswith(f"{DOUBT}they hold 251 different colours, 249 of them")
    alike = np.arange(100, dtype=np.uint8)[None]
    assert len(found(tmp_path, alike)[3]) == 1
    few = [np.concatenate([wide, np.arange(8 * start, 8 * start + 8, dtype=np.uint8)])[None] for start in range(1, 20)]
    assert len(found(tmp_path, *few)[3]) == 2, "classes that are rare, of which a mask has some"


def test_a_photograph_among_masks_has_no_say(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8)
    labels, ids, _, _ = found(tmp_path, VALUES, noise, VALUES)
    assert (labels.names, ids[0], ids[2]) == (("0", "1", "2", "7"), IDS, IDS)
    assert 'without a class (900 pixels); no "colors" in classes.json say what they mean' in ids[1]
    ramp = np.arange(256, dtype=np.uint8)[None]
    labels, ids, _, _ = found(tmp_path, VALUES, ramp)
    assert (labels.names, ids[1]) == (
        ("0", "1", "2", "7"),
        "values 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, ... without a class (251 pixels)",
    )


def test_values_above_255_are_no_classes(tmp_path):
    deep = np.array([[0, 1, 65535, 65535]], np.uint16)
    labels, ids, _, _ = found(tmp_path, VALUES, deep)
    assert labels.names == ("0", "1", "2", "7")
    assert ids[1] == "value 65535 without a class (2 pixels); values are 0 to 255, also what is void"
    assert found(tmp_path, deep, deep)[0].names == ("0", "1")


def test_masks_that_are_none_are_named(tmp_path):
    random = np.random.default_rng(0)
    noise = {f"{size}.png": random.integers(0, 256, (size, 30, 3), np.uint8) for size in (20, 40, 30, 10)}
    paths = [saved(tmp_path / name, mask) for name, mask in noise.items()]
    said = rf"{tmp_path}: 255 classes at most .* colours: 40\.png 1200, 30\.png 900, 20\.png 600\. Are these masks"
    with pytest.raises(DataError, match=said):
        mask_values.classes_of(paths)
    with pytest.raises(DataError, match=r"more different values: ramp\.png 256\. .*without loss"):
        mask_values.classes_of([saved(tmp_path / "ramp.png", np.arange(256, dtype=np.uint8)[None])])
    halves = [np.arange(start, start + 128, dtype=np.uint8)[None] for start in (0, 128)]
    paths = [saved(tmp_path / f"half{place}.png", half) for place, half in enumerate(halves)]
    with pytest.raises(DataError, match=r"values: 256 in all, half0\.png 128, half1\.png 128"):
        mask_values.classes_of(paths)
