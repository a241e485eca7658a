"""The one decoder against Pillow, pixel by pixel."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from resnet_tasks.data import decode, formats
from resnet_tasks.errors import DataError, UsageError

RANDOM = np.random.default_rng(0)
# Smooth, so that a JPEG keeps it; odd sides, so that its blocks and its chroma do not fit.
PIXELS = np.asarray(
    Image.fromarray(RANDOM.integers(0, 256, (9, 13, 3), dtype=np.uint8)).resize((61, 47), Image.Resampling.BICUBIC)
)
PICTURE = Image.fromarray(PIXELS)
GREY = PICTURE.convert("L")
PALETTE = PICTURE.quantize(16)
ALPHA = Image.fromarray(np.dstack([PIXELS, RANDOM.integers(0, 256, PIXELS.shape[:2], dtype=np.uint8)]))
DEEP = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 256 + 77)  # 16 bits
ANIMATED = {"save_all": True, "append_images": [PICTURE.rotate(90)]}


def encoded(picture, name, **options):
    stream = io.BytesIO()
    picture.save(stream, name, **options)
    return stream.getvalue()


IN_GRAPH = {
    "jpeg": (encoded(PICTURE, "JPEG", quality=90), PICTURE),
    "jpeg, chroma whole": (encoded(PICTURE, "JPEG", subsampling=0), PICTURE),
    "jpeg, progressive": (encoded(PICTURE, "JPEG", progressive=True), PICTURE),
    "jpeg, grey": (encoded(GREY, "JPEG"), GREY),
    "jpeg, cmyk": (encoded(PICTURE.convert("CMYK"), "JPEG"), PICTURE),
    "png": (encoded(PICTURE, "PNG"), PICTURE),
    "png, grey": (encoded(GREY, "PNG"), GREY),
    "png, grey and alpha": (encoded(PICTURE.convert("LA"), "PNG"), GREY),
    "png, alpha": (encoded(ALPHA, "PNG"), PICTURE),
    "png, palette": (encoded(PALETTE, "PNG"), PALETTE),
    "png, transparent palette": (encoded(PALETTE, "PNG", transparency=3), PALETTE),
    "png, 1 bit": (encoded(PICTURE.convert("1"), "PNG"), PICTURE.convert("1")),
    "png, 16 bits": (encoded(DEEP, "PNG"), GREY),
    "bmp": (encoded(PICTURE, "BMP"), PICTURE),
    "gif": (encoded(PALETTE, "GIF"), PALETTE),
    "gif, animated": (encoded(PALETTE, "GIF", save_all=True, append_images=[PALETTE.rotate(90)]), PALETTE),
    "webp": (encoded(PICTURE, "WEBP"), PICTURE),
    "webp, lossless": (encoded(PICTURE, "WEBP", lossless=True), PICTURE),
    "webp, alpha": (encoded(ALPHA, "WEBP", lossless=True, exact=True), PICTURE),
}
BY_PILLOW = {
    "webp, animated": (encoded(PICTURE, "WEBP", lossless=True, **ANIMATED), PICTURE),
    "bmp, palette": (encoded(PALETTE, "BMP"), PALETTE),
    "bmp, grey": (encoded(GREY, "BMP"), GREY),
    "bmp, 1 bit": (encoded(PICTURE.convert("1"), "BMP"), PICTURE.convert("1")),
    "bmp, 32 bits": (encoded(ALPHA, "BMP"), PICTURE),
    "tiff": (encoded(PICTURE, "TIFF"), PICTURE),
    "tiff, 16 bits": (encoded(DEEP, "TIFF"), GREY),
    "ppm": (encoded(PICTURE, "PPM"), PICTURE),
    "pgm": (encoded(GREY, "PPM"), GREY),
    "pgm, 16 bits": (encoded(DEEP, "PPM"), GREY),
}
LOSSY = ("jpeg", "webp")


@pytest.mark.parametrize("name", [*IN_GRAPH, *BY_PILLOW])
def test_pixels_are_pillows(name):
    data, drawn = {**IN_GRAPH, **BY_PILLOW}[name]
    ours = decode.decode_array(data)
    np.testing.assert_array_equal(ours, formats.rgb(Image.open(io.BytesIO(data))))
    assert ours.dtype == np.uint8
    if name.split(",")[0] not in LOSSY or "lossless" in name or "alpha" in name or "animated" in name:
        np.testing.assert_array_equal(ours, np.asarray(drawn.convert("RGB")))  # what was drawn, too
    kind = formats.sniff(data[: formats.HEAD_BYTES], data[-formats.TAIL_BYTES :])
    assert kind.by_pillow == (name in BY_PILLOW)
    assert kind.complete


def test_a_pipeline_gives_the_same():
    pictures = tf.data.Dataset.from_tensor_slices([data for data, _ in IN_GRAPH.values()])
    for name, image in zip(IN_GRAPH, pictures.map(decode.decode), strict=True):
        np.testing.assert_array_equal(image, decode.decode_array(IN_GRAPH[name][0]), name)


def test_a_graph_refuses_what_it_would_read_wrongly():
    """Above all the palette BMP, silently wrong in TensorFlow, and the animated WebP, which crashes it."""
    for name, (data, _) in BY_PILLOW.items():
        with pytest.raises(tf.errors.InvalidArgumentError):
            print(name, decode._compiled()(tf.constant(data)))


def exif(orientation, order):
    """An Exif segment's body with another tag before and after the orientation, in Intel's or Motorola's order."""
    turned = struct.pack(order + "HH", orientation, 0)
    tags = [(0x010F, 2, 4, b"abc\0"), (0x0112, 3, 1, turned), (0x0128, 3, 1, b"\2\0\2\0")]
    body = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, len(tags))
    return b"Exif\0\0" + body + b"".join(struct.pack(order + "HHI", *tag[:3]) + tag[3] for tag in tags) + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_orientations(orientation, order):
    data = encoded(PICTURE, "JPEG", exif=exif(orientation, order))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode.decode(tf.constant(data)), np.asarray(upright))  # eagerly
    np.testing.assert_array_equal(decode.decode_array(data), np.asarray(upright))  # in a graph


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_an_orientation_that_means_nothing_is_upright(orientation):
    assert decode.orientation(tf.constant(encoded(PICTURE, "JPEG", exif=exif(orientation, "<")))) == 1


