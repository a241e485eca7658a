"""What tells one network from another: specs and one table, as data.

    v1    He et al. 2015   https://arxiv.org/abs/1512.03385   stride in the 1x1
    v1.5  Gross & Wilber   torchvision, NVIDIA, timm          stride in the 3x3
    v2    He et al. 2016   https://arxiv.org/abs/1603.05027   norm and ReLU come first
    D     He et al. 2018   https://arxiv.org/abs/1812.01187   deep stem, pooled shortcut
    X     Xie et al. 2016  https://arxiv.org/abs/1611.05431   grouped 3x3
    wide  Zagoruyko 2016   https://arxiv.org/abs/1605.07146   3x3 of twice the channels
    SE    Hu et al. 2017   https://arxiv.org/abs/1709.01507   channel gates

Beside it stand insightface's variant, and three older or younger families as `keras.applications` builds them.

Imports no Keras, so that names can be listed and recipes checked at once.
"""

from dataclasses import dataclass, replace
from typing import Literal

Norm = Literal["batch", "group"]


@dataclass(frozen=True, kw_only=True)
class ResNetSpec:
    """What tells one residual network from another.

    Attributes:
        depths: Blocks in each stage, finest stage first.
        block: "basic" is two 3x3 convolutions; "bottleneck" is 1x1, 3x3, 1x1 and leaves four
            times its width.
        stem: "imagenet" is a 7x7 and a pool, stride 4; "deep" is three 3x3 and the pool,
            stride 4; "cifar" is one 3x3, stride 1.
        width: Channels of the first stage, before a bottleneck's expansion.
        groups: Groups of a bottleneck's 3x3 (ResNeXt's cardinality).
        group_width: Channels of one group in the first stage; `None` keeps `width` in all.
        stride_in: Which convolution of a bottleneck downsamples: v1's 1x1 or v1.5's 3x3.
        pre_activation: Norm and ReLU before each convolution rather than after (v2).
        shortcut: How a shortcut takes on a branch's new shape: "project" by a 1x1 convolution
            (option B of the paper's section 4.1), "pool" averages before it where it
            downsamples (D), "pad" drops pixels and adds channels of zeros, without parameters
            (option A).  "none" leaves F alone: the plain networks He et al. compare with.
        last_gamma: A branch's last norm scale at the start: "zeros" makes each block the
            identity (Goyal et al. 2017, section 5.1), "ones" is He et al.'s.
        se_ratio: Squeeze-and-excitation's hidden width over its input; 0 for none.
        norm: "batch", or "group" (Wu & He 2018) for batches too small to normalise by.
    """

    depths: tuple[int, ...]
    block: Literal["basic", "bottleneck"] = "bottleneck"
    stem: Literal["imagenet", "deep", "cifar"] = "imagenet"
    width: int = 64
    groups: int = 1
    group_width: int | None = None
    stride_in: Literal["1x1", "3x3"] = "3x3"
    pre_activation: bool = False
    shortcut: Literal["project", "pool", "pad", "none"] = "project"
    last_gamma: Literal["zeros", "ones"] = "zeros"
    se_ratio: float = 0.0
    norm: Norm = "batch"

    @property
    def levels(self) -> tuple[str, ...]:
        """The keys of the pyramid, finest first; level `l` has stride `2**l`."""
        if self.stem == "cifar":
            return tuple(f"C{level}" for level in range(len(self.depths)))
        return tuple(f"C{level}" for level in range(1, len(self.depths) + 2))  # C1 is the stem


@dataclass(frozen=True, kw_only=True)
class IResNetSpec:
    """insightface's residual network for faces; `depths` and `norm` as in `ResNetSpec`."""

    depths: tuple[int, ...]
    norm: Norm = "batch"

    @property
    def levels(self) -> tuple[str, ...]:
        """The keys of the pyramid, finest first; level `l` has stride `2**l`."""
        return tuple(f"C{level}" for level in range(len(self.depths) + 1))  # C0 is the stem


