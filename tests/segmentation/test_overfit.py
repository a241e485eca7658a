"""Each segmenter, with a real backbone, learns eight real pictures by heart through the engine."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from resnet_tasks.data.examples import LabelMap
from resnet_tasks.data.readers.segmentation import read_segmentation
from resnet_tasks.engine.evaluate import Evaluator
from resnet_tasks.engine.run_folder import RunFolder
from resnet_tasks.engine.settings import TrainSettings
from resnet_tasks.engine.train import Trainer
from resnet_tasks.segmentation.task import Segmentation, SegmentationSettings

PICTURES = 8
HEADS = {
    "unet": {"decoder_channels": [64, 48, 32, 24, 16]},
    "deeplab_v3_plus": {"channels": 64},
    "semantic_fpn": {"channels": 64, "head_channels": 48, "norm": "batch"},
}
# The others are a few pixels wide, less than the stride of two of the three.
WIDE = ("sky", "building", "road", "pavement", "tree", "car")


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("segmenter", HEADS)
def test_eight_street_scenes_are_learnt_by_heart(segmenter, data_root, tmp_path):
    source = read_segmentation(str(data_root / "camvid"))
    few = source.splits["train"].subset(np.arange(0, 8 * PICTURES, 8))
    source = replace(source, splits={"train": replace(few, name="train")})
    settings = SegmentationSettings(
        segmenter=segmenter,
        head=HEADS[segmenter],
        backbone="resnet_18",
        output_stride=16 if segmenter == "deeplab_v3_plus" else 32,
        image_size=(384, 480),
        cache="ram",
        batch_size=4,
        evaluation_batch_size=4,
    )
    known = replace(source, labels=LabelMap(WIDE))
    thin = {name: "ignore" for name in source.labels.names if name not in WIDE}
    task = Segmentation(known, settings).matched(source, thin)
    training = TrainSettings(epochs=90, batch_size=4, lr=2e-3, optimizer="adamw", warmup_epochs=2, clip_norm=10.0)
    trainer = Trainer(task, training, RunFolder(tmp_path / "run"), tf.distribute.get_strategy())
    trainer.run()
    measured = Evaluator(task, trainer.model, tf.distribute.get_strategy(), "train").run()
    assert measured["images"] == PICTURES
    assert measured["mIoU"] >= 0.95
