"""The classifier: a backbone, its mean features, one linear layer."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import layers, ops

from resnet_tasks.model import Pyramid, TaskModel


@keras.saving.register_keras_serializable("resnet_tasks")
class Classifier(TaskModel):
    """Images `(batch, height, width, 3)`, RGB 0..255, to logits `(batch, classes)`, float32 whatever the policy.

    He et al. 2015, arXiv 1512.03385, section 3.3: global average pooling and one fully connected layer.

    Args:
        backbone: A `Pyramid`; its coarsest level is read.
        class_names: Names in the order of the ids 0, 1, ...
        source_ids: The source's own ids in the same order, or empty.
        image_size: `(height, width)` of the canvas that pictures are brought to.
        crop_fraction: Evaluation resizes a picture to cover image_size / crop_fraction and takes the centre.
        dropout: Probability before the linear layer.
        label_smoothing: Probability spread over all classes (Szegedy et al. 2015, arXiv 1512.00567, section 7).
        name: The model's name.
    """

    def __init__(
        self,
        *,
        backbone: Pyramid,
        class_names: Sequence[str],
        source_ids: Sequence = (),
        image_size: Sequence[int] = (224, 224),
        crop_fraction: float = 1.0,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        name: str = "classifier",
    ):
        if len(class_names) < 2:
            raise ValueError(f"a classifier tells at least two classes apart, got {list(class_names)}")
        self.class_names, self.source_ids = list(class_names), list(source_ids)
        self.image_size, self.crop_fraction = tuple(image_size), crop_fraction
        self.label_smoothing = label_smoothing
        coarsest = list(backbone.output)[-1]
        # The mean, the softmax and its loss need float32's range and digits under every policy; and a file, which
        # keeps the backbone's policy, then answers alike wherever it is opened.
        precise = keras.config.floatx()
        x = layers.GlobalAveragePooling2D(dtype=precise, name="pool")(backbone.output[coarsest])
        if dropout:
            x = layers.Dropout(dropout, dtype=precise, name="dropout")(x)
        logits = layers.Dense(len(class_names), dtype=precise, name="logits")(x)
        settings = {
            "class_names": self.class_names,
            "source_ids": self.source_ids,
            "image_size": list(image_size),
            "crop_fraction": crop_fraction,
            "dropout": dropout,
            "label_smoothing": label_smoothing,
        }
        super().__init__(backbone.input, logits, backbone=backbone, settings=settings, name=name)

    def carry_over(self, rows: Mapping[str, tuple[np.ndarray, float]]) -> list[str]:
        """Starts some classes from another classifier's rows.

        Args:
            rows: `{class name: (kernel (features,), bias)}`.

        Returns:
            The names of those that fit this head.
        """
        layer = self.get_layer("logits")
        kernel, bias = (np.array(ops.convert_to_numpy(variable)) for variable in (layer.kernel, layer.bias))
        fit = [name for name in rows if name in self.class_names and len(rows[name][0]) == len(kernel)]
        for name in fit:
            index = self.class_names.index(name)
            kernel[:, index], bias[index] = rows[name]
        layer.kernel.assign(kernel)
        layer.bias.assign(bias)
        return fit

    def loss_terms(self, targets: dict, outputs) -> dict:
        """Cross-entropy with smoothed labels.

        Args:
            targets: `label`, `(batch,)` int32, or `(batch, classes)` float32 shares where pictures were mixed;
                `weight`, `(batch,)`, 1 by default.
            outputs: Logits `(batch, classes)`.

        Returns:
            `{"cross_entropy": (Σ weight x cross-entropy, Σ weight)}`.
        """
        classes = len(self.class_names)
        label = targets["label"]
        shares = (
            ops.one_hot(label, classes, dtype=outputs.dtype)
            if len(label.shape) == 1
            else ops.cast(label, outputs.dtype)
        )
        shares = shares * (1 - self.label_smoothing) + self.label_smoothing / classes
        entropy = -ops.sum(shares * ops.log_softmax(outputs, axis=-1), axis=-1)
        weight = ops.cast(targets["weight"], entropy.dtype) if "weight" in targets else ops.ones_like(entropy)
        return {"cross_entropy": (ops.sum(weight * entropy), ops.sum(weight))}