@dataclass(frozen=True, kw_only=True)
class ApplicationSpec:
    """A network of `keras.applications`, and where it is tapped.

    Attributes:
        builder: The function's name there.
        taps: The layer behind each level, finest first: what the network reads last before it halves the resolution.
        finest: The finest level; of VGG 0, the picture's own resolution.
        mean: Of RGB 0..255, as the published weights were trained with.
        deviation: Likewise; ones where they were trained without.
        bgr: The published weights read blue first.
        norms: Whether it has batch norms.
    """

    builder: str
    taps: tuple[str, ...]
    finest: int = 1
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)  # torchvision
    deviation: tuple[float, float, float] = (58.395, 57.12, 57.375)
    bgr: bool = False
    norms: bool = True

    @property
    def levels(self) -> tuple[str, ...]:
        """The keys of the pyramid, finest first; level `l` has stride `2**l`."""
        return tuple(f"C{level}" for level in range(self.finest, self.finest + len(self.taps)))


@dataclass(frozen=True)
class Entry:
    """A row of the catalogue.

    Attributes:
        spec: What to build.
        parameters: The published number of trainable parameters, without a classifier; the
            tests hold every network to it.
        paper: Where it is described.
    """

    spec: ResNetSpec | IResNetSpec | ApplicationSpec
    parameters: int
    paper: str


V1 = "https://arxiv.org/abs/1512.03385"
V2 = "https://arxiv.org/abs/1603.05027"
D = "https://arxiv.org/abs/1812.01187"
RESNEXT = "https://arxiv.org/abs/1611.05431"
WIDE = "https://arxiv.org/abs/1605.07146"
SE = "https://arxiv.org/abs/1709.01507"
ARCFACE = "https://arxiv.org/abs/1801.07698"
VGG = "https://arxiv.org/abs/1409.1556"
DENSENET = "https://arxiv.org/abs/1608.06993"
EFFICIENTNET = "https://arxiv.org/abs/1905.11946"

RESNET_18 = ResNetSpec(depths=(2, 2, 2, 2), block="basic")
RESNET_34 = ResNetSpec(depths=(3, 4, 6, 3), block="basic")
RESNET_50 = ResNetSpec(depths=(3, 4, 6, 3))
RESNET_101 = ResNetSpec(depths=(3, 4, 23, 3))
RESNET_152 = ResNetSpec(depths=(3, 8, 36, 3))


def _plain(spec: ResNetSpec) -> ResNetSpec:
    # Without a shortcut a last gamma of zero would let nothing through.
    return replace(spec, shortcut="none", last_gamma="ones")


def _cifar(depth: int) -> ResNetSpec:
    """The paper's section 4.2: 6n + 2 layers, n blocks in each of three stages."""
    blocks = (depth - 2) // 6
    return ResNetSpec(
        depths=(blocks,) * 3,
        block="basic",
        stem="cifar",
        width=16,
        shortcut="pad",
        last_gamma="ones",
    )


def _densenet(depth: int) -> ApplicationSpec:
    # A dense block ends in a bare concatenation: as of v2, a feature is taken after the norm and ReLU that read it.
    taps = ("conv1_relu", "pool2_relu", "pool3_relu", "pool4_relu", "relu")
    return ApplicationSpec(builder=f"DenseNet{depth}", taps=taps)


def _efficientnet(scale: int) -> ApplicationSpec:
    # Stages 2, 3, 4 and 6 begin by expanding the channels at the old resolution.
    taps = (*(f"block{stage}a_expand_activation" for stage in (2, 3, 4, 6)), "top_activation")
    return ApplicationSpec(builder=f"EfficientNetB{scale}", taps=taps)


VGG_19 = ApplicationSpec(
    builder="VGG19",
    taps=("block1_conv2", "block2_conv2", "block3_conv4", "block4_conv4", "block5_conv4", "block5_pool"),
    finest=0,
    mean=(123.68, 116.779, 103.939),  # Caffe
    deviation=(1.0, 1.0, 1.0),
    bgr=True,
    norms=False,
)

