"""The semantic branch of Panoptic FPN: a feature pyramid, all levels brought to one size and added.

Kirillov et al. 2019, arXiv 1901.02446, section 3 and figure 3.
"""

from collections.abc import Mapping, Sequence

import keras
from keras import layers

from resnet_tasks.backbones.specs import Norm
from resnet_tasks.model import Pyramid
from resnet_tasks.necks.fpn import fpn
from resnet_tasks.segmentation.segmenter import (
    DEFAULT_LOSSES,
    Segmenter,
    classify_pixels,
    convolve,
    enlarge,
    require_names,
)


@keras.saving.register_keras_serializable("resnet_tasks")
class SemanticFPN(Segmenter):
    """For each level as many doublings as bring it to the finest one's size, a convolution before each.

    Args:
        backbone: A `Pyramid` whose levels halve; not a dilated one.
        class_names: Names in the order of the ids 0, 1, ...
        source_ids: The source's own ids in the same order, or empty.
        colors: RGB in 0..255 in the same order, or empty.
        image_size: `(height, width)` of the canvas that pictures are brought to.
        channels: Of the feature pyramid.
        head_channels: Of the convolutions on it.
        norm: Behind these: "group", as published, or "batch"; the pyramid itself has none.
        min_level: The finest level, whose size the sum has; coarser ones are read up to the backbone's last.
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
        channels: int = 256,
        head_channels: int = 128,
        norm: Norm = "group",
        min_level: int = 2,
        losses: Mapping[str, float] = DEFAULT_LOSSES,
        class_weights: Sequence[float] | None = None,
        name: str = "semantic_fpn",
    ):
        require_names(class_names)
        x = _merged(fpn(_levels(backbone, min_level), channels), head_channels, norm)
        super().__init__(
            backbone.input,
            {"logits": classify_pixels(x, len(class_names), 1, stride=2**min_level)},
            backbone=backbone,
            class_names=class_names,
            source_ids=source_ids,
            colors=colors,
            image_size=image_size,
            losses=losses,
            class_weights=class_weights,
            settings={"channels": channels, "head_channels": head_channels, "norm": norm, "min_level": min_level},
            name=name,
        )


def _levels(backbone: Pyramid, first: int) -> dict:
    """The backbone's features from level `first` on.

    Raises:
        ValueError: It has no such level, or two of one stride, as a dilated one has.
    """
    found = {key: value for key, value in backbone.output.items() if int(key[1:]) >= first}
    if f"C{first}" not in found or any(backbone.strides[key] != 2 ** int(key[1:]) for key in found):
        raise ValueError(
            f"{backbone.name} has the levels {', '.join(f'{k} (stride {s})' for k, s in backbone.strides.items())}; "
            f"expected C{first} (min_level) and coarser ones, each at half the size of the one before"
        )
    return found


def _merged(pyramid: Mapping, channels: int, norm: Norm):
    """The sum of all levels, of the finest one's size."""
    levels, finest = [], min(int(key[1:]) for key in pyramid)
    for key, x in pyramid.items():
        doublings = int(key[1:]) - finest
        for index in range(1, max(1, doublings) + 1):
            x = convolve(x, channels, 3, norm, name=f"head_{key}_conv{index}")
            if doublings:
                x = enlarge(x, 2, f"head_{key}_up{index}")
        levels.append(x)
    return levels[0] if len(levels) == 1 else layers.Add(name="head_sum")(levels)
