"""report.html: what a run was and what came of it, on one page that needs nothing but itself.

The page is made of the files in the run folder alone, so it can be made again at any time, of any
task's run, also of one that has not ended.  A section is a function of the run folder; a file that
is missing leaves its part out.  A task that has more to show writes PNG or SVG files to
`evaluation/<split>/plots/`, and they appear.
"""

import os
from pathlib import Path

from resnet_tasks.engine.report import evaluation, training
from resnet_tasks.engine.report.page import page

SECTIONS = (
    training.summary,
    training.divergence,
    evaluation.evaluations,
    training.curves,
    training.training_batch,
    training.data,
    training.weights,
    training.recipe,
    training.command,
    training.environment,
)


def write_report(run: str | os.PathLike) -> Path:
    """Writes `report.html` into a run folder, in place of an older one, and returns its path."""
    run = Path(run).resolve()
    path, part = run / "report.html", run / ".report.html.part"
    content = page(training.title(run), [section(run) for section in SECTIONS])
    part.write_text(content, encoding="utf-8")
    part.replace(path)
    return path