CATALOG = {
    "resnet_18": Entry(RESNET_18, 11_176_512, V1),
    "resnet_34": Entry(RESNET_34, 21_284_672, V1),
    "resnet_50": Entry(RESNET_50, 23_508_032, V1),
    "resnet_101": Entry(RESNET_101, 42_500_160, V1),
    "resnet_152": Entry(RESNET_152, 58_143_808, V1),
    "resnet_50_v1": Entry(replace(RESNET_50, stride_in="1x1"), 23_508_032, V1),
    "resnet_50_v2": Entry(replace(RESNET_50, pre_activation=True), 23_500_352, V2),
    "resnet_50_d": Entry(replace(RESNET_50, stem="deep", shortcut="pool"), 23_527_264, D),
    "resnext_50_32x4d": Entry(replace(RESNET_50, groups=32, group_width=4), 22_979_904, RESNEXT),
    "resnext_101_32x8d": Entry(replace(RESNET_101, groups=32, group_width=8), 86_742_336, RESNEXT),
    "wide_resnet_50_2": Entry(replace(RESNET_50, group_width=128), 66_834_240, WIDE),
    "se_resnet_50": Entry(replace(RESNET_50, se_ratio=1 / 16), 26_039_024, SE),
    "plain_18": Entry(_plain(RESNET_18), 11_002_688, V1),
    "plain_34": Entry(_plain(RESNET_34), 21_110_848, V1),
    "resnet_20_cifar": Entry(_cifar(20), 269_072, V1),
    "resnet_32_cifar": Entry(_cifar(32), 463_504, V1),
    "resnet_44_cifar": Entry(_cifar(44), 657_936, V1),
    "resnet_56_cifar": Entry(_cifar(56), 852_368, V1),
    "resnet_110_cifar": Entry(_cifar(110), 1_727_312, V1),
    "resnet_1202_cifar": Entry(_cifar(1202), 19_420_624, V1),
    "plain_20_cifar": Entry(_plain(_cifar(20)), 269_072, V1),
    "plain_32_cifar": Entry(_plain(_cifar(32)), 463_504, V1),
    "plain_44_cifar": Entry(_plain(_cifar(44)), 657_936, V1),
    "plain_56_cifar": Entry(_plain(_cifar(56)), 852_368, V1),
    "plain_110_cifar": Entry(_plain(_cifar(110)), 1_727_312, V1),
    "iresnet_18": Entry(IResNetSpec(depths=(2, 2, 2, 2)), 11_177_984, ARCFACE),
    "iresnet_34": Entry(IResNetSpec(depths=(3, 4, 6, 3)), 21_291_712, ARCFACE),
    "iresnet_50": Entry(IResNetSpec(depths=(3, 4, 14, 3)), 30_743_232, ARCFACE),
    "iresnet_100": Entry(IResNetSpec(depths=(3, 13, 30, 3)), 52_308_544, ARCFACE),
    "vgg_19": Entry(VGG_19, 20_024_384, VGG),
    "densenet_121": Entry(_densenet(121), 6_953_856, DENSENET),
    "densenet_169": Entry(_densenet(169), 12_484_480, DENSENET),
    "densenet_201": Entry(_densenet(201), 18_092_928, DENSENET),
    "efficientnet_b0": Entry(_efficientnet(0), 4_007_548, EFFICIENTNET),
    "efficientnet_b1": Entry(_efficientnet(1), 6_513_184, EFFICIENTNET),
    "efficientnet_b2": Entry(_efficientnet(2), 7_700_994, EFFICIENTNET),
    "efficientnet_b3": Entry(_efficientnet(3), 10_696_232, EFFICIENTNET),
    "efficientnet_b4": Entry(_efficientnet(4), 17_548_616, EFFICIENTNET),
    "efficientnet_b5": Entry(_efficientnet(5), 28_340_784, EFFICIENTNET),
    "efficientnet_b6": Entry(_efficientnet(6), 40_735_704, EFFICIENTNET),
    "efficientnet_b7": Entry(_efficientnet(7), 63_786_960, EFFICIENTNET),
}