def test_exif_behind_another_segment_and_cut_exif():
    plain = encoded(PICTURE, "JPEG")
    body = exif(6, ">")
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    behind = plain[:2] + b"\xff\xe0\x00\x10" + bytes(14) + b"\xff\xfe\x00\x04hi" + segment + plain[2:]
    assert decode.orientation(tf.constant(behind)) == 6
    compiled = tf.function(decode.orientation, input_signature=[tf.TensorSpec((), tf.string)])
    found = [int(compiled(tf.constant(plain[:2] + segment[:length]))) for length in range(len(segment))]
    # No cut makes it fail.  Four bytes into the segment stand 6 of name, 8 of header, 2 of count, 12 of the first
    # entry, 8 of the second entry's head and 2 of its number.
    assert found == [6 if length >= 4 + 6 + 8 + 2 + 12 + 10 else 1 for length in range(len(segment))]
    far = body[:10] + struct.pack(">I", 4_000_000_000) + body[14:]  # a directory beyond the end
    assert decode.orientation(tf.constant(plain[:2] + segment[:4] + far + plain[2:])) == 1


BROKEN = {
    "empty": (b"", "empty"),
    "words": (b"not a picture", "begins with b'not a pictur'"),
    "jpeg, cut": (IN_GRAPH["jpeg"][0][:700], "cut off"),
    "jpeg, head only": (b"\xff\xd8\xff\xe1", "cut off"),
    "png, cut": (IN_GRAPH["png"][0][:-300], "cut off"),
    "pgm, cut": (BY_PILLOW["pgm"][0][:-300], "image file is truncated"),
    "bmp, head only": (b"BM", "cannot identify"),
    "tiff, floating point": (encoded(GREY.convert("F"), "TIFF"), "floating-point"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_broken_picture_says_why_and_is_blank(name):
    data, why = BROKEN[name]
    with pytest.raises(formats.Unreadable, match=why):
        decode.decode_array(data)


def test_a_broken_picture_is_blank():
    for data in (b"", b"words", IN_GRAPH["jpeg"][0][:700], BY_PILLOW["bmp, palette"][0]):
        image, readable = decode.decode_or_blank(tf.constant(data))
        assert (image.shape, bool(readable), int(image[0, 0, 0])) == ((1, 1, 3), False, 0)
    image, readable = decode.decode_or_blank(tf.constant(IN_GRAPH["jpeg"][0]))
    np.testing.assert_array_equal(image, decode.decode_array(IN_GRAPH["jpeg"][0]))
    assert readable


def test_one_broken_picture_costs_no_other():
    pictures = tf.constant([IN_GRAPH["png"][0], b"words", IN_GRAPH["bmp"][0], IN_GRAPH["png"][0][:700]] * 5)
    blank = np.zeros_like(PIXELS)
    expected = [PIXELS, blank, PIXELS, blank] * 5

    def one(index):
        image = tf.io.decode_image(pictures[index], channels=3, expand_animations=False)  # quicker to trace than decode
        return tf.ensure_shape(image, PIXELS.shape), index

    def none(index):
        return tf.zeros(PIXELS.shape, tf.uint8), -index

    for parallel in (1, 3):
        places = tf.data.Dataset.range(20)
        images, indices = zip(*decode.map_or_blank(places, one, none, parallel).as_numpy_iterator(), strict=True)
        np.testing.assert_array_equal(images, expected)
        assert list(indices) == [index if index % 2 == 0 else -index for index in range(20)]
        groups = list(decode.map_groups_or_blank(places, one, none, 5, parallel).as_numpy_iterator())
        np.testing.assert_array_equal(np.concatenate([images for images, _ in groups]), expected)
        assert [len(images) for images, _ in groups] == [5] * 4


def test_an_artefact_holds_the_decoder(tmp_path):
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def serve(data):
        image, readable = decode.decode_or_blank(data)
        return {"image": image, "readable": readable}

    module.serve = serve
    tf.saved_model.save(module, str(tmp_path), signatures=serve)
    served = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    data = encoded(PICTURE, "JPEG", exif=exif(6, "<"))
    np.testing.assert_array_equal(served(tf.constant(data))["image"], decode.decode_array(data))
    assert not served(tf.constant(b"words"))["readable"]


def test_what_python_callers_have(tmp_path):
    path = tmp_path / "a.png"
    PICTURE.save(path)
    for picture in (path, str(path), path.read_bytes(), PICTURE, PIXELS, np.asarray(ALPHA)):
        np.testing.assert_array_equal(decode.decode_array(picture), PIXELS)
    for picture in (np.asarray(GREY), np.asarray(GREY)[..., None], DEEP):
        np.testing.assert_array_equal(decode.decode_array(picture), np.asarray(GREY.convert("RGB")))
    with pytest.raises(UsageError, match="nowhere"):
        decode.decode_array(tmp_path / "nowhere.jpg")
    with pytest.raises(DataError, match="float64"):
        decode.decode_array(PIXELS / 255)
    (tmp_path / "b.jpg").write_text("words")
    with pytest.raises(DataError, match=r"b\.jpg: not a picture"):
        decode.decode_array(tmp_path / "b.jpg")
