"""What measuring a detector costs: 5,000 pictures of 100 found boxes each, 80 classes or one, beside pycocotools.

    python benchmarks/detection_evaluation.py [--pictures 5000] [--classes 80 1]

The results are drawn at random: seven true boxes a picture, found ones around them, half of them of the right class.
Time and the growth of the memory at its peak are those of `detection.metrics.measure`, all its tables included, and of
pycocotools, where it is installed, for COCO's twelve numbers alone, each in a process of its own; both read the
same boxes, in memory.  The figures go to benchmarks/results/detection_evaluation.json.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import resource
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command line has it

import numpy as np

from resnet_tasks.data.examples import LabelMap, Split
from resnet_tasks.detection.metrics import Predictions, measure
from resnet_tasks.engine.run_folder import environment

FOUND, BATCH = 100, 16
MOST = 40  # true boxes of a picture
STATS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
STATS += ("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large")


def data(pictures: int, classes: int) -> tuple[Split, LabelMap, dict]:
    """A split with its truth, its labels, and a detector's answers."""
    draw = np.random.default_rng(0)
    count = np.clip(draw.poisson(7, pictures), 0, MOST)
    real = np.arange(MOST) < count[:, None]
    labels = np.where(real, draw.integers(0, classes, real.shape), -1).astype(np.int32)
    corner, sides = draw.uniform(0, 500, (pictures, MOST, 2)), draw.uniform(8, 200, (pictures, MOST, 2))
    boxes = np.where(real[..., None], np.concatenate([corner, corner + sides], axis=-1), 0.0)
    annotations = {
        "boxes": boxes,
        "labels": labels,
        "crowd": real & (draw.random(real.shape) < 0.01),
        "area": 0.7 * sides.prod(axis=-1),
        "image_id": np.arange(pictures) + 1,
    }
    split = Split("val", tuple(map(str, range(pictures))), encoded=(b"",) * pictures, annotations=annotations)
    around = draw.integers(0, np.maximum(count, 1)[:, None], (pictures, FOUND))
    found = np.take_along_axis(boxes, around[..., None], axis=1) + draw.normal(0, 8, (pictures, FOUND, 4))
    found[..., 2:] = np.maximum(found[..., 2:], found[..., :2] + 1)
    right = draw.random((pictures, FOUND)) < 0.5
    said = np.where(right, np.take_along_axis(labels, around, axis=1), draw.integers(0, classes, right.shape))
    answers = {
        "boxes": found.astype(np.float32),
        "scores": -np.sort(-draw.random((pictures, FOUND)), axis=1).astype(np.float32),
        "label_ids": np.maximum(said, 0).astype(np.int32),
    }
    return split, LabelMap(tuple(map(str, range(classes)))), answers


def pairs(answers: dict, pictures: int):
    """The answers as evaluation hands them over."""
    for start in range(0, pictures, BATCH):
        rows = slice(start, min(start + BATCH, pictures))
        index = np.arange(rows.start, rows.stop)
        yield {name: value[rows] for name, value in answers.items()}, {"index": index, "weight": np.ones(len(index))}


def ours(split: Split, labels: LabelMap, answers: dict, _predictions: Predictions) -> list[float]:
    """COCO's twelve numbers, among all the others."""
    measured = measure(pairs(answers, len(split)), split, labels)
    return [measured[name] for name in STATS]


def theirs(split: Split, labels: LabelMap, _answers: dict, predictions: Predictions) -> list[float]:
    """The same by pycocotools, from its dicts."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    known, annotations = split.annotations, []
    for picture, slot in zip(*np.nonzero(known["labels"] >= 0)):
        x0, y0, x1, y1 = known["boxes"][picture, slot].tolist()
        about = {"id": len(annotations) + 1, "image_id": int(picture) + 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}
        about |= {"category_id": int(known["labels"][picture, slot]), "area": float(known["area"][picture, slot])}
        annotations.append({**about, "iscrowd": int(known["crowd"][picture, slot])})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": number + 1} for number in range(len(split))],
            "categories": [{"id": number} for number in range(len(labels))],
            "annotations": annotations,
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(list(predictions)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


def resident() -> float:
    """MB of this process that lie in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


class Watch:
    """The highest `resident` of a block, looked at every five milliseconds."""

    def __enter__(self) -> "Watch":
        self.start, self.peak, self.ended = resident(), resident(), threading.Event()
        self.seconds, self.cpu_seconds = time.perf_counter(), time.process_time()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def look(self) -> None:
        while not self.ended.wait(0.005):
            self.peak = max(self.peak, resident())

    def __exit__(self, *_) -> None:
        self.seconds = time.perf_counter() - self.seconds
        self.cpu_seconds = time.process_time() - self.cpu_seconds
        self.ended.set()
        self.thread.join()
        self.growth = max(self.peak, resident()) - self.start


def measured(function, pictures: int, classes: int) -> dict:
    """Seconds, growth and numbers of one of the two, in this process."""
    split, labels, answers = data(pictures, classes)
    small = data(8, classes)
    predictions = measure(pairs(answers, len(split)), split, labels)["predictions"] if function is theirs else None
    if function is ours:
        ours(*small, None)  # the imports
    else:
        theirs(*small, measure(pairs(small[2], 8), *small[:2])["predictions"])
    with Watch() as watch:
        numbers = function(split, labels, answers, predictions)
    times = {"seconds": round(watch.seconds, 2), "cpu_seconds": round(watch.cpu_seconds, 2)}
    return {**times, "growth_mb": round(watch.growth), "numbers": numbers}


def in_own_process(function, pictures: int, classes: int) -> dict:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measured, function, pictures, classes).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--classes", type=int, nargs="+", default=[80, 1])
    options = parser.parse_args()
    runs = []
    for classes in options.classes:
        figures = {"ours": in_own_process(ours, options.pictures, classes)}
        if find_spec("pycocotools"):
            figures["pycocotools"] = in_own_process(theirs, options.pictures, classes)
        numbers = np.array([one.pop("numbers") for one in figures.values()])
        figures["largest_difference"] = float(np.abs(numbers - numbers[0]).max())
        runs.append({"pictures": options.pictures, "found_each": FOUND, "classes": classes, **figures})
        print(json.dumps(runs[-1]), flush=True)
    target = Path(__file__).parent / "results" / "detection_evaluation.json"
    target.parent.mkdir(exist_ok=True)
    about = {"benchmark": "detection_evaluation", "runs": runs, "environment": environment()}
    there = ("faster-coco-eval", *(["pycocotools"] if find_spec("pycocotools") else []))
    about["environment"]["packages"] |= {name: metadata.version(name) for name in there}
    target.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
