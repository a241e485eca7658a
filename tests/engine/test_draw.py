"""Grids, thumbnails and pictures as text, by their pixels."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from resnet_tasks.engine.draw import GAP, data_uri, grid, thumbnail

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def plain(color, height=40, width=48) -> np.ndarray:
    return np.broadcast_to(np.uint8(color), (height, width, 3)).copy()


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture)


def test_grid_enlarges_by_whole_factors_and_fills_rows_first():
    canvas = pixels(grid([plain(RED), plain(GREEN), plain(BLUE)], columns=2))
    # 96 // 48 = 2: cells of 80 x 96; two rows and two columns with gaps around
    assert canvas.shape == (2 * (80 + GAP) + GAP, 2 * (96 + GAP) + GAP, 3)
    first, second = slice(GAP, GAP + 80), slice(GAP + 80 + GAP, GAP + 80 + GAP + 80)
    left, right = slice(GAP, GAP + 96), slice(GAP + 96 + GAP, GAP + 96 + GAP + 96)
    assert (canvas[first, left] == RED).all()
    assert (canvas[first, right] == GREEN).all()
    assert (canvas[second, left] == BLUE).all()
    assert (canvas[second, right] == 255).all()  # the empty place
    assert (canvas[:GAP] == 255).all()


def test_grid_copies_each_pixel_as_a_square():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    canvas = pixels(grid([image], columns=8))
    assert canvas.shape == (96 + 2 * GAP, 96 + 2 * GAP, 3)  # 3 times; no empty columns
    enlarged = canvas[GAP:-GAP, GAP:-GAP]
    for dy, dx in ((0, 0), (1, 2), (2, 1)):
        assert (enlarged[dy::3, dx::3] == image).all()


def test_grid_keeps_the_size_of_pictures_that_are_large_enough():
    assert grid([plain(RED, 70, 60)], columns=1).size == (60 + 2 * GAP, 70 + 2 * GAP)


def test_grid_rounds_and_clips_floats():
    image = np.zeros((100, 100, 3), np.float32)
    image[..., 0], image[..., 1], image[..., 2] = -3.0, 127.6, 300.0
    assert tuple(pixels(grid([image], columns=1))[50, 50]) == (0, 128, 255)
    assert image[0, 0, 0] == -3.0  # the caller's array stays


def test_captions_are_written_below_and_cut_to_the_width():
    bare, long = grid([plain(RED)], 1), grid([plain(RED)], 1, ["W" * 200])
    two = grid([plain(RED)], 1, ["one\ntwo"])
    assert long.height == bare.height + 15
    assert two.height == bare.height + 30
    below = pixels(long)[GAP + 80 :]
    assert (below < 128).any()  # there is ink
    assert (below[:, GAP + 96 :] == 255).all()  # and none beside the picture


@pytest.mark.parametrize(
    ("images", "captions", "said"),
    [
        ([], None, "one or more pictures"),
        ([plain(RED), plain(RED, 41)], None, "of one size"),
        ([np.zeros((8, 8), np.uint8)], None, "(height, width, 3)"),
        ([plain(RED)], ["a", "b"], "each of its 1 pictures, got 2"),
    ],
)
def test_grid_says_what_is_wrong(images, captions, said):
    with pytest.raises(ValueError, match=said.replace("(", r"\(").replace(")", r"\)")):
        grid(images, 2, captions)


def test_thumbnail_keeps_the_ratio_and_never_enlarges():
    picture = Image.fromarray(plain(GREEN, 200, 400))
    small = thumbnail(picture, 100)
    assert small.size == (100, 50)
    assert (pixels(small) == GREEN).all()
    assert picture.size == (400, 200)  # not changed
    assert thumbnail(plain(RED, 20, 30), 100).size == (30, 20)
    assert thumbnail(Image.new("P", (8, 8)), 4).mode == "RGB"


def test_data_uri_gives_back_the_pixels():
    image = np.random.default_rng(1).integers(0, 256, (9, 7, 3), np.uint8)
    kind, content = data_uri(Image.fromarray(image)).split(";base64,")
    assert kind == "data:image/png"
    assert (pixels(Image.open(io.BytesIO(base64.b64decode(content)))) == image).all()
    assert data_uri(Image.fromarray(image), quality=80).startswith("data:image/jpeg;base64,")


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\x89PNG\r\n", "png"),
        (b"\xff\xd8\xff\xe0", "jpeg"),
        (b"GIF89a", "gif"),
        (b"RIFF....WEBP", "webp"),
        (b"\n<?xml ?><svg/>", "svg+xml"),
    ],
)
def test_data_uri_takes_bytes_as_they_are(start, kind):
    encoded = base64.b64encode(start).decode()
    assert data_uri(start) == f"data:image/{kind};base64,{encoded}"


def test_data_uri_refuses_other_bytes():
    with pytest.raises(ValueError, match="expected the bytes of a PNG"):
        data_uri(b"BM....")
