"""U-Net: back to full size step by step, with the backbone's finer levels.  Ronneberger et al. 2015, arXiv 1505.04597.

In the layout that the package segmentation_models gave it on pretrained backbones: doubling by repetition instead of
transposed convolutions, "same" padding, norms, and narrower levels.
"""

from collections.abc import Mapping, Sequence

import keras
from keras import layers

from resnet_tasks.backbones.specs import Norm
from resnet_tasks.model import Pyramid
from resnet_tasks.segmentation.segmenter import DEFAULT_LOSSES, Segmenter, classify_pixels, convolve, require_names

SKIP_CHANNELS = 16  # of the skip from the picture itself


@keras.saving.register_keras_serializable("resnet_tasks")
class UNet(Segmenter):
    """A block for each level of the backbone but the coarsest, and one more where the finest is not of full size.

    Args:
        backbone: A `Pyramid`; all of its levels are read.
        class_names: Names in the order of the ids 0, 1, ...
        source_ids: The source's own ids in the same order, or empty.
        colors: RGB in 0..255 in the same order, or empty.
        image_size: `(height, width)` of the canvas that pictures are brought to.
        decoder_channels: Of each block, the finest last; of more than there are blocks, the last ones.
        full_resolution_skip: Gives the last block a skip from the picture too, where the backbone has no level of
            full size.  Published without.
        norm: Of the decoder: "batch" or "group".
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
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
        full_resolution_skip: bool = False,
        norm: Norm = "batch",
        losses: Mapping[str, float] = DEFAULT_LOSSES,
        class_weights: Sequence[float] | None = None,
        name: str = "unet",
    ):
        require_names(class_names)
        x = _decoded(backbone, decoder_channels, full_resolution_skip, norm)
        super().__init__(
            backbone.input,
            {"logits": classify_pixels(x, len(class_names), 3)},
            backbone=backbone,
            class_names=class_names,
            source_ids=source_ids,
            colors=colors,
            image_size=image_size,
            losses=losses,
            class_weights=class_weights,
            settings={
                "decoder_channels": list(decoder_channels),
                "full_resolution_skip": full_resolution_skip,
                "norm": norm,
            },
            name=name,
        )


def _decoded(backbone: Pyramid, channels: Sequence[int], full_resolution_skip: bool, norm: Norm):
    """Features of full size."""
    *finer, coarsest = backbone.output
    skips = [(backbone.strides[key], backbone.output[key]) for key in reversed(finer)]
    stride = backbone.strides[coarsest]
    if backbone.strides[[*finer, coarsest][0]] > 1:
        skips.append((1, _of_the_picture(backbone.input, norm) if full_resolution_skip else None))
    if len(channels) < len(skips):
        raise ValueError(
            f"decoder_channels: {backbone.name} needs {len(skips)}, a number for each block, got {list(channels)}"
        )
    x = backbone.output[coarsest]
    for index, ((finer_stride, skip), width) in enumerate(zip(skips, channels[-len(skips) :]), 1):
        if finer_stride < stride:  # a dilated backbone has levels of one stride
            x = layers.UpSampling2D(stride // finer_stride, name=f"decoder{index}_up")(x)
        if skip is not None:
            x = layers.Concatenate(name=f"decoder{index}_concat")([x, skip])
        x = convolve(x, width, 3, norm, name=f"decoder{index}_conv1")
        x = convolve(x, width, 3, norm, name=f"decoder{index}_conv2")
        stride = finer_stride
    return x


def _of_the_picture(image, norm: Norm):
    precision = keras.config.dtype_policy().variable_dtype  # bfloat16 is out by up to two of a picture's 256 steps
    x = layers.Rescaling(1 / 127.5, offset=-1.0, dtype=precision, name="skip_rescale")(image)
    for index in (1, 2):
        x = convolve(x, SKIP_CHANNELS, 3, norm, name=f"skip_conv{index}")
    return x
