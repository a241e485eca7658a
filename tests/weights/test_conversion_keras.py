"""Networks of keras.applications and KerasHub, and our own models: converted, ours give the same."""

import keras
import numpy as np
import pytest
from converted import distance, features, logits, pyramid_with, random_pictures, shake_keras

from resnet_tasks import backbones
from resnet_tasks.classification import Classifier
from resnet_tasks.errors import DataError
from resnet_tasks.weights import files
from resnet_tasks.weights.conversion import candidates, convert

IMAGENET = np.array([[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]], np.float32)


def saved(model, path):
    model.save(path) if path.suffix == ".keras" else model.save_weights(path)
    return files.read(path)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".keras", ".weights.h5", ".h5"])
def test_keras_applications_v1(tmp_path, ending):
    """The stem is tapped too: its bias, epsilon and reversed channels would hide among the rest."""
    model = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=7, classifier_activation=None)
    shake_keras(model)
    path = tmp_path / f"peer{ending}"
    if ending == ".h5":
        model.save(path)
    checkpoint = files.read(path) if ending == ".h5" else saved(model, path)
    assert candidates(checkpoint) == ("resnet_50_v1",)
    conversion = convert(checkpoint, "resnet_50_v1")
    assert conversion.unused == ()
    pictures = random_pictures(64)
    layers = {"C1": "conv1_relu", "C2": "conv2_block3_out", "C5": "conv5_block3_out"}
    tapped = keras.Model(model.input, [*(model.get_layer(layer).output for layer in layers.values()), model.output])
    *expected, answer = map(np.asarray, tapped(keras.applications.resnet.preprocess_input(pictures.copy())))
    found = features(pyramid_with("resnet_50_v1", conversion), pictures)
    for level, feature in zip(layers, expected):
        assert distance(found[level], feature) < 1e-4
    assert distance(logits(found["C5"], conversion.head), answer) < 1e-4
    with pytest.raises(DataError, match=r"in the 1x1 convolution, and those of resnet_50 in the 3x3.*resnet_50_v1"):
        convert(checkpoint, "resnet_50")


@pytest.mark.slow
def test_keras_applications_v2_is_refused(tmp_path):
    checkpoint = saved(keras.applications.ResNet50V2(weights=None, include_top=False), tmp_path / "v2.weights.h5")
    with pytest.raises(DataError, match="in the last block of a stage"):
        convert(checkpoint, "resnet_50_v2")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "builder", "last"),
    [
        ("vgg_19", "VGG19", "block5_pool"),
        ("densenet_121", "DenseNet121", "relu"),
        ("efficientnet_b0", "EfficientNetB0", "top_activation"),
    ],
)
def test_other_keras_applications(tmp_path, name, builder, last):
    model = getattr(keras.applications, builder)(weights=None, include_top=False, input_shape=(64, 64, 3))
    shake_keras(model)
    if name.startswith("efficientnet"):
        normalization = model.get_layer("normalization")
        normalization.variables[0].assign(IMAGENET[0] / 255)
        normalization.variables[1].assign((IMAGENET[1] / 255) ** 2)
        normalization.finalize_state()  # it computes with copies of its variables
    conversion = convert(saved(model, tmp_path / "peer.weights.h5"), name)
    pictures = random_pictures(64)
    theirs = {
        "vgg_19": lambda: keras.applications.vgg19.preprocess_input(pictures.copy()),
        "densenet_121": lambda: keras.applications.densenet.preprocess_input(pictures.copy()),
        "efficientnet_b0": lambda: pictures,
    }[name]()
    expected = np.asarray(model(theirs))
    assert distance(features(pyramid_with(name, conversion), pictures)["C5"], expected) < 1e-4


HUB = {
    "resnet_18": {"block_type": "basic_block", "blocks": (2, 2, 2, 2)},
    "resnet_50": {"block_type": "bottleneck_block", "blocks": (3, 4, 6, 3)},
    "resnet_50_v2": {"block_type": "bottleneck_block", "blocks": (3, 4, 6, 3), "use_pre_activation": True},
    "resnet_50_d": {"block_type": "bottleneck_block_vd", "blocks": (3, 4, 6, 3), "stem": ([32, 32, 64], [3, 3, 3])},
}


@pytest.mark.peers
@pytest.mark.parametrize("name", HUB)
@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_keras_hub(tmp_path, name, ending):
    import keras_hub

    variant = dict(HUB[name])
    filters, kernels = variant.pop("stem", ([64], [7]))
    backbone = keras_hub.models.ResNetBackbone(
        filters, kernels, [64, 128, 256, 512], variant.pop("blocks"), [1, 2, 2, 2], **variant
    )
    model = keras_hub.models.ResNetImageClassifier(backbone, num_classes=5)
    shake_keras(model)
    checkpoint = saved(model, tmp_path / f"peer{ending}")
    assert candidates(checkpoint)[0] == name
    conversion = convert(checkpoint, name)
    assert (conversion.convention, conversion.unused) == ("KerasHub", ())
    pictures = random_pictures(64)
    mean, deviation = IMAGENET if conversion.standardise is None else np.float32(conversion.standardise)
    assert (conversion.standardise is None) == (name != "resnet_50_v2")
    seen = (pictures - mean) / deviation
    found = features(pyramid_with(name, conversion), pictures)
    assert distance(found["C5"], np.asarray(backbone(seen))) < 1e-4
    assert distance(logits(found["C5"], conversion.head), np.asarray(model(seen))) < 1e-4


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_our_own_classifier(tmp_path, ending):
    model = Classifier(backbone=backbones.create("resnet_20_cifar"), class_names=["a", "b", "c"], image_size=(32, 32))
    shake_keras(model)
    layer = model.backbone.get_layer("standardise")
    layer.scale, layer.offset = [1 / 50, 1 / 40, 1 / 30], [-2.0, -2.5, -3.0]
    checkpoint = saved(model, tmp_path / f"own{ending}")
    conversion = convert(checkpoint, "resnet_20_cifar")
    assert (conversion.convention, conversion.unused) == ("resnet_tasks", ())
    if ending == ".keras":
        assert np.allclose(conversion.standardise, [[100, 100, 90], [50, 40, 30]])
        with pytest.raises(DataError, match='"pad", and those of plain_20_cifar "none"'):
            convert(checkpoint, "plain_20_cifar")
        pictures = random_pictures(32)
        found = features(pyramid_with("resnet_20_cifar", conversion), pictures)
        assert distance(logits(found["C2"], conversion.head), np.asarray(model(pictures))) < 1e-4
    else:
        assert conversion.standardise is None  # weights alone cannot say


def test_our_own_backbone_and_another_name(tmp_path):
    pyramid = backbones.create("resnet_18")
    shake_keras(pyramid)
    checkpoint = saved(pyramid, tmp_path / "own.keras")
    assert candidates(checkpoint) == ("resnet_18",)
    converted = convert(checkpoint, "resnet_18").values
    assert all(np.array_equal(converted[v.path], np.asarray(v)) for v in pyramid.variables)
    with pytest.raises(DataError, match="they look like resnet_18"):
        convert(checkpoint, "resnet_34")
