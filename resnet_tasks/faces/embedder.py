"""The embedder: a backbone, a linear layer between two norms, and a centre for each identity that it trains on."""

import math
from collections.abc import Sequence
from typing import Literal

import keras
from keras import layers, ops

from resnet_tasks.backbones.specs import CATALOG, IResNetSpec, Norm
from resnet_tasks.faces.margin import Margin, checked_margins, cosine_and_sine, cross_entropy, unit, with_margin
from resnet_tasks.faces.sampling import sampled
from resnet_tasks.model import Pyramid, TaskModel

FIRST_DEVIATION = 0.01  # of the class centres, as insightface begins
NEVER = -1e9  # a logit that has no part in a softmax


@keras.saving.register_keras_serializable("resnet_tasks")
class FaceEmbedder(TaskModel):
    """Images `(batch, height, width, 3)`, RGB 0..255, to `embedding` `(batch, d)`, float32 whatever the policy.

    Deng et al. 2018, arXiv 1801.07698, section 3.1, with the head that insightface gives an IResNet: norm, dropout, all
    features in one row, a linear layer, and a norm whose scale is fixed.  An embedding is not brought to length 1 here;
    only its direction means anything.  `class_centres` is a layer beside the network, which the loss alone reads.

    Args:
        backbone: A `Pyramid`; its coarsest level is read.
        class_names: Names of the identities that are trained on, in the order of the ids 0, 1, ...
        image_size: `(height, width)` of the canvas that pictures are brought to.
        embedding: Numbers of an embedding.
        margin: "arcface", "cosface" or "combined".
        margins: m1, m2, m3 of cos(m1 x angle + m2) - m3; `None` for the published ones.
        scale: Of the cosines, as logits.
        centres: Of each identity; the nearest counts (sub-centre ArcFace: Deng et al. 2020, ECCV).
        warm_up: Epochs over which the margins grow from 0; targets then hold `epoch`.
        sample_rate: The share of the identities that a step compares with (PartialFC); below 1 targets hold `step`.
        dropout: Probability before the linear layer.
        flip: An answer is the mean with the mirrored picture's; the predictor reads it.
        threshold: The cosine from which two pictures show the same person; training chooses it.
        threshold_from: What it was chosen by, in words; `None` where it is not chosen yet.
        far: The false accept rate that it is to be chosen for.
        alignment: Of the pictures that it was trained on, and expects: "landmarks", to the template of
            `data.face_alignment`; "none", as they were. For people to read.
        norm: Of the head: "batch", or "group" for batches too small for it.
        pool: What becomes of the features: "flatten", one row, for pictures of one size; "mean" over all places; `None`
            is "flatten" for an IResNet of the catalogue and "mean" for all others.
        name: The model's name.
    """

    def __init__(
        self,
        *,
        backbone: Pyramid,
        class_names: Sequence[str],
        image_size: Sequence[int] = (112, 112),
        embedding: int = 512,
        margin: Margin = "arcface",
        margins: Sequence[float] | None = None,
        scale: float = 64.0,
        centres: int = 1,
        warm_up: float = 0,
        sample_rate: float = 1.0,
        dropout: float = 0.0,
        flip: bool = False,
        threshold: float = 0.5,
        threshold_from: str | None = None,
        far: float = 1e-3,
        alignment: str = "none",
        norm: Norm = "batch",
        pool: Literal["flatten", "mean"] | None = None,
        name: str = "face_embedder",
    ):
        _check(class_names, embedding=embedding, scale=scale, centres=centres, sample_rate=sample_rate)
        self.class_names, self.image_size = list(class_names), tuple(image_size)
        self.margins, self.scale, self.centres = checked_margins(margin, margins), scale, centres
        self.warm_up, self.sample_rate = warm_up, sample_rate
        self.flip, self.far, self.alignment = flip, far, alignment
        self.threshold, self.threshold_from = threshold, threshold_from
        pool = pool or ("flatten" if _is_iresnet(backbone) else "mean")
        head = {"embedding": embedding, "dropout": dropout, "norm": norm, "pool": pool, "flip": flip, "far": far}
        loss = {"margin": margin, "margins": list(self.margins), "scale": scale, "centres": centres}
        gradual = {"warm_up": warm_up, "sample_rate": sample_rate}
        names = {"class_names": self.class_names, "image_size": list(image_size), "alignment": alignment}
        row = _in_a_row(_opened(list(backbone.output.values())[-1], norm), pool, backbone, self.image_size)
        super().__init__(
            backbone.input,
            {"embedding": _embedded(row, embedding, dropout, norm)},
            backbone=backbone,
            settings={**names, **head, **loss, **gradual},
            name=name,
        )
        self.class_centres = _centres(len(self.class_names) * centres, embedding)

    def get_config(self) -> dict:
        return {**super().get_config(), "threshold": self.threshold, "threshold_from": self.threshold_from}

    @property
    def alignment_template(self) -> dict | None:
        """Where landmarks lie on the canvas, as JSON for whoever aligns without this package; `None` if not aligned."""
        if self.alignment != "landmarks":
            return None
        from resnet_tasks.data.face_alignment import template

        height, width = self.image_size
        return {
            "canvas": [height, width],
            "order": ["left eye", "right eye", "nose", "left corner of the mouth", "right corner of the mouth"],
            "points": template((height, width)).round(4).tolist(),
            "meaning": "canvas: height and width; points: x and y, 0 the centre of the first pixel, left and right as "
            "the viewer sees them; a face's landmarks come to them by a turn, a scale and a shift, by least squares",
        }

    def embedder_parameters(self) -> int:
        """Trainable parameters as insightface counts them: without class centres, with the last norm's fixed scale."""
        centres = self.class_centres.embeddings
        trained = sum(math.prod(v.shape) for v in self.trainable_variables if v is not centres)
        return trained + centres.shape[-1]

    def loss_terms(self, targets: dict, outputs) -> dict:
        """Cross-entropy of the scaled cosines with all centres, or some, the own one's made harder by the margins.

        Args:
            targets: `label` `(batch,)` int32, where other identities than the model's have no part in the loss;
                `weight` `(batch,)`, 1 by default; with `warm_up`, `epoch` `(batch,)`, from 0; with `sample_rate` below
                1, `step` `(batch,)`, one number for the whole global batch.
            outputs: This model's.

        Returns:
            `{"margin": (Σ weight x cross-entropy, Σ weight)}`.
        """
        embedding = outputs["embedding"]
        dtype = keras.backend.result_type(embedding.dtype, "float32")
        label, weight = self._truth(targets, dtype)
        # Replaced before the arithmetic: behind it, a slope of 0 times one that is not finite would be no number.
        embedding = unit(ops.where((weight > 0)[:, None], ops.cast(embedding, dtype), 0.0))
        centres = ops.convert_to_tensor(self.class_centres.embeddings)
        centres = ops.reshape(ops.cast(centres, dtype), (len(self.class_names), self.centres, -1))
        own = self._nearest(embedding, unit(ops.take(centres, label, axis=0)))
        cosine, sine = cosine_and_sine(embedding, own)
        own = self.scale * with_margin(cosine, sine, self.margins, self._share(targets, dtype))
        entropy = cross_entropy(own, self._others(targets, embedding, centres, label))
        return {"margin": (ops.sum(weight * entropy), ops.sum(weight))}

    def _truth(self, targets: dict, dtype) -> tuple:
        """Ids that exist, and the weights, 0 where the id was none of these."""
        label = ops.cast(targets["label"], "int32")
        known = ops.logical_and(label >= 0, label < len(self.class_names))
        weight = ops.cast(targets["weight"], dtype) if "weight" in targets else ops.ones(ops.shape(label), dtype)
        return ops.where(known, label, 0), ops.where(known, weight, 0.0)

    def _share(self, targets: dict, dtype):
        """How much of the margins counts yet."""
        if not self.warm_up:
            return 1.0
        return ops.minimum(ops.cast(_needed(targets, "epoch", "warm_up"), dtype) / self.warm_up, 1.0)

    def _nearest(self, embedding, own):
        """Of each one's own centres `(batch, centres, d)` the nearest, `(batch, d)`."""
        if self.centres == 1:
            return own[:, 0]
        nearest = ops.argmax(ops.sum(embedding[:, None] * own, axis=-1), axis=-1)
        return ops.take_along_axis(own, ops.cast(nearest, "int32")[:, None, None], axis=1)[:, 0]

    def _others(self, targets: dict, embedding, centres, label):
        """Logits `(batch, n)` of the identities that are compared with; `NEVER` for each one's own."""
        classes = len(self.class_names)
        chosen = ops.arange(classes, dtype="int32")
        if self.sample_rate < 1:
            step = _needed(targets, "step", "sample_rate")[0]
            chosen = sampled(step, classes, math.ceil(self.sample_rate * classes))
            centres = ops.take(centres, chosen, axis=0)
        rows = ops.reshape(unit(centres), (-1, centres.shape[-1]))
        cosines = ops.matmul(embedding, ops.transpose(rows))
        nearest = ops.max(ops.reshape(cosines, (-1, chosen.shape[0], self.centres)), axis=-1)
        return ops.where(chosen[None] == label[:, None], NEVER, self.scale * nearest)


