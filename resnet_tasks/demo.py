"""`resnet-tasks demo`: the whole way on the data that come with the package."""

import json
import time
from pathlib import Path

from resnet_tasks.commands import export, load, train

FIGURES = {"classify": "top1", "detect": "AP50", "segment": "mIoU", "faces": "auc"}  # what a demo is judged by


def demo(task: str = "classify") -> dict:
    """Trains, evaluates, exports, reloads and predicts on the embedded data; under `runs/demo/`.

    Returns:
        `accuracy`, in 0..1, which is the figure that `measure` names (top1, AP50, mIoU or auc); `report`,
        `saved_model`, `run`, `seconds`, and `answers` of the reloaded artefact on three pictures.
    """
    from resnet_tasks.engine.run_folder import next_free
    from resnet_tasks.opening import known, open_model, task_on

    start = time.perf_counter()
    run = train(task, f"quickstart/{known(task)}_digits", run=next_free(Path("runs") / "demo", task))
    metrics = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
    saved = export(run)
    reloaded = load(saved)
    split = task_on(open_model(run))[0].batches("test", training=False).split
    answers = reloaded.predict([split.read(index) for index in range(3)])
    return {
        "accuracy": metrics[FIGURES[task]],
        "measure": FIGURES[task],
        "report": run / "report.html",
        "saved_model": saved,
        "run": run,
        "seconds": time.perf_counter() - start,
        "answers": [{**answer, "file": split.ids[row]} for row, answer in enumerate(answers)],
    }
