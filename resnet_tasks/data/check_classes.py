"""The check of pictures with one class each."""

from collections.abc import Mapping

import numpy as np

from resnet_tasks.data import check_pictures
from resnet_tasks.data.check_counts import class_findings
from resnet_tasks.data.check_report import Report, worst_first
from resnet_tasks.data.examples import Split
from resnet_tasks.data.readers import read_classification


def check_classification(where: str | Mapping[str, str], **reading) -> Report:
    """Checks pictures with one class each; takes the arguments of `read_classification`, but for `on_bad_image`."""
    source = read_classification(where, on_bad_image="skip", **reading)
    names = source.labels.names

    def said(split: Split, index: int) -> tuple[int, str]:
        label = int(split.annotations["label"][index])
        return label, names[label]

    pictures, broken = check_pictures.decoded(source, said)
    counts = {
        name: np.bincount(split.annotations["label"], minlength=len(names)) for name, split in source.splits.items()
    }
    findings = list(check_pictures.notes(source))
    findings += check_pictures.unreadable(source, broken)
    findings += class_findings(counts, names, "picture", "look at the balanced accuracy, or try data.balance")
    findings += check_pictures.odd_sizes(pictures)
    same, samples = check_pictures.duplicated(pictures, "classes")
    return Report(
        where=source.where,
        format=source.format,
        counts={split: dict(zip(names, count.tolist(), strict=True)) for split, count in counts.items()},
        findings=worst_first([*findings, *same]),
        samples=samples,
    )
