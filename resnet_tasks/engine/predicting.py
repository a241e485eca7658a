"""`predict` for many files: found, answered, written down a line a picture, drawn, and gone on with if interrupted."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnet_tasks.data.decode import decode_array
from resnet_tasks.data.examples import LabelMap
from resnet_tasks.data.formats import SUFFIXES
from resnet_tasks.engine.checkpoints import write_aside
from resnet_tasks.engine.loaded import Loaded
from resnet_tasks.errors import UsageError

MOST_LISTED = 100  # pictures whose answers are returned, and drawn without being asked to


@dataclass(frozen=True)
class Paper:
    """How a task's answers are put on paper.

    Attributes:
        draw: `(image, answer, labels)` to a Pillow picture; `None` where there is nothing to see.
        keep: `(answer, path without a suffix or None, labels) -> answer` as JSON can hold it; what cannot stand in a
            line of text goes to files of that name.
        conclude: `(folder, answers, labels) -> {file name: text}`: what is written of all answers together.
    """

    draw: Callable | None = None
    keep: Callable = lambda answer, path, labels: answer
    conclude: Callable = lambda folder, answers, labels: {}


def predict_files(
    loaded: Loaded,
    what: list[str],
    paper: Paper,
    output,
    threshold: float | None,
    draw: bool,
    tile: bool = False,
) -> dict:
    """Answers files; see `commands.predict`."""
    files = list(find_pictures(what))
    if output is None:
        if len(files) > MOST_LISTED:
            raise UsageError(f"{len(files)} pictures: more than {MOST_LISTED} need --output DIR for their answers")
        return {
            "pictures": [_kept(paper, answer, None, loaded.labels) for answer in loaded.predict(files, threshold, tile)]
        }
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    lines = folder / "predictions.jsonl"
    done = _earlier(folder, lines, fingerprint(loaded), tile)
    wanted = [file for file in files if file not in done]
    drawn = len(files) <= MOST_LISTED or draw
    with lines.open("a", encoding="utf-8") as written:
        for answer in loaded.predict(iter(wanted), threshold, tile):
            path = folder / _called(answer["file"])
            if drawn and paper.draw and "error" not in answer:
                picture = decode_array(answer["file"])
                paper.draw(picture, answer, loaded.labels).save(path.with_name(f"{path.name}.png"))
            answer = _kept(paper, answer, path, loaded.labels)
            written.write(json.dumps(answer, ensure_ascii=False) + "\n")
            written.flush()
            done[answer["file"]] = answer
    for name, text in paper.conclude(folder, list(done.values()), loaded.labels).items():
        write_aside(folder / name, text)
    answers = [done[file] for file in files]
    if len(files) <= MOST_LISTED:
        return {"pictures": answers, "output": str(folder)}
    return {"pictures": len(files), "errors": sum("error" in answer for answer in answers), "output": str(folder)}


def find_pictures(what: list[str]) -> Iterator[str]:
    """The files that are named: themselves, in folders (recursively, sorted), in `@lists` (a path a line).

    Raises:
        UsageError: A folder or a list that does not exist, or a folder without a picture.  A file that does not
            exist is answered with an error of its own, and costs no other its answer.
    """
    for name in what:
        if name.startswith("@"):
            listed = Path(name[1:])
            if not listed.is_file():
                raise UsageError(f"{name}: there is no such list")
            yield from (line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip())
        elif Path(name).is_dir():
            found = sorted(
                str(path)
                for path in Path(name).rglob("*")
                if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
            )
            if not found:
                raise UsageError(f"{name}: the folder holds no picture ({', '.join(sorted(SUFFIXES))})")
            yield from found
        else:
            yield name


def fingerprint(loaded: Loaded) -> str:
    """Tells one trained model from another: a hash of what answers depend on, in any order, and of its class names."""
    weights = loaded.saved.model_weights if loaded.predictor is None else loaded.predictor.weights
    parts = sorted(hashlib.sha256(np.ascontiguousarray(weight.numpy()).tobytes()).hexdigest() for weight in weights)
    return hashlib.sha256("\n".join([*loaded.labels.names, *parts]).encode()).hexdigest()[:16]


def _earlier(folder: Path, lines: Path, model: str, tile: bool) -> dict[str, dict]:
    """The answers that are there already, by file; a torn last line is cut."""
    kept = folder / "model.json"
    before = json.loads(kept.read_text()) if kept.is_file() else {"fingerprint": model, "tile": tile}
    if before["fingerprint"] != model:
        raise UsageError(
            f"--output {folder} holds answers of another model ({before['fingerprint']}, this one is {model}); "
            "name another folder"
        )
    if before.get("tile", False) != tile:
        made = "without" if tile else "with"
        raise UsageError(f"--output {folder} holds answers made {made} --tile; name another folder")
    write_aside(kept, json.dumps({"fingerprint": model, "tile": tile}) + "\n")
    done = {}
    if lines.is_file():
        for line in lines.read_text(encoding="utf-8").splitlines():
            try:
                answer = json.loads(line)
            except ValueError:
                break
            done[answer["file"]] = answer
        write_aside(lines, "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in done.values()))
    return done


def _kept(paper: Paper, answer: dict, path: Path | None, labels: LabelMap) -> dict:
    return answer if "error" in answer else paper.keep(answer, path, labels)


def _called(file: str) -> str:
    """What the files of a picture's answer are called; the hash tells apart equal names of different folders."""
    return f"{Path(file).stem}-{hashlib.sha256(file.encode()).hexdigest()[:6]}"
