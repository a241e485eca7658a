"""Sections about what a model was measured to do: one for each folder of `evaluation/`."""

from collections.abc import Sequence
from pathlib import Path

from resnet_tasks.engine import draw
from resnet_tasks.engine.report import plots
from resnet_tasks.engine.report.files import (
    embedded,
    is_small,
    is_wide,
    number,
    read_json,
    read_rows,
    read_table,
)
from resnet_tasks.engine.report.page import (
    Html,
    duration,
    figure,
    fraction,
    section,
    shown,
    table,
    tag,
)

FIRST = ("test", "val")  # then the others by name
NO_FRACTIONS = ("loss", "threshold")  # measures that may lie in 0..1 and are no share of 1
MOST_CLASSES = 30  # of a confusion matrix that is shown whole
MOST_PAIRS = 20
MOST_PICTURES = 24
PICTURE_SIDE = 200  # pixels
WIDE_SIDE = 760  # of a picture that has its truth beside it
PLOT_SIDE = 1000
SMALL = 100  # pixels: a picture below this is shown with its pixels as squares
TABLE_MISTAKES = 20
LONG = 30  # letters: of a longer file name only its last part is shown


def folders(run: Path) -> list[Path]:
    """The evaluations of a run, that of the test split first."""
    found = [path for path in (run / "evaluation").glob("[!.]*") if path.is_dir()]
    place = {name: index for index, name in enumerate(FIRST)}
    return sorted(found, key=lambda path: (place.get(path.name, len(FIRST)), path.name))


def headline(folder: Path) -> tuple[str, str] | None:
    """The measure that metrics.json names first, a task's most telling one, as name and text."""
    for name, value in _flat(read_json(folder / "metrics.json")).items():
        if isinstance(value, float):
            return name, f"{value:.2%}" if _is_fraction(name, value) else f"{value:.4g}"
    return None


def evaluations(run: Path) -> Html | None:
    """Everything that was evaluated, in turn."""
    parts = [section(f"Evaluation: {folder.name}", *(part(folder) for part in PARTS)) for folder in folders(run)]
    return Html("".join(part for part in parts if part)) or None


def measures(folder: Path) -> Html | None:
    """metrics.json, tables within it left out."""
    values = _flat(read_json(folder / "metrics.json"))
    if values.get("split") == folder.name:
        del values["split"]  # the heading says it
    tiles = [
        tag("div", tag("dt", name.replace("_", " ")), tag("dd", _measure(name, value)))
        for name, value in values.items()
    ]
    return tag("dl", *tiles, class_="tiles") if tiles else None


def reliability(folder: Path) -> Html | None:
    """How sure the model is against how right."""
    bins = read_json(folder / "reliability.json", list)
    if not bins:
        return None
    uri = draw.data_uri(plots.svg(plots.reliability(bins)))
    note = "On the dotted line it is right as often as it says; below it, surer than right."
    return tag("div", figure("Reliability", uri, note), class_="charts")


def pictures(folder: Path) -> Html | None:
    """Whatever else the task drew."""
    files = sorted(path for path in (folder / "plots").glob("*") if path.suffix in (".png", ".svg"))
    found = [(path.stem.replace("_", " "), embedded(path, PLOT_SIDE)) for path in files]
    drawn = [figure(name, uri) for name, uri in found if uri]
    return tag("div", *drawn, class_="charts drawn") if drawn else None


def per_class(folder: Path) -> Html | None:
    """per_class.csv."""
    columns, *rows = read_table(folder / "per_class.csv") or [[]]
    if not rows:
        return None
    shares = [_all_fractions(column) for column in zip(*rows)]
    cells = ([row[0], *(_cell(*pair) for pair in zip(row[1:], shares[1:]))] for row in rows)
    return _titled("By class", table(columns, cells, class_="named"))


def confusion(folder: Path) -> Html | None:
    """confusion.csv: the whole matrix for a few classes, the most confused pairs for many."""
    columns, *rows = read_table(folder / "confusion.csv") or [[]]
    if not rows:
        return None
    names = columns[1:]
    matrix = [(row[0], [int(number(cell) or 0) for cell in row[1:]]) for row in rows]
    if len(names) > MOST_CLASSES:
        return _pairs(names, matrix)
    head = [tag("th", "truth ↓ answer →"), *(tag("th", name, scope="col") for name in names)]
    body = []
    for truth, counts in matrix:
        cells = (_confused(truth, name, count, sum(counts)) for name, count in zip(names, counts))
        body += [tag("tr", tag("th", truth, scope="row", title=truth), *cells)]
    whole = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body), class_="matrix")
    return _titled("Confusion", tag("div", whole, class_="scroll", tabindex="0"))


def mistakes(folder: Path) -> Html | None:
    """mistakes.csv, with the pictures in mistakes/, which lie in the order of its rows."""
    rows = read_rows(folder / "mistakes.csv")
    if not rows:
        return None
    found = (folder / "mistakes").glob("*.png")
    files = sorted(found, key=lambda path: (len(path.stem), path.stem))[:MOST_PICTURES]
    drawn = [_mistake(row, path) for row, path in zip(rows, files)]
    if any(drawn):
        shown_here = tag("ul", *drawn, class_="pictures")
    else:
        shown_here = table(list(rows[0]), (list(row.values()) for row in rows[:TABLE_MISTAKES]))
    note = f"{len(rows):,} stand in mistakes.csv, the worst first."
    if any(is_wide(path) for path in files):
        note += " On the left what was annotated, on the right the answer."
    return _titled("The worst mistakes", shown_here, tag("p", note, class_="note"))


