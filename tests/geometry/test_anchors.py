"""Anchors and points, worked out by hand."""

import numpy as np

from resnet_tasks.geometry.anchors import anchors, points


def test_one_cell():
    table = anchors({"P3": (1, 1)}, {"P3": 8}, {"P3": (32, 64)}, ratios=(0.25, 1, 4))
    # Around (4, 4).  Of size 32 and height / width = 1/4: height 32 x 1/2 = 16, width 32 x 2 = 64; and so on.
    around = [(64, 16), (128, 32), (32, 32), (64, 64), (16, 64), (32, 128)]  # width, height: by ratio, then by size
    assert table.dtype == np.float32
    assert table.tolist() == [[4 - w / 2, 4 - h / 2, 4 + w / 2, 4 + h / 2] for w, h in around]


def test_cells_and_levels():
    shapes, strides = {"P3": (2, 3), "P4": (1, 2)}, {"P3": 8, "P4": 16}
    table = anchors(shapes, strides, {"P3": (8,), "P4": (16,)}, ratios=(1,))
    fine = [[x, y, x + 8, y + 8] for y in (0, 8) for x in (0, 8, 16)]
    assert table.tolist() == [*fine, [0, 0, 16, 16], [16, 0, 32, 16]]
    centres, steps = points(shapes, strides)
    assert centres.tolist() == [[x, y] for y in (4, 12) for x in (4, 12, 20)] + [[8, 8], [24, 8]]
    assert steps.tolist() == [8] * 6 + [16] * 2
    assert centres.dtype == steps.dtype == np.float32


def test_rows_stand_as_a_convolution_writes():
    """Channel `a` of the cell at row y, column x, of a map `(h, w, anchors)`, is row `(y * w + x) * anchors + a`."""
    table = anchors({"P3": (5, 7)}, {"P3": 8}, {"P3": (10, 20, 30)}).reshape(5, 7, 9, 4)
    centres = (table[..., :2] + table[..., 2:]) / 2
    np.testing.assert_allclose(centres[3, 6], np.tile([52, 28], (9, 1)))
    sides = table[..., 2:] - table[..., :2]
    np.testing.assert_allclose(np.sqrt(sides.prod(-1)), np.broadcast_to([10, 20, 30] * 3, (5, 7, 9)), rtol=1e-6)
    np.testing.assert_allclose(
        sides[..., 1] / sides[..., 0], np.broadcast_to(np.repeat([0.5, 1, 2], 3), (5, 7, 9)), rtol=1e-5
    )


def test_retinanet_has_its_number_of_anchors():
    # 640 x 640, strides 8 to 128: 80² + 40² + 20² + 10² + 5² = 8,525 cells of 9 anchors.
    levels = {f"P{level}": 2**level for level in range(3, 8)}
    shapes = {level: (640 // stride, 640 // stride) for level, stride in levels.items()}
    sizes = {level: [4 * stride * 2 ** (third / 3) for third in range(3)] for level, stride in levels.items()}
    table = anchors(shapes, levels, sizes)
    assert table.shape == (76_725, 4)
    np.testing.assert_allclose(table.mean(0), [320 - 106, 320 - 106, 320 + 106, 320 + 106], atol=320)
    assert len(points(shapes, levels)[0]) == 8_525
