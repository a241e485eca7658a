"""One picture's answer as a line for people, by task."""

from collections.abc import Mapping
from typing import Any


def classify(answer: Mapping[str, Any]) -> str:
    """The best three classes and their probabilities."""
    names = answer.get("label_names") or [f"class {number}" for number in answer["label_ids"]]
    best = list(zip(names, answer["label_ids"], strict=True))[:3]
    return ", ".join(f"{name} {answer['probabilities'][number]:.1%}" for name, number in best)


def detect(answer: Mapping[str, Any]) -> str:
    """How many things of each class, and the surest of each; of none, what the best would have scored."""
    names = answer.get("label_names") or [f"class {number}" for number in answer["label_ids"]]
    best: dict[str, list[float]] = {}
    for name, score in zip(names, answer["scores"], strict=True):
        best.setdefault(name, []).append(score)
    if not best and (nearly := getattr(answer, "nearly", None)):
        return f"nothing (the best score is {nearly[0]:.2g}, the threshold {nearly[1]:.2g})"
    return ", ".join(f"{len(scores)} {name} (to {max(scores):.0%})" for name, scores in best.items()) or "nothing"


def segment(answer: Mapping[str, Any]) -> str:
    """The classes on the mask by their shares of the picture, largest first."""
    names = answer.get("label_names") or [f"class {number}" for number in answer["label_ids"]]
    shares = [f"{name} {share:.1%}" for name, share in zip(names, answer["shares"], strict=True)]
    return ", ".join(shares) or "nothing"


def faces(answer: Mapping[str, Any]) -> str:
    """How many numbers there are, and the first of them."""
    embedding = answer["embedding"]
    return f"{len(embedding)} numbers: {', '.join(f'{value:.3f}' for value in embedding[:4])}, ..."
