"""Each detector, with a real backbone, learns eight real pictures by heart through the engine."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from resnet_tasks.data.readers.detection import read_detection
from resnet_tasks.detection.task import Detection, DetectionSettings
from resnet_tasks.engine.evaluate import Evaluator
from resnet_tasks.engine.run_folder import RunFolder
from resnet_tasks.engine.settings import TrainSettings
from resnet_tasks.engine.train import Trainer

PICTURES = 8
HEADS = {
    "retinanet": {"channels": 64, "head_depth": 1, "norm": "batch", "box_loss": "giou"},
    "faster_rcnn": {
        "channels": 64,
        "width": 128,
        "norm": "batch",
        "before": 200,
        "proposals": 150,
        "drawn": 128,
        "regions": 64,
    },
    "yolo": {"channels": 64, "head_depth": 1},
}


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("detector", HEADS)
def test_eight_blood_smears_are_learnt_by_heart(detector, data_root, tmp_path):
    source = read_detection(str(data_root / "bccd"))
    few = source.splits["train"].subset(np.arange(PICTURES))
    source = replace(source, splits={"train": replace(few, name="train")})
    settings = DetectionSettings(
        detector=detector, head=HEADS[detector], backbone="resnet_18", image_size=(256, 320), cache="ram", batch_size=4
    )
    task = Detection(source, settings)
    training = TrainSettings(epochs=60, batch_size=4, lr=1e-3, optimizer="adamw", warmup_epochs=2, clip_norm=10.0)
    trainer = Trainer(task, training, RunFolder(tmp_path / "run"), tf.distribute.get_strategy())
    trainer.run()
    measured = Evaluator(task, trainer.model, tf.distribute.get_strategy(), "train").run()
    assert measured["images"] == PICTURES
    assert measured["AP50"] >= 0.95