def _opened(features, norm: Norm):
    """The head's first norm; as all of the head at least float32, which is then alike wherever a file is opened."""
    settings = {"epsilon": 1e-5, "dtype": keras.config.floatx(), "name": "head_norm"}
    if norm == "group":
        # One group of all channels: a smaller one's mean over all places is 0, which a pool would make of its channels.
        return layers.GroupNormalization(1, **settings)(features)
    return layers.BatchNormalization(momentum=0.9, **settings)(features)


def _in_a_row(features, pool: str, backbone: Pyramid, image_size: tuple[int, ...]):
    """`(batch, numbers)`."""
    precise = keras.config.floatx()
    if pool == "mean":
        return layers.GlobalAveragePooling2D(dtype=precise, name="head_pool")(features)
    size = tuple(backbone.input.shape[1:3])
    if size != image_size:
        raise ValueError(
            f"image_size: {backbone.name} takes pictures of {size}, and here are {image_size}; a head that reads every "
            f"place needs one size: build the backbone with input_shape={(*image_size, 3)}, or pass pool='mean'"
        )
    return layers.Flatten(dtype=precise, name="head_flat")(features)


def _embedded(row, numbers: int, dropout: float, norm: Norm):
    """The linear layer and the last norm, whose scale is fixed: an embedding's length means nothing."""
    precise = keras.config.floatx()
    if dropout:
        row = layers.Dropout(dropout, dtype=precise, name="head_dropout")(row)
    x = layers.Dense(numbers, dtype=precise, name="head_dense")(row)
    settings = {"epsilon": 1e-5, "scale": False, "dtype": precise, "name": "embedding"}
    if norm == "group":
        return layers.LayerNormalization(**settings)(x)
    return layers.BatchNormalization(momentum=0.9, **settings)(x)


