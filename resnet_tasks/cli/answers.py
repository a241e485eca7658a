"""One picture's answer as a line for people, by task."""

from collections.abc import Mapping
from typing import Any


def classify(answer: Mapping[str, Any]) -> str:
    """The best three classes and their probabilities."""
    names = answer.get("label_names") or [f"class {number}" for number in answer["label_ids"]]
    best = list(zip(names, answer["label_ids"], strict=True))[:3]
    return ", ".join(f"{name} {answer['probabilities'][number]:.1%}" for name, number in best)
