"""DeepLabV3 with torchvision's random weights answers as torchvision's does."""

import keras
import numpy as np
import pytest
from other_process import computed

from resnet_tasks import backbones
from resnet_tasks.segmentation import DeepLabV3Plus

TORCH = """
import sys
import torch
from torchvision.models.segmentation import deeplabv3_resnet50
from torch_peers import IMAGENET, shaken
model = shaken(deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=5, aux_loss=True))
mean, deviation = (torch.tensor(values)[:, None, None] for values in IMAGENET)
with torch.no_grad():
    seen = (torch.from_numpy(given["images"]).permute(0, 3, 1, 2) - mean) / deviation
    for name, value in model(seen).items():
        answer[name] = value.permute(0, 2, 3, 1).numpy()
torch.save(model.backbone.state_dict(), str(given["backbone"]))
for name, value in model.state_dict().items():
    if not name.startswith("backbone") and not name.endswith("num_batches_tracked"):
        answer[f"weight {name}"] = value.permute(2, 3, 1, 0).numpy() if value.ndim == 4 else value.numpy()
"""
# Our convolution, and torchvision's with its norm.
LAYERS = {
    "pyramid_point": ("classifier.0.convs.0.0", "classifier.0.convs.0.1"),
    "pyramid_atrous1": ("classifier.0.convs.1.0", "classifier.0.convs.1.1"),
    "pyramid_atrous2": ("classifier.0.convs.2.0", "classifier.0.convs.2.1"),
    "pyramid_atrous3": ("classifier.0.convs.3.0", "classifier.0.convs.3.1"),
    "pyramid_whole": ("classifier.0.convs.4.1", "classifier.0.convs.4.2"),
    "head_conv": ("classifier.1", "classifier.2"),
    "aux_conv": ("aux_classifier.0", "aux_classifier.1"),
}
LAST = {"logits": "classifier.4", "aux": "aux_classifier.4"}
NORM = ("weight", "bias", "running_mean", "running_var")


def take_over(model: keras.Model, theirs: dict) -> None:
    def norm(name: str, source: str) -> None:
        model.get_layer(f"{name}_norm").set_weights([theirs[f"weight {source}.{part}"] for part in NORM])

    for name, (convolution, source) in LAYERS.items():
        model.get_layer(name).set_weights([theirs[f"weight {convolution}.weight"]])
        norm(name, source)
    projection = theirs["weight classifier.0.project.0.weight"]
    model.get_layer("pyramid_project_views").set_weights([projection[:, :, :1024]])
    model.get_layer("pyramid_project_whole").set_weights([projection[:, :, 1024:]])
    norm("pyramid_project", "classifier.0.project.1")
    for name, source in LAST.items():
        model.get_layer(name).set_weights([theirs[f"weight {source}.{part}"] for part in ("weight", "bias")])


@pytest.mark.peers
def test_deeplab_answers_as_torchvisions(tmp_path):
    images = np.random.default_rng(0).uniform(0, 255, (2, 64, 96, 3)).astype(np.float32)
    file = tmp_path / "backbone.pth"
    theirs = computed(TORCH, {"images": images, "backbone": np.array(str(file))})
    backbone = backbones.create("resnet_50", weights=str(file), output_stride=8)
    model = DeepLabV3Plus(backbone=backbone, class_names=list("abcde"), low_level=False, aux=True)
    take_over(model, theirs)
    found = model(images)
    for ours, name in (("logits", "out"), ("aux", "aux")):
        spread = theirs[name].std()
        assert spread > 0.01
        np.testing.assert_allclose(found[ours], theirs[name], rtol=0, atol=1e-3 * spread, err_msg=ours)