def _centres(count: int, numbers: int):
    """A row for each centre, a class's own ones in succession."""
    normal = keras.initializers.RandomNormal(stddev=FIRST_DEVIATION)
    layer = layers.Embedding(count, numbers, normal, dtype=keras.config.floatx(), name="class_centres")
    layer.build()
    return layer


def _is_iresnet(backbone: Pyramid) -> bool:
    return backbone.name in CATALOG and isinstance(CATALOG[backbone.name].spec, IResNetSpec)


def _needed(targets: dict, name: str, setting: str):
    if name not in targets:
        raise ValueError(
            f"targets: {setting} needs {name!r} `(batch,)`, as resnet_tasks.batches('faces', ...) has it; got "
            f"{', '.join(sorted(targets))}"
        )
    return targets[name]


def _check(class_names: Sequence[str], *, embedding: int, scale: float, centres: int, sample_rate: float) -> None:
    if len(class_names) < 2:
        raise ValueError(f"an embedder learns from at least two identities, got {list(class_names)}")
    for setting, value in {"embedding": embedding, "centres": centres}.items():
        if value < 1:
            raise ValueError(f"{setting}: expected 1 or more, got {value}")
    if not scale > 0:
        raise ValueError(f"scale: expected a number above 0, got {scale}")
    if not 0 < sample_rate <= 1:
        raise ValueError(f"sample_rate: expected a share above 0 and at most 1, got {sample_rate}")
