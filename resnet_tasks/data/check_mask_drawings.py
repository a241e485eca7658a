"""Pictures with their masks, for the page of a check."""

from collections.abc import Collection, Sequence

import numpy as np
from PIL import Image

from resnet_tasks.data import decode
from resnet_tasks.data.check_box_drawings import varied
from resnet_tasks.data.check_pictures import Picture
from resnet_tasks.data.drawing import Colour, sized_to_draw
from resnet_tasks.data.drawing_masks import overlay, palette_of
from resnet_tasks.data.examples import Source

_LEAST, _MOST = 400, 640  # pixels of the longer side
_NAMED = 4  # classes in a caption
_GOLDEN = 0.6180339887498949


def drawn(source: Source, pictures: Sequence[Picture], turned: Collection[int]) -> tuple[tuple[str, Image.Image], ...]:
    """Draws some pictures with their masks over them.

    The first are such as EXIF turns; the others take turns between the splits, each the one with the most classes that
    were not shown yet; the last is one that is all void.

    Args:
        source: As a reader found it.
        pictures: All that decode.
        turned: The places of those that EXIF turns.

    Returns:
        What stands below each, and the picture.
    """
    if not pictures:
        return ()
    palette = palette_of(source.labels)
    held = [source.splits[picture.split].annotations["pixels"][picture.index] for picture in pictures]
    shows = np.array(held)[:, :-1] > 0
    # Of pictures that show as many classes the first is taken, and neighbours are often frames of one film.
    order = np.argsort(np.arange(len(pictures)) * _GOLDEN % 1, kind="stable").tolist()
    splits = [pictures[place].split for place in order]
    places = varied(shows[order], splits, [new for new, place in enumerate(order) if place in turned])
    return tuple(_drawn(source, pictures[order[place]], palette) for place in places)


def _drawn(source: Source, picture: Picture, palette: Sequence[Colour]) -> tuple[str, Image.Image]:
    split = source.splits[picture.split]
    image, _ = sized_to_draw(decode.decode_array(split.read(picture.index)), _LEAST, _MOST)
    mask = split.masks.ids(picture.index) if split.masks else np.zeros(picture.taken.size_hw, np.uint8)
    mask = np.asarray(Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST))
    held = _shares(split.annotations["pixels"][picture.index], source.labels.names)
    return f"{picture.file} ({picture.split}: {held})", overlay(image, mask, palette)


def _shares(pixels: np.ndarray, names: Sequence[str]) -> str:
    """What a mask holds, the largest first: "road 61 %, car 12 %"; `pixels` is `(classes + 1,)`, void at the end."""
    named, shares = (*names, "void"), pixels / max(pixels.sum(), 1)
    order = [place for place in np.argsort(-pixels, kind="stable").tolist() if pixels[place]]
    more = f", {len(order) - _NAMED} more" if len(order) > _NAMED else ""
    return ", ".join(f"{named[place]} {100 * shares[place]:.0f} %" for place in order[:_NAMED]) + more
