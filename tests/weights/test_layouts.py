"""The layouts of the variables against the networks that the catalogue builds."""

import pytest

from resnet_tasks import backbones
from resnet_tasks.weights import layouts

SOME = ("resnet_18", "resnet_50_v2", "resnet_50_d", "resnext_50_32x4d", "se_resnet_50", "plain_18", "resnet_20_cifar")
SOME += ("iresnet_18", "vgg_19", "densenet_121", "efficientnet_b0")


def test_every_name_of_the_catalogue_has_a_layout():
    assert set(layouts.names()) == set(backbones.names())


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in SOME else pytest.mark.slow)
        for name in backbones.names()
        if name != "resnet_1202_cifar"
    ],
)
def test_a_layout_is_the_network_that_is_built(name):
    built = {v.path: tuple(v.shape) for v in backbones.create(name).variables if "seed_generator" not in v.path}
    assert built == layouts.layout(name)


@pytest.mark.parametrize(
    ("name", "path", "part"),
    [
        ("resnet_50", "stem_conv1_norm/gamma", "stem"),
        ("resnet_50", "stage1_block2_conv1/kernel", "stage 1 (C2)"),
        ("resnet_50_d", "stage4_block2_conv1/kernel", "stage 4 (C5)"),
        ("resnet_20_cifar", "stage1_block1_conv1/kernel", "stage 1 (C0)"),
        ("iresnet_18", "stage1_block1_conv1/kernel", "stage 1 (C1)"),
        ("iresnet_18", "stage4_block1_conv1/kernel", "stage 4 (C4)"),
        ("densenet_121", "pool2_conv/kernel", "block 3"),
        ("densenet_121", "conv1_bn/gamma", "stem"),
        ("densenet_121", "bn/gamma", "top"),
        ("efficientnet_b0", "block7a_bn/gamma", "block 7"),
    ],
)
def test_a_variable_belongs_to_a_part(name, path, part):
    assert layouts.part_of(name, path) == part
