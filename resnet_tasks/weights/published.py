"""Weights that their publishers offer at an address of their own, as one table.

Each figure is its publisher's: torchvision's from the weights' own metadata, timm's from its results on ImageNet's
validation pictures, Keras's from its page of applications, the CIFAR nets' from their README.  Left out on purpose:

- insightface's IResNets: published through sharing pages only, for non-commercial research; no address to fetch.
- ResNet-101 and -152 and all V2 nets of keras.applications: their strides lie elsewhere than those of the catalogue.
- KerasHub's presets: their `.weights.h5` names no layers; save the model as `.keras` and convert that.
"""

from dataclasses import dataclass, field

Triple = tuple[float, float, float]

BSD = "BSD-3-Clause"
APACHE = "Apache-2.0"
IMAGENET_RGB: tuple[Triple, Triple] = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
HALVES: tuple[Triple, Triple] = ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))

TORCHVISION = "https://download.pytorch.org/models/"
TIMM = "https://github.com/huggingface/pytorch-image-models/releases/download/"
TIMM_HUB = "https://huggingface.co/timm/"
KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/"
EFFICIENTNET = "https://storage.googleapis.com/keras-applications/"
CIFAR = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A file of weights and where it is.

    Attributes:
        backbone: The name in our catalogue that it fills.
        publisher: Who trained or distributes it, and which of theirs; with `backbone` the key.
        url: The publisher's address.
        sha256: The published hash or its published beginning, in hexadecimal; `None` if none is.
        md5: The same for publishers that give this one.
        megabytes: About how large the file is, in 10^6 bytes; `None` if not published.
        licence: What its publisher says of the weights, or of the repository they lie in.
        top1: Published accuracy in percent on `data`, one centre crop.
        data: What `top1` was measured on.
        standardise: Mean and deviation of RGB 0..255 that the net was trained with, where the file
            cannot tell; `None`: its naming convention's own.
        note: What a user should know before the choice.
    """

    backbone: str
    publisher: str
    url: str
    sha256: str | None = None
    md5: str | None = None
    megabytes: float | None = None
    licence: str
    top1: float | None
    data: str = "ImageNet"
    standardise: tuple[Triple, Triple] | None = None
    note: str = ""
    key: str = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "key", f"{self.backbone}.{self.publisher}")

    @property
    def file_name(self) -> str:
        """What the file is called on this machine."""
        ending = self.url.rpartition(".")[2]
        return f"{self.key}.{'pth' if ending == 'th' else ending}"


def _torchvision(backbone: str, file: str, top1: float, megabytes: float, note: str = "") -> Published:
    name, _, sha256 = file.rpartition("-")
    recipe = "v2" if name.endswith("+") else "v1"
    return Published(
        backbone=backbone,
        publisher=f"torchvision_{recipe}",
        url=f"{TORCHVISION}{name.rstrip('+')}-{sha256}.pth",
        sha256=sha256,
        megabytes=megabytes,
        licence=BSD,
        top1=top1,
        note=note,
    )


def _timm(backbone: str, recipe: str, file: str, top1: float, side: int) -> Published:
    """One of timm's release files, which end in the beginning of their sha256; `side`: of the pictures measured on."""
    return Published(
        backbone=backbone,
        publisher=f"timm_{recipe}",
        url=f"{TIMM}{file}.pth",
        sha256=file.rpartition("-")[2],
        licence=APACHE,
        top1=top1,
        note=f"measured at {side} pixels",
    )


def _keras(backbone: str, url: str, md5: str, top1: float, licence: str, megabytes: float | None = None) -> Published:
    return Published(
        backbone=backbone,
        publisher="keras",
        url=url,
        md5=md5,
        megabytes=megabytes,
        licence=licence,
        top1=top1,
        note="without the classifier",
    )


def _kernels(path: str) -> str:
    return f"{KERAS}{path}_weights_tf_dim_ordering_tf_kernels_notop.h5"


def _efficientnet(size: int, md5: str, top1: float) -> Published:
    url = f"{EFFICIENTNET}efficientnetb{size}_notop.h5"
    return _keras(f"efficientnet_b{size}", url, md5, top1, APACHE, 16.7 if size == 0 else None)


def _cifar(depth: int, sha256: str, error: float) -> Published:
    return Published(
        backbone=f"resnet_{depth}_cifar",
        publisher="akamaster",
        url=f"{CIFAR}resnet{depth}-{sha256}.th",
        sha256=sha256,
        licence="BSD-2-Clause",
        top1=round(100 - error, 2),
        data="CIFAR-10",
        standardise=IMAGENET_RGB,  # its trainer normalises CIFAR by ImageNet's figures
        note="trained on all 50,000 pictures, without a validation split",
    )


