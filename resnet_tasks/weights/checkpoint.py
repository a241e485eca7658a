"""What a file of weights holds, whoever wrote it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

Format = Literal["pth", "safetensors", "npz", "h5", "keras"]


@dataclass(frozen=True)
class Checkpoint:
    """Named arrays, as they lie in a file.

    Attributes:
        path: The file.
        format: What it is.
        tensors: By the file's own names, in its own layout and type; bfloat16 as float32.
        details: What else it says: metadata, the class of a Keras model, the key the arrays were found under.
    """

    path: Path
    format: Format
    tensors: dict[str, np.ndarray]
    details: dict[str, Any] = field(default_factory=dict)
