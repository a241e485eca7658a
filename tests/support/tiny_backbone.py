"""A backbone of two small layers, for tests of what surrounds a network; `model.backbone: tiny_backbone:backbone`."""

import keras
from keras import layers

from resnet_tasks.model import Pyramid


def backbone(input_shape=(None, None, 3)) -> Pyramid:
    """Strides 2 and 4, 16 and 32 channels, 5,312 trainable parameters."""
    image = keras.Input(input_shape, name="image")
    x, features = layers.Rescaling(1 / 127.5, offset=-1.0, name="normalise")(image), {}
    for level, filters in (("C1", 16), ("C2", 32)):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False, name=f"{level}_conv")(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"{level}_norm")(x)
        features[level] = x = layers.ReLU(name=f"{level}_relu")(x)
    return Pyramid(image, features, name="tiny")
