"""What it costs to find one face among a million: time of the exact search, memory of the process, loading.

    python benchmarks/gallery_search.py [--faces 1000000] [--width 512] [--queries 50] [--folder DIR] [--output FILE]
                                        [--network iresnet_50]

A gallery of embeddings drawn at random is written to a file, and a fresh process, with Keras and TensorFlow imported as
in `resnet-tasks faces identify` but without a network, loads it and looks for one face at a time: half of the queries
are of somebody in it, with a cosine of about 0.7, half of strangers.  The answers are compared with those of a plain
float64 product.  With --network another process has that network inside, of random weights, and does the whole of it:
from the bytes of a picture to a name.  Memory is that of the process at its peak, what it maps of the file included.
Times are of the wall clock and, of all threads together, of the processor; where other processes hold the cores (`load`
is the average of the last minute) the first are theirs as well.  The figures go to
benchmarks/results/gallery_search.json.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command line has it

import numpy as np

from resnet_tasks.engine.run_folder import environment
from resnet_tasks.faces.gallery import Gallery

ROWS = 50_000  # that are drawn at a time
EACH = 10  # pictures of a person
WARM = 3  # queries before those that are timed


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write_model(path: Path, network: str, width: int) -> str:
    """Writes an embedder of random weights; returns its fingerprint."""
    from resnet_tasks import backbones
    from resnet_tasks.engine.predicting import fingerprint
    from resnet_tasks.faces import FaceEmbedder
    from resnet_tasks.opening import open_model

    backbone = backbones.create(network, input_shape=(112, 112, 3))
    FaceEmbedder(backbone=backbone, class_names=["one", "other"], embedding=width).save(path)
    return fingerprint(open_model(path, "faces").loaded)


def write(path: Path, faces: int, width: int, fingerprint: str) -> float:
    """Writes a gallery; returns the seconds that saving took."""
    draw = np.random.default_rng(0)
    embeddings = np.empty((faces, width), np.float32)
    for start in range(0, faces, ROWS):
        part = embeddings[start : start + ROWS]
        part[:] = unit(draw.standard_normal(part.shape, np.float32))
    names = tuple(f"person {number // EACH:06d}" for number in range(faces))
    files = tuple(f"{name}/{number:07d}.jpg" for number, name in enumerate(names))
    known = Gallery(embeddings, names, files, fingerprint, 0.4)
    start = time.perf_counter()
    known.save(path)
    return time.perf_counter() - start


def drawn_queries(known: Gallery, count: int) -> np.ndarray:
    """float32 `(count, d)`: every second one of somebody in the gallery."""
    draw = np.random.default_rng(1)
    noise = unit(draw.standard_normal((count, known.embeddings.shape[1])))
    shown = draw.integers(0, len(known), count)
    noise[::2] += known.embeddings[shown[::2]]
    return unit(noise).astype(np.float32)


def plainly(known: Gallery, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place and similarity `(queries,)` of the best by a product in float64, some rows at a time."""
    place, similarity = np.zeros(len(queries), np.int64), np.full(len(queries), -np.inf)
    for start in range(0, len(known), ROWS):
        products = queries.astype(np.float64) @ known.embeddings[start : start + ROWS].T.astype(np.float64)
        best = products.max(axis=1)
        place = np.where(best > similarity, start + products.argmax(axis=1), place)
        similarity = np.maximum(best, similarity)
    return place, similarity


def resident(what: str) -> float:
    """MB of this process: `VmRSS`, now; `VmHWM`, at its peak; `RssAnon`, now, without what it maps of libraries."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024 / 1e6


def spread(values: list[float]) -> dict[str, float]:
    ordered = np.sort(values)
    chosen = {"least": ordered[0], "median": np.median(ordered), "p95": np.percentile(ordered, 95), "most": ordered[-1]}
    return {name: round(float(value), 1) for name, value in chosen.items()}


def measured(path: Path, queries: int) -> dict:
    """Loading, searching, comparing, in this process."""
    before = resident("VmRSS")
    start = time.perf_counter(), time.process_time()
    known = Gallery.load(path)
    loading = time.perf_counter() - start[0], time.process_time() - start[1]
    wall, cpu, found, scores = [], [], [], []
    asked = drawn_queries(known, queries + WARM)
    for query in asked:
        start = time.perf_counter(), time.process_time()
        places, similarities = known.search(query[None])
        wall.append(1e3 * (time.perf_counter() - start[0]))
        cpu.append(1e3 * (time.process_time() - start[1]))
        found.append(places[0, 0])
        scores.append(similarities[0, 0])
    peak, own, load = resident("VmHWM"), resident("RssAnon"), os.getloadavg()[0]
    place, similarity = plainly(known, asked)
    return {
        "load_seconds": round(loading[0], 2),
        "load_cpu_seconds": round(loading[1], 2),
        "search_ms": spread(wall[WARM:]),
        "search_cpu_ms": spread(cpu[WARM:]),
        "places_as_in_float64": float(np.mean(found == place)),
        "largest_difference": float(np.abs(scores - similarity).max()),
        "mb_before": round(before),
        "mb_peak": round(peak),
        "mb_without_libraries": round(own),
        "load": round(load, 1),
    }


def identified(path: Path, model: Path, network: str, queries: int) -> dict:
    """The whole of it: the model opened, the gallery loaded, the name of a picture."""
    from PIL import Image

    from resnet_tasks import recognition
    from resnet_tasks.opening import open_model

    face = path.with_name("face.png")
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (112, 112, 3), np.uint8)).save(face)
    start = time.perf_counter()
    loaded = open_model(model, "faces").loaded
    recognition.identify(loaded, path, [str(face)])
    seconds = time.perf_counter() - start
    known, encoded, wall = Gallery.load(path), face.read_bytes(), []
    for _ in range(queries + WARM):
        start = time.perf_counter()
        known.search(loaded.answer([encoded])["embedding"])
        wall.append(1e3 * (time.perf_counter() - start))
    return {
        "network": network,
        "open_and_identify_seconds": round(seconds, 2),
        "picture_to_name_ms": spread(wall[WARM:]),
        "mb_peak": round(resident("VmHWM")),
        "mb_without_libraries": round(resident("RssAnon")),
        "load": round(os.getloadavg()[0], 1),
    }


def in_own_process(function, *arguments):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--faces", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--folder", help="where the file of 2 GB lies meanwhile")
    parser.add_argument("--network", help="a backbone, to measure the whole of an identification with")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "gallery_search.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path, model, mark = Path(folder) / "gallery", Path(folder) / "model.keras", "0123456789abcdef"
        if options.network:
            mark = in_own_process(write_model, model, options.network, options.width)
        saving = in_own_process(write, path, options.faces, options.width, mark)
        figures = {
            "faces": options.faces,
            "width": options.width,
            "queries": options.queries,
            "file_mb": round(path.stat().st_size / 1e6),
            "save_seconds": round(saving, 2),
            **in_own_process(measured, path, options.queries),
        }
        if options.network:
            figures["identify"] = in_own_process(identified, path, model, options.network, options.queries)
    figures["note"] = _note(figures["load"])
    print(json.dumps(figures))
    options.output.parent.mkdir(exist_ok=True)
    about = {"benchmark": "gallery_search", **figures, "environment": environment()}
    options.output.write_text(json.dumps(about, indent=1) + "\n")


def _note(load: float) -> str:
    cores = len(os.sched_getaffinity(0))
    if load <= cores + 0.5:
        return "nothing else held the cores"
    return f"other processes held the {cores} cores (load {load}): the times of the wall clock are theirs as well"


if __name__ == "__main__":
    main()
