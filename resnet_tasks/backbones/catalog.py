"""From a name to a backbone.  Listing names imports no Keras; creating one does."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

from resnet_tasks.backbones.specs import CATALOG, ApplicationSpec, Entry, IResNetSpec, Norm
from resnet_tasks.errors import UsageError, nearest

if TYPE_CHECKING:
    from resnet_tasks.model import Pyramid


@dataclass(frozen=True)
class Description:
    """What the table of backbones shows of one.

    Attributes:
        name: The name to create it by.
        parameters: Trainable parameters, without a classifier.
        levels: The keys of its pyramid, finest first; `"C{l}"` has stride `2**l`.
        paper: Where it is described.
    """

    name: str
    parameters: int
    levels: tuple[str, ...]
    paper: str


def names() -> tuple[str, ...]:
    """Every name that `create` takes."""
    return tuple(CATALOG)


def describe(name: str) -> Description:
    """What there is to say of a backbone without building it.

    Raises:
        UsageError: There is no such name.
    """
    entry = _entry(name)
    return Description(name, entry.parameters, entry.spec.levels, entry.paper)


def create(
    name: str,
    *,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    weights: str | None = None,
    output_stride: int = 32,
    norm: Norm = "batch",
    allow_partial: bool = False,
) -> "Pyramid":
    """Builds a backbone.

    Args:
        name: One of `names()`.
        input_shape: `(height, width, 3)` of the images; `None` where it varies.
        weights: `None` starts at random.  Else a name of `resnet-tasks weights list`, "imagenet", a file of weights of
            any of the known kinds, or the folder of a run of one's own; their preprocessing comes with them.
        output_stride: 32, the network as published; 8 or 16 dilate its last stages.
        norm: "batch", or "group" for batches too small for it.
        allow_partial: Take weights that fill less than 95 % of the backbone; the rest starts at random.

    Returns:
        A functional model from images `(batch, height, width, 3)`, RGB 0..255, to a dict of
        features, finest first.

    Raises:
        UsageError: An argument is none of these, or the network cannot be dilated.
        DataError: The weights cannot be read, are another network's, or only a part of this one's.
    """
    entry = _entry(name)
    _check(input_shape, output_stride, norm)
    from resnet_tasks.weights import transfer

    found = transfer.find(weights, name, allow_partial)
    pyramid = _built(name, entry, input_shape, output_stride, norm)
    if found:
        found.apply(pyramid)
    return pyramid


def _built(name: str, entry: Entry, input_shape, output_stride: int, norm: Norm) -> "Pyramid":
    if isinstance(entry.spec, ApplicationSpec):
        _check_published_norms(name, entry.spec, norm)
        from resnet_tasks.backbones.applications import application

        return application(entry.spec, tuple(input_shape), output_stride=output_stride, name=name)
    spec = replace(entry.spec, norm=norm)
    if isinstance(spec, IResNetSpec):
        from resnet_tasks.backbones.iresnet import iresnet

        return iresnet(spec, tuple(input_shape), output_stride=output_stride, name=name)
    from resnet_tasks.backbones.residual import resnet

    return resnet(spec, tuple(input_shape), output_stride=output_stride, name=name)


def _entry(name: str) -> Entry:
    if name not in CATALOG:
        raise UsageError(
            f"no backbone is called {name!r}{nearest(name, CATALOG)} (`resnet-tasks backbones` lists them all)"
        )
    return CATALOG[name]


def _check(input_shape, output_stride, norm) -> None:
    if len(input_shape) != 3 or input_shape[2] != 3:
        raise UsageError(f"input_shape must be (height, width, 3), RGB; got {tuple(input_shape)}")
    if output_stride not in (8, 16, 32):
        raise UsageError(f"output_stride must be 8, 16 or 32; got {output_stride!r}")
    if norm not in get_args(Norm):
        raise UsageError(f"norm must be one of {', '.join(get_args(Norm))}; got {norm!r}")


def _check_published_norms(name, spec: ApplicationSpec, norm) -> None:
    if norm == "batch":
        return
    published = "with its batch norms" if spec.norms else "without any norm"
    raise UsageError(
        f"norm={norm!r}: {name} is built as keras.applications publishes it, {published}; leave norm out, or take one "
        "of the resnet_* or iresnet_* backbones"
    )