# A backbone's first row is what `imagenet` means for it.  A `+` marks torchvision's second recipe.
_ROWS = (
    _torchvision("resnet_18", "resnet18-f37072fd", 69.758, 46.8),
    _torchvision("resnet_34", "resnet34-b627a593", 73.314, 87.3),
    _torchvision("resnet_50", "resnet50+-11ad3fa6", 80.858, 102.5),
    _torchvision("resnet_50", "resnet50-0676ba61", 76.130, 102.5),
    _timm("resnet_50", "a1", "v0.1-rsb-weights/resnet50_a1_0-14fe96d1", 81.214, 288),
    _torchvision("resnet_101", "resnet101+-cd907fc2", 81.886, 178.8),
    _torchvision("resnet_101", "resnet101-63fe2227", 77.374, 178.8),
    _timm("resnet_101", "a1", "v0.1-rsb-weights/resnet101_a1_0-cdcb52a9", 82.322, 288),
    _torchvision("resnet_152", "resnet152+-f82ba261", 82.284, 241.7),
    _torchvision("resnet_152", "resnet152-394f9c45", 78.312, 241.6),
    _timm("resnet_152", "a2", "v0.1-rsb-weights/resnet152_a2_0-b4c6978f", 82.608, 288),
    _keras("resnet_50_v1", _kernels("resnet/resnet50"), "4d473c1dd8becc155b73f8504c6f6626", 74.9, "MIT", 94.8),
    Published(
        backbone="resnet_50_v2",
        publisher="timm_a1h",
        # The commit that added the file, so that it cannot change behind its name.
        url=f"{TIMM_HUB}resnetv2_50.a1h_in1k/resolve/dcfd4fecb72889c1ce9fd9f7e5b75f8043889864/model.safetensors",
        licence=APACHE,
        top1=81.398,
        standardise=HALVES,
        note="measured at 288 pixels",
    ),
    _timm("resnet_50_d", "ra2", "v0.1-weights/resnet50d_ra2-464e36ba", 81.356, 288),
    _timm("resnet_50_d", "a1", "v0.1-rsb-weights/resnet50d_a1_0-e20cff14", 81.450, 288),
    _torchvision("resnext_50_32x4d", "resnext50_32x4d+-1a0047aa", 81.198, 100.5),
    _torchvision("resnext_50_32x4d", "resnext50_32x4d-7cdf4587", 77.618, 100.4),
    _timm("resnext_50_32x4d", "a1h", "v0.1-rsb-weights/resnext50_32x4d_a1h-0146ab0a", 82.014, 288),
    _torchvision("resnext_101_32x8d", "resnext101_32x8d+-110c445d", 82.834, 356.2),
    _torchvision("resnext_101_32x8d", "resnext101_32x8d-8ba56ff5", 79.312, 356.1),
    _torchvision("wide_resnet_50_2", "wide_resnet50_2+-9ba9bcbe", 81.602, 275.9),
    _torchvision("wide_resnet_50_2", "wide_resnet50_2-95faca4d", 78.468, 138.2, "stored as float16"),
    _timm("wide_resnet_50_2", "racm", "v0.1-weights/wide_resnet50_racm-8234f177", 82.280, 288),
    _timm("se_resnet_50", "ra2", "v0.1-weights/seresnet50_ra_224-8efdb4bb", 81.284, 288),
    _timm("se_resnet_50", "a1", "v0.1-rsb-weights/seresnet50_a1_0-ffa00869", 81.102, 288),
    _keras("vgg_19", _kernels("vgg19/vgg19"), "253f8cb515780f3b799900260a226db6", 71.3, "CC-BY-4.0"),
    _keras("densenet_121", _kernels("densenet/densenet121"), "30ee3e1110167f948a6b9946edeeb738", 75.0, BSD),
    _keras("densenet_169", _kernels("densenet/densenet169"), "b8c4d4c20dd625c148057b9ff1c1176b", 76.2, BSD),
    _keras("densenet_201", _kernels("densenet/densenet201"), "c13680b51ded0fb44dff2d8f86ac8bb1", 77.3, BSD),
    _efficientnet(0, "50bc09e76180e00e4465e1a485ddc09d", 77.1),
    _efficientnet(1, "74c4e6b3e1f6a1eea24c589628592432", 79.1),
    _efficientnet(2, "111f8e2ac8aa800a7a99e3239f7bfb39", 80.1),
    _efficientnet(3, "af6d107764bb5b1abb91932881670226", 81.6),
    _efficientnet(4, "ebc24e6d6c33eaebbd558eafbeedf1ba", 82.9),
    _efficientnet(5, "38879255a25d3c92d5e44e04ae6cec6f", 83.6),
    _efficientnet(6, "9ecce42647a20130c1f39a5d4cb75743", 84.0),
    _efficientnet(7, "cbcfe4450ddf6f3ad90b1b398090fe4a", 84.3),
    _cifar(20, "12fca82f", 8.27),
    _cifar(32, "d509ac18", 7.37),
    _cifar(44, "014dd654", 6.90),
    _cifar(56, "4bfd9763", 6.61),
    _cifar(110, "1d1ed7c2", 6.32),
    _cifar(1202, "f3b1deed", 6.18),
)
NAMED = {row.key: row for row in _ROWS}
