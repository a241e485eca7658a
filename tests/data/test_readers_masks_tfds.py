"""Masks of TensorFlow Datasets, from tiny prepared data sets that are written here."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from resnet_tasks.data import pictures as pictures_module
from resnet_tasks.data.masks import IGNORE
from resnet_tasks.data.readers import masks_tfds
from resnet_tasks.errors import DataError

SIZES = {"train": [(6, 9), (8, 8), (5, 7)], "test": [(7, 4)]}  # height and width
MASK = tfds.features.Image(shape=(None, None, 1), use_colormap=True)


def jpeg(size_hw, orientation=1):
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size_hw[::-1], (40, 90, 160)).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def png(values, mode=None):
    stream = io.BytesIO()
    picture = Image.fromarray(values)
    (picture.convert(mode) if mode else picture).save(stream, "PNG")
    return stream.getvalue()


def random_mask(number, size_hw, values):
    return np.random.default_rng(number).choice(np.array(values, np.uint8), size_hw)


def prepare(root, splits, features, *, name="tiny_masks", kind="tfrecord"):
    """Writes a data set as TFDS lays it out, two pictures a file; `splits` has the examples of each split."""
    folder = root / name / "1.0.0"
    folder.mkdir(parents=True)
    features = tfds.features.FeaturesDict(features)
    adapter = tfds.core.file_adapters.ADAPTER_FOR_FORMAT[tfds.core.FileFormat(kind)]
    infos, number = [], 0
    for split, examples in splits.items():
        template = tfds.core.ShardedFileTemplate(dataset_name=name, split=split, filetype_suffix=kind, data_dir=folder)
        shards = [examples[start : start + 2] for start in range(0, len(examples), 2)]
        for shard, of_shard in enumerate(shards):
            rows = []
            for made in of_shard:
                rows.append((number, features.serialize_example(features.encode_example(made))))
                number += 1
            adapter.write_examples(template.sharded_filepath(shard_index=shard, num_shards=len(shards)), iter(rows))
        lengths = [len(of_shard) for of_shard in shards]
        infos.append(tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=1000, filename_template=template))
    tfds.folder_dataset.write_metadata(data_dir=folder, features=features, split_infos=infos, check_data=False)
    return str(root)


def examples(values, key="segmentation_mask"):
    """Pictures of `SIZES` with random masks of some values, by split; and the masks."""
    masks = {
        split: [random_mask(number, size, values) for number, size in enumerate(sizes)]
        for split, sizes in SIZES.items()
    }
    made = {
        split: [{"image": jpeg(mask.shape), key: mask[..., None], "note": "x"} for mask in of_split]
        for split, of_split in masks.items()
    }
    return made, masks


def features(key="segmentation_mask", feature=MASK):
    return {"image": tfds.features.Image(), key: feature, "note": tfds.features.Text()}


@pytest.mark.parametrize("kind", ["tfrecord", "array_record"])
def test_pets(tmp_path, kind):
    if kind == "array_record":
        pytest.importorskip("array_record")
    made, masks = examples([1, 2, 3])
    root = prepare(tmp_path, made, features(), name="oxford_iiit_pet", kind=kind)
    source = masks_tfds.read("tfds:oxford_iiit_pet:1.0.0", data_dir=root)
    assert (source.format, source.labels.names) == ("tfds", ("background", "pet"))
    assert source.labels.source_ids == (2, 1)
    assert any("3, the border between the two, is void" in note for note in source.notes)
    assert (source.pairs.total, source.pairs.dropped) == (4, ())
    for split, of_split in masks.items():
        held = source.splits[split]
        assert held.ids == tuple(f"tfds:oxford_iiit_pet:1.0.0/{split}/{index}" for index in range(len(of_split)))
        for place, mask in enumerate(of_split):
            assert np.array_equal(held.masks.ids(place), np.array([0, 1, 0, IGNORE])[mask])
            pixels = [(mask == 2).sum(), (mask == 1).sum(), (mask == 3).sum()]
            assert held.annotations["pixels"][place].tolist() == pixels
            assert held.read(place) == jpeg(mask.shape)


def test_pets_with_other_values(tmp_path):
    made, _ = examples([1, 2, 3])
    made["train"][1]["segmentation_mask"] = np.full((8, 8, 1), 2, np.uint8)
    made["train"][1]["segmentation_mask"][:2, :3] = 4
    root = prepare(tmp_path, made, features(), name="oxford_iiit_pet")
    source = masks_tfds.read("tfds:oxford_iiit_pet:1.0.0", data_dir=root)
    (problem,) = source.pairs.dropped
    assert problem.file == "tfds:oxford_iiit_pet:1.0.0/train/1"
    assert problem.what.startswith("ids: ") and "value 4 without a class (6 pixels)" in problem.what


def test_values_as_they_are_found(tmp_path):
    made, masks = examples([0, 7, 11, 255], "segmentation_label")
    source = masks_tfds.read("tfds:tiny_masks", data_dir=prepare(tmp_path, made, features("segmentation_label")))
    assert (source.labels.names, source.labels.source_ids) == (("0", "7", "11"), (0, 7, 11))
    assert any("numbers and no names; 255 is void" in note for note in source.notes)
    for place, mask in enumerate(masks["train"]):
        expected = np.select([mask == 0, mask == 7, mask == 11], [0, 1, 2], IGNORE)
        assert np.array_equal(source.splits["train"].masks.ids(place), expected)


def test_names_of_a_labelled_image(tmp_path):
    made, masks = examples([0, 1, 2, 255], "annotation")
    named = features("annotation", tfds.features.LabeledImage(labels=["sky", "road", "tree", "car"]))
    source = masks_tfds.read("tfds:tiny_masks", data_dir=prepare(tmp_path / "named", made, named))
    assert (source.labels.names, source.labels.source_ids) == (("sky", "road", "tree", "car"), (0, 1, 2, 3))
    assert np.array_equal(source.splits["test"].masks.ids(0), masks["test"][0])
    numbered = features("annotation", tfds.features.LabeledImage(labels=3))
    source = masks_tfds.read("tfds:tiny_masks", data_dir=prepare(tmp_path / "numbered", made, numbered))
    assert source.labels.names == ("0", "1", "2")


def test_a_single_split_is_cut(tmp_path):
    masks = [random_mask(number, (4, 4), [0, 1]) for number in range(10)]
    made = [{"image": jpeg((4, 4)), "segmentation_mask": mask[..., None], "note": ""} for mask in masks]
    root = prepare(tmp_path, {"train": made, "extra": made[:1]}, features())
    source = masks_tfds.read("tfds:tiny_masks", data_dir=root)
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 8, "val": 1, "test": 1}
    assert any("its split 'extra' is not used" in note for note in source.notes)
    for split in source.splits.values():
        for place, name in enumerate(split.ids):
            assert np.array_equal(split.masks.ids(place), masks[int(name.rpartition("/")[2])])


def test_masks_that_cannot_be_used(tmp_path):
    good = {"image": jpeg((6, 9)), "segmentation_mask": png(random_mask(0, (6, 9), [0, 1])), "note": ""}
    deep = random_mask(1, (6, 9), [0, 1]).astype(np.uint16) * 300
    bad = {
        "jpeg": jpeg((6, 9)),
        "unreadable: ": b"none",
        "unreadable": png(np.zeros((6, 9, 3), np.uint8)),
        "size": png(np.zeros((9, 6), np.uint8)),
        "ids": png(deep),
    }
    made = {"train": [good, *({**good, "segmentation_mask": mask} for mask in bad.values())], "test": [good]}
    source = masks_tfds.read("tfds:tiny_masks", data_dir=prepare(tmp_path, made, features()))
    assert [problem.file for problem in source.pairs.dropped] == [f"tfds:tiny_masks/train/{n}" for n in range(1, 6)]
    for problem, kind in zip(source.pairs.dropped, bad, strict=True):
        assert problem.what.startswith(kind)
    assert "value 300 without a class" in source.pairs.dropped[-1].what
    assert source.splits["train"].ids == ("tfds:tiny_masks/train/0",)


def test_palettes_one_bit_and_sixteen(tmp_path):
    mask = random_mask(0, (6, 9), [0, 1])
    palette = Image.fromarray(mask, "P")
    palette.putpalette([9, 9, 9, 200, 0, 0])
    stream = io.BytesIO()
    palette.save(stream, "PNG")
    forms = [stream.getvalue(), png(mask.astype(bool)), png(mask.astype(np.uint16))]
    made = [{"image": jpeg((6, 9)), "segmentation_mask": form, "note": ""} for form in forms]
    source = masks_tfds.read("tfds:tiny_masks", data_dir=prepare(tmp_path, {"train": made, "test": made}, features()))
    assert source.pairs.dropped == ()
    assert all(np.array_equal(source.splits["test"].masks.ids(place), mask) for place in range(3))


def test_a_picture_on_its_side(tmp_path):
    made = [
        {"image": jpeg((4, 8), orientation=6), "segmentation_mask": np.zeros((*size, 1), np.uint8), "note": ""}
        for size in ((4, 8), (8, 4))
    ]
    source = masks_tfds.read("tfds:tiny_masks", data_dir=prepare(tmp_path, {"train": made, "test": made}, features()))
    assert source.splits["test"].ids == ("tfds:tiny_masks/test/1",)
    assert {problem.file for problem in source.pairs.dropped} == {"tfds:tiny_masks/train/0", "tfds:tiny_masks/test/0"}


@pytest.mark.parametrize("kind", ["tfrecord", "array_record"])
def test_what_is_too_large_or_cut_off(tmp_path, monkeypatch, kind):
    if kind == "array_record":
        pytest.importorskip("array_record")
    made, _ = examples([0, 1])
    root = prepare(tmp_path, made, features(), kind=kind)
    with monkeypatch.context() as patch:
        patch.setattr(pictures_module, "free_memory", lambda: 3900)  # two splits of 1000 bytes, twice
        with pytest.raises(DataError, match=r"too large for memory.*held twice.*pictures and masks in its place"):
            masks_tfds.read("tfds:tiny_masks", data_dir=root)
    file = next((tmp_path / "tiny_masks" / "1.0.0").glob(f"*-train.{kind}-00000*"))
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DataError, match="-train.tfrecord-00000" if kind == "tfrecord" else "split 'train' is damaged"):
        masks_tfds.read("tfds:tiny_masks", data_dir=root)


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"image": tfds.features.Image(), "mask": MASK}, "its features are image (Image), mask (Image)"),
        ({"segmentation_mask": MASK}, "a picture and a mask (an Image called segmentation_mask or segmentation_label"),
        (
            {"image": tfds.features.Image(), "segmentation_mask": tfds.features.Image()},
            "masks of one channel were expected; segmentation_mask has 3",
        ),
    ],
)
def test_features_that_are_no_masks(tmp_path, known, said):
    made = {"image": jpeg((8, 8)), "mask": png(np.zeros((8, 8), np.uint8))}
    made["segmentation_mask"] = made["mask"]
    root = prepare(tmp_path, {"train": [{key: made[key] for key in known}]}, known)
    with pytest.raises(DataError) as caught:
        masks_tfds.read("tfds:tiny_masks", data_dir=root)
    assert said in str(caught.value)


def test_what_is_not_prepared(tmp_path):
    with pytest.raises(DataError, match="tfds build oxford_iiit_pet"):
        masks_tfds.read("tfds:oxford_iiit_pet", data_dir=str(tmp_path))
