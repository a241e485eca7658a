"""Convolutions of 3x3 with a quarter of the multiplications: Winograd's, F(4x4, 3x3).

Lavin and Gray 2015, arXiv 1509.09308, section 4.  A picture is cut into tiles of 4x4; a tile and its borders, and the
kernel, are each taken to 36 sums of theirs, and in these a convolution is 36 products of matrices.  The way there and
back are products with the paper's three constant matrices, along the rows and then along the columns.
"""

import numpy as np
import tensorflow as tf

TILE = 4
OF_PICTURE = np.array(  # the paper's B transposed
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    "float32",
)
OF_KERNEL = np.array(  # the paper's G
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    "float32",
)
TO_TILE = np.array(  # the paper's A transposed
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], "float32"
)


def convolve(images, kernel):
    """`tf.nn.conv2d(images, kernel, 1, "SAME")`, but for rounding, which stays below 1e-4 of the largest output.

    Args:
        images: float32 `(batch, height, width, in)`; all but the batch known when it is traced.
        kernel: float32 `(3, 3, in, out)`.
    """

    @tf.custom_gradient
    def convolved(images, kernel):
        sums = _picture_sums(images)

        def gradient(upstream):
            turned = tf.transpose(kernel[::-1, ::-1], (0, 1, 3, 2))
            of_images = _product(_picture_sums(upstream), turned, *images.shape[1:3])
            return of_images, _to_kernel(tf.matmul(sums, _tile_sums(upstream), transpose_a=True))

        return _product(sums, kernel, *images.shape[1:3]), gradient

    return convolved(images, kernel)


def tiled(side: int) -> int:
    """The side of the tiles that a side of the picture takes, in pixels."""
    return -(-side // TILE) * TILE


def _product(sums, kernel, height: int, width: int):
    """From the sums of a picture `(36, tiles, in)` to `(batch, height, width, out)`."""
    products = tf.matmul(sums, _kernel_sums(kernel))
    rows, columns, channels = tiled(height) // TILE, tiled(width) // TILE, kernel.shape[-1]
    across = tf.matmul(TO_TILE, tf.reshape(products, (6, -1)))  # 4 columns, (6 rows, tiles, out)
    pixels = _along(TO_TILE, tf.unstack(tf.reshape(across, (4, 6, -1)), axis=1))  # 4 rows, 4 columns, (tiles, out)
    pixels = tf.reshape(pixels, (4, 4, -1, rows, columns, channels))
    pixels = tf.transpose(pixels, (2, 3, 0, 4, 1, 5))
    return tf.reshape(pixels, (-1, TILE * rows, TILE * columns, channels))[:, :height, :width]


def _picture_sums(images):
    """`(36, tiles, channels)`, of each tile and the pixel around it."""
    _, height, width, channels = images.shape
    high, wide = tiled(height), tiled(width)
    # A tile's six rows are the four of its own place, behind a row of padding, and the first two of the next one's:
    # slices of what is cut in fours, which are copied whole; slices of every fourth row go number by number.
    images = tf.pad(images, [[0, 0], [1, high + 3 - height], [1, wide + 3 - width], [0, 0]])
    fours = tf.reshape(images, (-1, high // TILE + 1, TILE, wide + TILE, channels))
    down = _along(OF_PICTURE, [fours[:, :-1, row] for row in range(4)] + [fours[:, 1:, row] for row in range(2)])
    fours = tf.reshape(down, (6, -1, high // TILE, wide // TILE + 1, TILE, channels))
    parts = [fours[:, :, :, :-1, column] for column in range(4)] + [fours[:, :, :, 1:, column] for column in range(2)]
    return tf.reshape(_along(OF_PICTURE, parts), (36, -1, channels))


def _tile_sums(upstream):
    """`(36, tiles, channels)`: how what comes back for a tile comes back for its 36 products."""
    _, height, width, channels = upstream.shape
    high, wide = tiled(height), tiled(width)
    upstream = tf.pad(upstream, [[0, 0], [0, high - height], [0, wide - width], [0, 0]])
    tiles = tf.reshape(upstream, (-1, high // TILE, TILE, wide // TILE, TILE, channels))
    down = _along(TO_TILE.T, [tiles[:, :, row] for row in range(TILE)])
    return tf.reshape(_along(TO_TILE.T, [down[:, :, :, :, column] for column in range(TILE)]), (36, -1, channels))


def _kernel_sums(kernel):
    """`(36, in, out)`."""
    channels, filters = kernel.shape[2:]
    down = tf.matmul(OF_KERNEL, tf.reshape(kernel, (3, -1)))
    down = tf.transpose(tf.reshape(down, (6, 3, channels * filters)), (1, 0, 2))
    return tf.reshape(tf.matmul(OF_KERNEL, tf.reshape(down, (3, -1))), (36, channels, filters))


def _to_kernel(sums):
    """`(3, 3, in, out)`: how what comes back for the kernel's sums comes back for it."""
    channels, filters = sums.shape[1:]
    across = tf.matmul(OF_KERNEL.T, tf.reshape(sums, (6, -1)))
    across = tf.transpose(tf.reshape(across, (3, 6, channels * filters)), (1, 0, 2))
    return tf.reshape(tf.matmul(OF_KERNEL.T, tf.reshape(across, (6, -1))), (3, 3, channels, filters))


def _along(matrix: np.ndarray, parts: list):
    """The constant matrix times the parts, each a row: `(rows of the matrix, *shape of a part)`."""
    stacked = tf.stack(parts)
    product = tf.matmul(matrix, tf.reshape(stacked, (len(parts), -1)))
    return tf.reshape(product, tf.concat([[len(matrix)], tf.shape(stacked)[1:]], axis=0))
