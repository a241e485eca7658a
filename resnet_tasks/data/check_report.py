"""What a check found, for people and for programs."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

LEVELS = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing to know: `level` is "error", "warning" or "note"; `files` are the culprits."""

    level: str
    what: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Histogram:
    """How many things of each split lie in each bin: `bins[name][split]`."""

    title: str
    bins: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        where: What was checked.
        format: How it was read.
        counts: For each split the pictures (or boxes or pixels: `counted`) of each class, in the label map's order.
        findings: Errors first.
        samples: Groups of duplicates to show: pairs of a file and its miniature, uint8 `(16, 16, 3)`.
        counted: "pictures", "boxes" or "pixels".
        source_ids: The source's own id of each class, where it has any.
        pictures: Where boxes or pixels are counted, for each split its pictures by kind: all, background, ...
        histogram: Of the boxes' sizes.
        drawn: Pictures with their boxes or masks, and what stands below each.
        present: Where pixels are counted, for each split the pictures that each class is in.
        colours: RGB of each class in the masks drawn.
    """

    where: str
    format: str
    counts: dict[str, dict[str, int]]
    findings: tuple[Finding, ...]
    samples: tuple[tuple[tuple[str, np.ndarray], ...], ...] = field(default=(), repr=False)
    counted: str = "pictures"
    source_ids: dict[str, Hashable] = field(default_factory=dict)
    pictures: dict[str, dict[str, int]] = field(default_factory=dict)
    histogram: Histogram | None = None
    drawn: tuple[tuple[str, Image.Image], ...] = field(default=(), repr=False)
    present: dict[str, dict[str, int]] = field(default_factory=dict)
    colours: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    @property
    def errors(self) -> bool:
        return any(finding.level == "error" for finding in self.findings)

    def text(self) -> str:
        from resnet_tasks.data import check_page

        return check_page.text(self)

    def html(self) -> str:
        from resnet_tasks.data import check_page

        return check_page.html(self)

    def to_json(self) -> dict:
        more: dict[str, object] = {}
        if self.counted != "pictures":
            more = {"source_ids": self.source_ids, "pictures": self.pictures}
        if self.counted == "boxes":
            more["box_sizes"] = self.histogram.bins if self.histogram else {}
        if self.counted == "pixels":
            more["pictures_with"] = self.present
        return {
            "where": self.where,
            "format": self.format,
            "counts": self.counts,
            **more,
            "errors": self.errors,
            "findings": [
                {"level": finding.level, "what": finding.what, "files": list(finding.files)}
                for finding in self.findings
            ],
        }


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: LEVELS.index(finding.level)))
