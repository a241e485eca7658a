"""Keeps the small files of a run's figures, and writes the table of README.md from those that are kept.

One of:

    python pipelines/write_table.py keep RUN [NAME]      # into results/<recipe>/, or results/NAME/; then the table
    python pipelines/write_table.py                      # the table alone
"""

import csv
import json
import re
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS, README = HERE / "results", HERE / "README.md"
BEGIN, END = "<!-- table: written by write_table.py -->", "<!-- end of table -->"
WORDS = (
    ("top1", "top-1"), ("AP50", "AP50"), ("AP", "AP"), ("mIoU", "mIoU"), ("pixel_accuracy", "pixel accuracy"),
    ("auc", "AUC"), ("accuracy", "10-fold accuracy"), ("rank1", "rank-1"),
)  # fmt: skip
COLUMNS = ("recipe", "model", "start", "data", "epochs", "number", "hardware", "training time", "commit")


def keep(run: Path, name: str | None = None) -> Path:
    """Copies a finished run's metrics, recipe, hardware and time; no weights, no path of the machine it ran on."""
    recipe = (run / "recipe.yaml").read_text()
    recipe = re.sub(r"^(  (?:data_dir|images): ).*$", r"\1null", recipe, flags=re.MULTILINE)
    recipe = re.sub(r"^(  (?:where|weights): )/.*/(.*)$", r"\1\2", recipe, flags=re.MULTILINE)
    state = json.loads(max((run / "checkpoints").glob("*/state.json")).read_text())
    if not state["finished"]:
        raise SystemExit(f"{run} is not finished")
    environment = json.loads((run / "environment.json").read_text())
    named = re.search(r"(?:train) (\S+/\S+)", (run / "command.txt").read_text())
    if named is None:
        raise SystemExit(f"{run}/command.txt names no recipe")
    folder = RESULTS / (name or named[1])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(recipe)
    for metrics in (run / "evaluation").glob("*/metrics.json"):
        measured = json.loads(metrics.read_text())
        small = {
            key: value for key, value in measured.items() if key == "per_class" or not isinstance(value, dict | list)
        }
        (folder / f"metrics-{metrics.parent.name}.json").write_text(json.dumps(small, indent=1) + "\n")
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    if (run / "transfer.json").is_file():
        transfer = json.loads((run / "transfer.json").read_text())
        transfer["source"] = Path(transfer["source"]).name
        (folder / "transfer.json").write_text(json.dumps(transfer, indent=1) + "\n")
    about = {"recipe": named[1], "seconds": state["seconds"], "steps": state["step"], "epochs": int(rows[-1]["epoch"])}
    hardware = {key: environment[key] for key in ("processor", "cores", "packages", "commit", "python")}
    (folder / "run.json").write_text(json.dumps({**about, **hardware}, indent=1) + "\n")
    (folder / "metrics.csv").write_text((run / "metrics.csv").read_text())
    return folder


def row(folders: list[Path]) -> tuple[str, ...]:
    """A line of the table: of one run, or of the mean of several that differ in their split alone."""
    folder = folders[0]
    run, recipe = json.loads((folder / "run.json").read_text()), (folder / "recipe.yaml").read_text()
    splits = sorted(path.stem.partition("-")[2] for path in folder.glob("metrics-*.json"))
    split = "test" if "test" in splits else splits[0]
    measured = [json.loads((one / f"metrics-{split}.json").read_text()) for one in folders]
    found = lambda key: re.search(rf"^  {key}: (.*)$", recipe, re.MULTILINE)[1]  # noqa: E731
    best = ", ".join(_figure(word, [one[key] for one in measured]) for key, word in WORDS if key in measured[0])
    number = f"{best} on {measured[0]['images']:,} {split} pictures"
    if len(folders) > 1:
        number += f", the mean of {len(folders)} split seeds (and from least to most)"
    kind = re.search(r"^  (?:detector|segmenter|margin): (.*)$", recipe, re.MULTILINE)
    hardware = f"{run['cores']} cores, {run['processor']}"
    seconds = statistics.fmean(json.loads((one / "run.json").read_text())["seconds"] for one in folders)
    minutes = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
    return (
        run["recipe"],
        f"{kind[1]}, {found('backbone')}" if kind else found("backbone"),
        _start(folder, found),
        found("where"),
        str(run["epochs"]),
        number,
        hardware,
        minutes,
        str(run["commit"]),
    )


def _figure(word: str, values: list[float]) -> str:
    form = ".2%" if word == "top-1" else ".3f"
    spread = f" ({min(values):{form}} to {max(values):{form}})" if len(values) > 1 else ""
    return f"{word} {statistics.fmean(values):{form}}{spread}"


def _start(folder: Path, found) -> str:
    """Where the weights came from, and what of them did not train."""
    if found("weights") == "none":
        return "scratch"
    frozen = re.search(r"^  freeze: (.*)$", (folder / "recipe.yaml").read_text(), re.MULTILINE)
    to = f", frozen to {frozen[1]}" if frozen and frozen[1] != "null" else ""
    share = json.loads((folder / "transfer.json").read_text())["share"]
    return f"{found('weights')} ({share:.0%} of the backbone{to})"


def write_table() -> None:
    """Puts the table between its two marks in README.md."""
    lines = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
    alike: dict[str, list[Path]] = {}
    for path in sorted(RESULTS.rglob("run.json")):
        recipe = re.sub(r"^  split_seed: .*\n", "", (path.parent / "recipe.yaml").read_text(), flags=re.MULTILINE)
        about = json.loads(path.read_text())
        alike.setdefault(f"{about['recipe']} {about['commit']}\n{recipe}", []).append(path.parent)
    lines += [" | ".join(row(folders)) for folders in alike.values()]
    table = "\n".join(f"| {line} |" for line in lines)
    before, _, rest = README.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["keep"]:
        print(keep(Path(sys.argv[2]), *sys.argv[3:4]))
    write_table()