def best(folder: Path) -> Html | None:
    """The pictures in best/, which a task drew beside its mistakes."""
    drawn = []
    for path in sorted((folder / "best").glob("*.png"))[:MOST_PICTURES]:
        wide = is_wide(path)
        if uri := embedded(path, WIDE_SIDE if wide else PICTURE_SIDE):
            drawn.append(tag("li", tag("img", src=uri, alt=path.stem), class_="wide" if wide else None))
    return _titled("The best", tag("ul", *drawn, class_="pictures")) if drawn else None


def tables(folder: Path) -> Html | None:
    """Reliability, classes and confusion, beside one another where there is room."""
    parts = [part for part in (reliability(folder), per_class(folder), confusion(folder)) if part]
    return tag("div", *parts, class_="beside") if parts else None


PARTS = (measures, pictures, tables, mistakes, best)


def _titled(name: str, *parts: Html) -> Html:
    return tag("div", tag("h3", name), *parts)


def _flat(values: dict, prefix: str = "") -> dict:
    """Values by name, those one dict down too (`tar_at_far 0.001`); tables are left out."""
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict) and not prefix:
            flat |= _flat(value, f"{key} ")
        elif not isinstance(value, (dict, list)):
            flat[f"{prefix}{key}"] = value
    return flat


def _is_fraction(name: str, value) -> bool:
    is_named_so = name not in NO_FRACTIONS and not name.endswith("_loss")
    return is_named_so and isinstance(value, float) and 0 <= value <= 1


def _measure(name: str, value) -> Html:
    if name == "seconds" and isinstance(value, (int, float)):
        return tag("data", duration(value), value=repr(value))
    if _is_fraction(name, value):
        return tag("data", f"{value:.2%}", value=repr(value))
    return shown(value)


def _all_fractions(cells: Sequence[str]) -> bool:
    """Whether a column holds shares of 1: in 0..1, and not written as whole numbers."""
    values = [number(cell) for cell in cells if cell != ""]
    return bool(values) and all(isinstance(value, float) and 0 <= value <= 1 for value in values)


def _cell(text: str, is_share: bool) -> Html:
    value = number(text)
    return fraction(value) if is_share else shown(text if value is None else value)


def _confused(truth: str, name: str, count: int, of: int) -> Html:
    """A cell of the matrix; mistakes are few, so their colour is stronger for the same share."""
    share = count / max(1, of)
    kind, strength = ("right", 0.65 * share) if name == truth else ("wrong", min(0.75, 2.5 * share))
    hint = f"{truth} → {name}: {count} of {of}"
    return tag("td", count or "", class_=kind, style=f"--share:{strength:.3f}", title=hint)


def _pairs(names: list[str], matrix: list[tuple[str, list[int]]]) -> Html | None:
    pairs = [
        (count, truth, name, sum(counts))
        for truth, counts in matrix
        for name, count in zip(names, counts)
        if count and name != truth
    ]
    worst = sorted(pairs, key=lambda pair: -pair[0])[:MOST_PAIRS]
    rows = [(f"{truth} → {name}", shown(n), fraction(n / of)) for n, truth, name, of in worst]
    columns = ("truth → answer", "times", "of the truth's")
    return _titled("Most confused", table(columns, rows, class_="named")) if rows else None


def _measured(row: dict) -> str:
    """All that a row says of its picture beside the file's name."""
    known = {key.replace("_", " "): text for key, text in row.items() if key != "file"}
    parts = ((key, text, number(text)) for key, text in known.items())
    return ", ".join(f"{key} {text if value is None else f'{value:.2f}'}" for key, text, value in parts)


def _mistake(row: dict, path: Path) -> Html | None:
    """A picture, what it is, what it was taken for, how surely; `None` if it cannot be read."""
    wide = is_wide(path)
    uri = embedded(path, WIDE_SIDE if wide else PICTURE_SIDE)
    files = [row[key] for key in ("file", "partner") if key in row]  # a pair's score is a similarity, no share
    if uri is None:
        return None
    said = " → ".join(row[key] for key in ("truth", "answer") if key in row) or _measured(row)
    score = number(row.get("score"))
    form = ".3f" if len(files) > 1 else ".1%"
    certain = tag("data", f" {score:{form}}", value=row["score"]) if score is not None else None
    short = [file if len(file) <= LONG else file.rsplit("/", 1)[-1] for file in files]
    looks = "pixels" if is_small(path, SMALL) else None
    picture = tag("img", src=uri, alt=f"{', '.join(files)}: {said}", class_=looks)
    name = tag("span", ", ".join(short), class_="note", title=", ".join(files))
    return tag("li", picture, tag("b", said), certain, name, class_="wide" if wide else None)
