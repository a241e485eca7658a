"""Overlaps, suppression and RoIAlign, equal to torchvision's operators.

torchvision answers from a process of its own: some builds of torch end one that holds TensorFlow.
"""

import subprocess
import sys

import numpy as np
import pytest
from keras import ops

from resnet_tasks.geometry.overlap import iou, paired_ciou, paired_giou
from resnet_tasks.geometry.roi_align import roi_align
from resnet_tasks.geometry.suppression import suppress

pytestmark = pytest.mark.peers

STRIDES = {"P2": 4, "P3": 8, "P4": 16, "P5": 32}
ASK = """
import sys, numpy, torch, torchvision.ops as tv
given = {k: torch.from_numpy(v) for k, v in numpy.load(sys.argv[1]).items()}
a, b, scores = given["a"], given["b"], given["scores"]
answers = {"iou": tv.box_iou(a, b), "giou": tv.generalized_box_iou(a, b).diagonal(),
           "ciou": tv.complete_box_iou(a, b).diagonal()}
for threshold in (0.3, 0.5, 0.7):
    answers[f"nms{threshold}"] = tv.nms(a, scores, threshold)
levels = {k: v.permute(0, 3, 1, 2).contiguous().requires_grad_() for k, v in given.items() if k[0] == "P"}
for aligned in (False, True):
    one = tv.roi_align(levels["P3"], list(given["rois"]), 7, 1 / 8, 2, aligned=aligned)
    answers[f"roi{aligned}"] = one.permute(0, 2, 3, 1).detach()
pool = tv.MultiScaleRoIAlign(list(levels), 7, 2)
pooled = pool(levels, list(given["rois"]), [(256, 256)] * 2).permute(0, 2, 3, 1)
answers["multiscale"] = pooled.detach()
(pooled * given["weight"]).sum().backward()
answers |= {f"slope{k}": v.grad.permute(0, 2, 3, 1) for k, v in levels.items()}
numpy.savez(sys.argv[2], **{k: v.numpy() for k, v in answers.items()})
"""


def boxes_of(random, *shape, most=200.0):
    corner = random.uniform(-20, 256, (*shape, 2))
    return np.concatenate([corner, corner + np.exp(random.uniform(0, np.log(most), corner.shape))], -1).astype(
        "float32"
    )


@pytest.fixture(scope="module")
def given() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    given = {"a": boxes_of(random, 500), "b": boxes_of(random, 500)}
    given |= {"scores": np.linspace(1, 0, 500, dtype=np.float32)}
    given |= {"rois": boxes_of(random, 2, 64, most=2000.0), "weight": random.normal(size=(128, 7, 7, 8)).astype("f")}
    features = {k: random.uniform(-1, 1, (2, 256 // s, 256 // s, 8)).astype("float32") for k, s in STRIDES.items()}
    return given | features


@pytest.fixture(scope="module")
def theirs(given, tmp_path_factory) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("torchvision")
    np.savez(folder / "given.npz", **given)
    subprocess.run([sys.executable, "-c", ASK, folder / "given.npz", folder / "answers.npz"], check=True)
    return dict(np.load(folder / "answers.npz"))


def levels_of(given):
    return {level: given[level] for level in STRIDES}


def test_overlaps(given, theirs):
    a, b = given["a"], given["b"]
    np.testing.assert_allclose(iou(a, b), theirs["iou"], atol=1e-6)
    np.testing.assert_allclose(paired_giou(a, b), theirs["giou"], atol=1e-5)
    np.testing.assert_allclose(paired_ciou(a, b), theirs["ciou"], atol=1e-5)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_suppression(given, theirs, threshold):
    """Theirs lists places, the best first; ours says yes or no of each, and the boxes stand by score already."""
    valid = np.ones((1, 500), bool)
    kept = ops.convert_to_numpy(suppress(given["a"][None], threshold, valid))[0]
    np.testing.assert_array_equal(np.flatnonzero(kept), theirs[f"nms{threshold}"])


@pytest.mark.parametrize("aligned", [False, True])
def test_roi_align_of_one_level(given, theirs, aligned):
    read = roi_align({"P3": given["P3"]}, given["rois"], STRIDES, 7, 2, aligned=aligned)
    np.testing.assert_allclose(ops.reshape(read, (128, 7, 7, 8)), theirs[f"roi{aligned}"], atol=1e-5)


def test_roi_align_of_a_pyramid(given, theirs):
    """All of it: levels by size, and the gradient to each level."""
    read = roi_align(levels_of(given), given["rois"], STRIDES, 7, 2, aligned=False)
    np.testing.assert_allclose(ops.reshape(read, (128, 7, 7, 8)), theirs["multiscale"], atol=1e-5)


@pytest.mark.parametrize("level", STRIDES)
def test_gradient_of_roi_align(given, theirs, level, gradient):
    def weighed(feature):
        features = {**levels_of(given), level: feature}
        return roi_align(features, given["rois"], STRIDES, aligned=False) * given["weight"].reshape(2, 64, 7, 7, 8)

    assert np.abs(theirs[f"slope{level}"]).max() > 0.1
    np.testing.assert_allclose(gradient(weighed, given[level]), theirs[f"slope{level}"], atol=1e-4)
