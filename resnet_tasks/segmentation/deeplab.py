"""DeepLabV3+: wide views by dilated convolutions, sharpened by one fine level.  Chen et al. 2018, arXiv 1802.02611."""

from collections.abc import Mapping, Sequence

import keras
from keras import layers

from resnet_tasks.backbones.residual import conv, norm_relu
from resnet_tasks.backbones.specs import Norm
from resnet_tasks.model import Pyramid
from resnet_tasks.segmentation.segmenter import (
    DEFAULT_LOSSES,
    Segmenter,
    classify_pixels,
    convolve,
    enlarge,
    require_names,
)

FINE = 4  # the stride of the level that the decoder reads, C2


@keras.saving.register_keras_serializable("resnet_tasks")
class DeepLabV3Plus(Segmenter):
    """An atrous spatial pyramid on the coarsest level; with `low_level=False` DeepLabV3 (arXiv 1706.05587).

    Args:
        backbone: A `Pyramid`, best of output stride 16 or 8.
        class_names: Names in the order of the ids 0, 1, ...
        source_ids: The source's own ids in the same order, or empty.
        colors: RGB in 0..255 in the same order, or empty.
        image_size: `(height, width)` of the canvas that pictures are brought to.
        rates: Dilations of the pyramid's 3x3 convolutions; if not given, as published: 6, 12, 18 at output stride 16,
            twice these at 8, and so on, so that they reach as far in the picture.
        channels: Of pyramid and decoder.
        low_level: The decoder of DeepLabV3+.
        low_level_channels: What the fine level is reduced to.
        aux: A second head, on the last level but one, that only training reads: a 3x3 convolution to a quarter of the
            level's channels, and the classes.
        aux_weight: Of that head's losses.
        dropout: Probability behind the pyramid.
        norm: Of the head: "batch" or "group".  A batch norm of the picture's mean features needs several pictures.
        losses: See `Segmenter`.
        class_weights: See `Segmenter`.
        name: The model's name.
    """

    def __init__(
        self,
        *,
        backbone: Pyramid,
        class_names: Sequence[str],
        source_ids: Sequence = (),
        colors: Sequence[Sequence[int]] = (),
        image_size: Sequence[int] = (512, 512),
        rates: Sequence[int] | None = None,
        channels: int = 256,
        low_level: bool = True,
        low_level_channels: int = 48,
        aux: bool = False,
        aux_weight: float = 0.5,
        dropout: float = 0.0,
        norm: Norm = "batch",
        losses: Mapping[str, float] = DEFAULT_LOSSES,
        class_weights: Sequence[float] | None = None,
        name: str = "deeplab_v3_plus",
    ):
        require_names(class_names)
        x = _pyramid(backbone, rates, channels, dropout, norm)
        x, stride = _decoded(x, backbone, channels, low_level_channels if low_level else None, norm)
        outputs = {"logits": classify_pixels(x, len(class_names), 1, stride=stride)}
        if aux:
            outputs["aux"] = _auxiliary(backbone, len(class_names), norm)
        super().__init__(
            backbone.input,
            outputs,
            backbone=backbone,
            class_names=class_names,
            source_ids=source_ids,
            colors=colors,
            image_size=image_size,
            losses=losses,
            class_weights=class_weights,
            settings={
                "rates": None if rates is None else list(rates),
                "channels": channels,
                "low_level": low_level,
                "low_level_channels": low_level_channels,
                "aux": aux,
                "aux_weight": aux_weight,
                "dropout": dropout,
                "norm": norm,
            },
            aux_weight=aux_weight,
            name=name,
        )


def _coarsest_stride(backbone: Pyramid) -> int:
    return backbone.strides[list(backbone.output)[-1]]


def _pyramid(backbone: Pyramid, rates: Sequence[int] | None, channels: int, dropout: float, norm: Norm):
    """Views of several widths and of the whole picture, of `channels`."""
    x = list(backbone.output.values())[-1]
    if rates is None:
        rates = [max(1, reach // _coarsest_stride(backbone)) for reach in (96, 192, 288)]
    views = [convolve(x, channels, 1, norm, name="pyramid_point")]
    for index, rate in enumerate(rates, 1):
        views.append(convolve(x, channels, 3, norm, dilation=rate, name=f"pyramid_atrous{index}"))
    whole = layers.GlobalAveragePooling2D(keepdims=True, name="pyramid_mean")(x)
    whole = convolve(whole, channels, 1, norm, name="pyramid_whole")
    # The published network lays the mean out over all pixels, beside the views, and convolves them 1x1.  The sum of
    # two convolutions is the same with less to do.
    x = layers.Concatenate(name="pyramid_concat")(views)
    x = conv(x, channels, 1, name="pyramid_project_views")
    whole = conv(whole, channels, 1, name="pyramid_project_whole")
    x = layers.Add(name="pyramid_project_add")([x, whole])
    x = norm_relu(x, "pyramid_project", norm)
    return layers.Dropout(dropout, name="pyramid_dropout")(x) if dropout else x


def _decoded(x, backbone: Pyramid, channels: int, low_level_channels: int | None, norm: Norm):
    """What the classes are told by, and its stride: sharpened by a fine level if it gives some channels."""
    if low_level_channels is None:
        return convolve(x, channels, 3, norm, name="head_conv"), _coarsest_stride(backbone)
    return _sharpened(x, backbone, channels, low_level_channels, norm)


def _sharpened(x, backbone: Pyramid, channels: int, low_level_channels: int, norm: Norm):
    """The decoder of DeepLabV3+; returns its features and their stride."""
    stride = _coarsest_stride(backbone)
    finer = [key for key, one in backbone.strides.items() if one < stride]
    if not finer:
        raise ValueError(f"{backbone.name} has no level finer than its last, of stride {stride}; write low_level=False")
    chosen = [key for key in finer if backbone.strides[key] <= FINE][-1:] or finer[:1]
    fine = convolve(backbone.output[chosen[0]], low_level_channels, 1, norm, name="low_level")
    x = enlarge(x, stride // backbone.strides[chosen[0]], "decoder_up")
    x = layers.Concatenate(name="decoder_concat")([x, fine])
    for index in (1, 2):
        x = convolve(x, channels, 3, norm, name=f"decoder_conv{index}")
    return x, backbone.strides[chosen[0]]


def _auxiliary(backbone: Pyramid, classes: int, norm: Norm):
    """torchvision's, of Long et al. 2015, arXiv 1411.4038: logits of full size."""
    if len(backbone.output) < 2:
        raise ValueError(f"{backbone.name} has one level only; write aux=False")
    key = list(backbone.output)[-2]
    x = backbone.output[key]
    x = convolve(x, max(2, x.shape[-1] // 4), 3, norm, name="aux_conv")
    return classify_pixels(x, classes, 1, stride=backbone.strides[key], name="aux")
