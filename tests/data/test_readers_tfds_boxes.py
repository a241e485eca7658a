"""Boxes of TensorFlow Datasets, from tiny prepared data sets that are written here."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from resnet_tasks.data import pictures as pictures_module
from resnet_tasks.data.readers import tfds_boxes
from resnet_tasks.errors import DataError

WHERE = "tfds:tiny_boxes"
NAMES = ("cat", "dog", "hen")
# Width and height; (left, top, right, bottom, class) in pixels.
SCENES = {
    "train": [
        ((100, 60), [(10, 6, 33, 59, 2), (0, 0, 100, 60, 0)]),
        ((64, 48), []),
        ((640, 427), [(1, 2, 639, 3.25, 1)]),
    ],
    "validation": [((31, 77), [(7, 11, 13, 76, 0)])],
    "test": [((8, 8), [(1, 1, 7, 7, 1)])],
    "extra": [((8, 8), [(1, 1, 7, 7, 1)])],
}
BOX = {"bbox": tfds.features.BBoxFeature(), "label": tfds.features.ClassLabel(names=NAMES)}
OF_COCO = {**BOX, "area": np.int64, "id": np.int64, "is_crowd": np.bool_}


def jpeg(size, orientation=1):
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size, (40, 90, 160)).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def bbox(size, box):
    (width, height), (left, top, right, bottom, _) = size, box
    return tfds.features.BBox(ymin=top / height, xmin=left / width, ymax=bottom / height, xmax=right / width)


def example(number, size, boxes, thing):
    things = []
    for place, box in enumerate(boxes):
        all_of = {"bbox": bbox(size, box), "label": box[4]}
        all_of |= {"area": 10 * number + place, "id": 9000 + 10 * number + place, "is_crowd": place == 1}
        things.append({key: all_of[key] for key in thing})
    return {"image": jpeg(size), "image/id": 500 - number, "note": "x", "objects": things}


def prepare(root, thing, scenes=SCENES, *, name="tiny_boxes", version="1.0.0", features=None, kind="tfrecord"):
    """Writes a data set as TFDS lays it out, two pictures a file."""
    folder = root / name / version
    folder.mkdir(parents=True)
    features = tfds.features.FeaturesDict(
        features
        or {
            "image": tfds.features.Image(),
            "image/id": np.int64,
            "note": tfds.features.Text(),
            "objects": tfds.features.Sequence(thing),
        }
    )
    adapter = tfds.core.file_adapters.ADAPTER_FOR_FORMAT[tfds.core.FileFormat(kind)]
    infos, number = [], 0
    for split, pictures in scenes.items():
        template = tfds.core.ShardedFileTemplate(dataset_name=name, split=split, filetype_suffix=kind, data_dir=folder)
        shards = [pictures[start : start + 2] for start in range(0, len(pictures), 2)]
        for shard, of_shard in enumerate(shards):
            rows = []
            for picture in of_shard:
                made = picture if isinstance(picture, dict) else example(number, *picture, thing)
                made = features.encode_example({key: made[key] for key in features})
                rows.append((number, features.serialize_example(made)))
                number += 1
            adapter.write_examples(template.sharded_filepath(shard_index=shard, num_shards=len(shards)), iter(rows))
        lengths = [len(of_shard) for of_shard in shards]
        infos.append(tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=1000, filename_template=template))
    tfds.folder_dataset.write_metadata(data_dir=folder, features=features, split_infos=infos, check_data=False)
    return str(root)


@pytest.mark.parametrize("kind", ["tfrecord", "array_record"])
def test_boxes_in_pixels_to_the_bit(tmp_path, kind):
    if kind == "array_record":
        pytest.importorskip("array_record")
    source = tfds_boxes.read(WHERE, data_dir=prepare(tmp_path, OF_COCO, kind=kind))
    assert (source.format, source.labels.names, source.labels.source_ids) == ("tfds", NAMES, ())
    assert {name: split.ids for name, split in source.splits.items()} == {
        "train": tuple(f"{WHERE}/train/{number}" for number in range(3)),
        "val": (f"{WHERE}/validation/0",),
        "test": (f"{WHERE}/test/0",),
    }
    train = source.splits["train"].annotations
    assert train["boxes"].tolist() == [
        [[10, 6, 33, 59], [0, 0, 100, 60]],
        [[0, 0, 0, 0], [0, 0, 0, 0]],
        [[1, 2, 639, 3.25], [0, 0, 0, 0]],
    ]
    assert train["labels"].tolist() == [[2, 0], [-1, -1], [1, -1]]
    assert train["crowd"].tolist() == [[False, True], [False, False], [False, False]]
    assert train["area"].tolist() == [[0, 1], [0, 0], [20, 0]]
    assert train["image_id"].tolist() == [500, 499, 498]
    assert source.splits["val"].annotations["boxes"][0, 0].tolist() == [7, 11, 13, 76]
    assert source.splits["train"].read(2) == jpeg((640, 427))
    assert (source.rows.total, source.rows.crowds, source.rows.dropped) == (5, 1, ())
    assert any("its split 'extra' is not used" in note for note in source.notes)


def test_without_area_crowds_and_numbers(tmp_path):
    features = {"image": tfds.features.Image(), "objects": tfds.features.Sequence(BOX)}
    source = tfds_boxes.read(WHERE, data_dir=prepare(tmp_path, BOX, features=features))
    train = source.splits["train"].annotations
    assert sorted(train) == ["area", "boxes", "crowd", "labels"]
    assert train["area"].tolist() == [[23 * 53, 6000], [0, 0], [638 * 1.25, 0]]


def test_a_picture_on_its_side_is_annotated_upright(tmp_path):
    thing = {"bbox": tfds.features.BBox(ymin=0.25, xmin=0.5, ymax=1.0, xmax=0.75), "label": 1}
    made = {"image": jpeg((128, 64), orientation=6), "image/id": 1, "note": "", "objects": [thing]}
    source = tfds_boxes.read(WHERE, data_dir=prepare(tmp_path, BOX, {"train": [made], "test": [made]}))
    assert source.splits["test"].annotations["boxes"].tolist() == [[[32, 32, 48, 128]]]  # 64 wide, 128 high


def test_vocs_first_pixel_is_one(tmp_path):
    features = {
        "image": tfds.features.Image(shape=(480, 640, 3), encoding_format="jpeg"),
        "image/filename": tfds.features.Text(),
        "objects": tfds.features.Sequence(
            {"label": tfds.features.ClassLabel(names=["RBC", "WBC", "Platelets"]), "bbox": tfds.features.BBoxFeature()}
        ),
    }
    # In the XML: 1 1 640 480, the whole picture, and 78 336 184 435.
    boxes = [(1, 1, 640, 480, 1), (78, 336, 184, 435, 0)]
    things = [{"bbox": bbox((640, 480), box), "label": box[4]} for box in boxes]
    made = {"image": jpeg((640, 480)), "image/filename": "BloodImage_00000", "objects": things}
    scenes = {"train": [made], "test": [made], "validation": [made]}
    source = tfds_boxes.read("tfds:bccd", data_dir=prepare(tmp_path, None, scenes, name="bccd", features=features))
    for split in source.splits.values():
        assert split.annotations["boxes"].tolist() == [[[0, 0, 640, 480], [77, 335, 184, 435]]]
        assert split.annotations["labels"].tolist() == [[1, 0]]
    assert any("one pixel less" in note for note in source.notes)


def test_a_single_split_is_cut_and_one_without_boxes_left_out(tmp_path):
    scenes = {"train": [((16, 16), [(1, 1, 9, 9, 1)])] * 10, "test": [((16, 16), [])] * 2}
    source = tfds_boxes.read(WHERE, data_dir=prepare(tmp_path, BOX, scenes))
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 8, "val": 1, "test": 1}
    assert all(id.startswith(f"{WHERE}/train/") for split in source.splits.values() for id in split.ids)
    assert any("its split 'test' has no boxes" in note for note in source.notes)
    again = tfds_boxes.read(WHERE, data_dir=str(tmp_path), split_seed=1)
    assert again.splits["test"].ids != source.splits["test"].ids


def test_broken_pictures_and_boxes_are_named(tmp_path):
    things = [{"bbox": tfds.features.BBox(0.0, 0.0, 0.01, 0.5), "label": 1, "area": 1, "id": 77, "is_crowd": False}]
    empty = {"image": jpeg((16, 16)), "image/id": 1, "note": "", "objects": things}
    broken = {**empty, "image": b"none"}
    source = tfds_boxes.read(
        WHERE, data_dir=prepare(tmp_path, OF_COCO, {"train": [empty, broken], "test": SCENES["test"]})
    )
    assert [problem.file for problem in source.problems] == [f"{WHERE}/train/1"]
    assert [(problem.file, problem.what[:21]) for problem in source.rows.dropped] == [
        (f"{WHERE}/train/0", "annotation 77: empty,")
    ]
    assert source.rows.total == 3


def test_too_large_for_memory(tmp_path, monkeypatch):
    root = prepare(tmp_path, BOX)
    monkeypatch.setattr(pictures_module, "free_memory", lambda: 7900)
    with pytest.raises(DataError, match=r"too large for memory.*held twice.*annotation file \(COCO's .json\)"):
        tfds_boxes.read(WHERE, data_dir=root)
    monkeypatch.setattr(pictures_module, "free_memory", lambda: 8000)  # four splits of 1000 bytes, twice
    assert len(tfds_boxes.read(WHERE, data_dir=root).splits) == 3


@pytest.mark.parametrize("kind", ["tfrecord", "array_record"])
def test_a_file_that_is_cut_off_is_named(tmp_path, kind):
    if kind == "array_record":
        pytest.importorskip("array_record")
    root = prepare(tmp_path, BOX, kind=kind)
    file = next((tmp_path / "tiny_boxes" / "1.0.0").glob(f"*-train.{kind}-00000*"))
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DataError, match="-train.tfrecord-00000" if kind == "tfrecord" else "split 'train' is damaged"):
        tfds_boxes.read(WHERE, data_dir=root)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ({"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=NAMES)}, "label (ClassLabel)"),
        (
            {
                "image": tfds.features.Image(),
                "objects": tfds.features.Sequence({"bbox": tfds.features.BBoxFeature(), "type": BOX["label"]}),
            },
            "a ClassLabel called 'label', were expected; its features are image (Image), objects (Sequence)",
        ),
        (
            {
                "image": tfds.features.Image(),
                "objects": tfds.features.Sequence({**BOX, "bbox": tfds.features.BBoxFeature(bbox_format="XYWH")}),
            },
            "boxes as fractions, top left bottom right, were expected",
        ),
    ],
)
def test_features_that_are_no_boxes(tmp_path, features, said):
    made = {"image": jpeg((8, 8)), "label": 0, "objects": []}
    root = prepare(tmp_path, None, {"train": [made]}, features=features)
    with pytest.raises(DataError) as caught:
        tfds_boxes.read(WHERE, data_dir=root)
    assert said in str(caught.value)


def test_what_is_not_prepared(tmp_path):
    with pytest.raises(DataError, match="tfds build voc"):
        tfds_boxes.read("tfds:voc", data_dir=str(tmp_path))


def test_what_voc_calls_difficult_is_a_crowd(tmp_path):
    thing = {**BOX, "is_difficult": np.bool_}
    scene = {
        "image": jpeg((100, 60)),
        "image/id": 1,
        "note": "x",
        "objects": [
            {"bbox": bbox((100, 60), (10, 6, 33, 59, 2)), "label": 2, "is_difficult": hard} for hard in (False, True)
        ],
    }
    source = tfds_boxes.read(WHERE, data_dir=prepare(tmp_path, thing, {"train": [scene], "test": [scene]}))
    assert source.splits["train"].annotations["crowd"].tolist() == [[False, True]]
    assert source.rows.crowds == 2
