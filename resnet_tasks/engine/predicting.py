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

PREPARING = ("image_size", "flip")
LINES = "predictions.jsonl"
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
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"--threshold: from 0 to 1 expected, not {threshold:g}")
    files = list(find_pictures(what))
    if output is None:
        if len(files) > MOST_LISTED:
            raise UsageError(f"{len(files)} pictures: more than {MOST_LISTED} need --output DIR for their answers")
        return {
            "pictures": [_kept(paper, answer, None, loaded.labels) for answer in loaded.predict(files, threshold, tile)]
        }
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder} is a file; expected a folder")
    folder.mkdir(parents=True, exist_ok=True)
    # Without one of its own a model leaves nothing out.
    asked = loaded.settings.get("threshold", 0.0) if threshold is None else threshold
    done = _earlier(folder, {"fingerprint": fingerprint(loaded), "tile": tile, "threshold": asked})
    lines = folder / LINES
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
            try:
                lines = listed.read_text(encoding="utf-8-sig").splitlines()
            except UnicodeDecodeError as error:
                raise UsageError(f"{name}: not a text in UTF-8 ({error}); save it as one") from None
            yield from (line.strip() for line in lines if line.strip())
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
    """Tells one trained model from another: a hash of what answers depend on, in any order, and of its class names.

    Settings by which the same weights answer otherwise belong to it.
    """
    weights = loaded.saved.model_weights if loaded.predictor is None else loaded.predictor.weights
    parts = sorted(hashlib.sha256(np.ascontiguousarray(weight.numpy()).tobytes()).hexdigest() for weight in weights)
    preparing = [json.dumps({name: loaded.settings[name]}) for name in PREPARING if name in loaded.settings]
    return hashlib.sha256("\n".join([*loaded.labels.names, *preparing, *parts]).encode()).hexdigest()[:16]


def _earlier(folder: Path, asked: dict) -> dict[str, dict]:
    """The answers that are there already, by file, but for those of files that could not be read; a torn last line is
    cut.

    Args:
        folder: Of an earlier call, or a new one.
        asked: What model.json says: `fingerprint`, `tile`, `threshold`.

    Raises:
        UsageError: The folder's answers are of another model, or were asked for in another way, or its files are not
            of this command; nothing of them is touched.
    """
    kept, lines = folder / "model.json", folder / LINES
    if kept.exists() or lines.exists():
        _check_same(folder, kept, asked)
    done, written = {}, lines.read_text(encoding="utf-8").splitlines() if lines.is_file() else []
    for number, line in enumerate(written, 1):
        try:
            answer = json.loads(line)
            done[answer["file"]] = answer
        except (ValueError, TypeError, KeyError):
            if number == len(written):
                break
            raise UsageError(f"--output {folder}: {LINES}, line {number}, is no answer; name another folder") from None
    done = {file: answer for file, answer in done.items() if "error" not in answer}
    write_aside(kept, json.dumps(asked) + "\n")
    if written:
        write_aside(lines, "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in done.values()))
    return done


def _check_same(folder: Path, kept: Path, asked: dict) -> None:
    """Raises UsageError unless an earlier call left the folder, and asked for the same."""
    try:
        before = json.loads(kept.read_text(encoding="utf-8"))
        model = before["fingerprint"]
    except (OSError, ValueError, TypeError, KeyError):
        raise UsageError(
            f"--output {folder} holds files that this command did not write ({kept.name} or {LINES}); name another "
            "folder"
        ) from None
    if model != asked["fingerprint"]:
        raise UsageError(
            f"--output {folder} holds answers of another model ({model}, this one is {asked['fingerprint']}); "
            "name another folder"
        )
    if before.get("tile", False) != asked["tile"]:
        made = "without" if asked["tile"] else "with"
        raise UsageError(f"--output {folder} holds answers made {made} --tile; name another folder")
    if before.get("threshold", asked["threshold"]) != asked["threshold"]:
        raise UsageError(
            f"--output {folder} holds answers from the threshold {before['threshold']:g} on, not "
            f"{asked['threshold']:g}; name another folder"
        )


def _kept(paper: Paper, answer: dict, path: Path | None, labels: LabelMap) -> dict:
    return answer if "error" in answer else paper.keep(answer, path, labels)


def _called(file: str) -> str:
    """What the files of a picture's answer are called; the hash tells apart equal names of different folders."""
    return f"{Path(file).stem}-{hashlib.sha256(file.encode()).hexdigest()[:6]}"
