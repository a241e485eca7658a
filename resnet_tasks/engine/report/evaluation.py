"""Sections about what a model was measured to do: one for each folder of `evaluation/`."""

from pathlib import Path

from resnet_tasks.engine import draw
from resnet_tasks.engine.report import plots
from resnet_tasks.engine.report.files import embedded, is_small, number, read_json, read_rows
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
NO_FRACTIONS = (
    "loss",
    "threshold",
)  # the measures that are no share of 1, though they may lie in 0..1
MOST_CLASSES = 30  # of a confusion matrix that is shown whole
MOST_PAIRS = 20
MOST_PICTURES = 24
PICTURE_SIDE = 200  # pixels
SMALL = 100  # pixels: a picture below this is shown with its pixels as squares
TABLE_MISTAKES = 20
LONG = 30  # letters: of a longer file name only its last part is shown


def folders(run: Path) -> list[Path]:
    """The evaluations of a run, that of the test split first."""
    found = [path for path in (run / "evaluation").glob("[!.]*") if path.is_dir()]
    return sorted(
        found,
        key=lambda path: (FIRST.index(path.name) if path.name in FIRST else len(FIRST), path.name),
    )


def headline(folder: Path) -> tuple[str, str] | None:
    """The measure that metrics.json names first, a task's most telling one, as name and text."""
    for name, value in _flat(read_json(folder / "metrics.json")).items():
        if isinstance(value, float):
            return name, f"{value:.2%}" if _is_fraction(name, value) else f"{value:.4g}"
    return None


def evaluations(run: Path) -> Html | None:
    """Everything that was evaluated, in turn."""
    parts = [
        section(f"Evaluation: {folder.name}", *(part(folder) for part in PARTS))
        for folder in folders(run)
    ]
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
    note = (
        "On the dotted line a model is right as often as it says; below it, it is surer than right."
    )
    return tag(
        "div",
        figure("Reliability", draw.data_uri(plots.svg(plots.reliability(bins))), note),
        class_="charts",
    )


def pictures(folder: Path) -> Html | None:
    """Whatever else the task drew."""
    files = sorted(path for path in (folder / "plots").glob("*") if path.suffix in (".png", ".svg"))
    drawn = [
        figure(path.stem.replace("_", " "), uri) for path in files if (uri := embedded(path, 1000))
    ]
    return tag("div", *drawn, class_="charts drawn") if drawn else None


def per_class(folder: Path) -> Html | None:
    """per_class.csv."""
    rows = read_rows(folder / "per_class.csv")
    if not rows:
        return None
    columns = list(rows[0])
    shares = {name for name in columns[1:] if _all_fractions([row[name] for row in rows])}
    cells = [
        [row[columns[0]], *(_cell(row[name], name in shares) for name in columns[1:])]
        for row in rows
    ]
    return _titled("By class", table(columns, cells))


def confusion(folder: Path) -> Html | None:
    """confusion.csv: the whole matrix for a few classes, the most confused pairs for many."""
    rows = read_rows(folder / "confusion.csv")
    if not rows:
        return None
    names = list(rows[0])[1:]
    matrix = [
        (next(iter(row.values())), [int(number(row[name]) or 0) for name in names]) for row in rows
    ]
    if len(names) > MOST_CLASSES:
        return _pairs(names, matrix)
    body = []
    for truth, counts in matrix:
        cells = []
        for name, count in zip(names, counts):
            share = count / max(1, sum(counts))
            kind, strength = (
                ("right", 0.65 * share) if name == truth else ("wrong", min(0.75, 2.5 * share))
            )
            hint = f"{truth} → {name}: {count} of {sum(counts)}"
            cells.append(
                tag("td", count or "", class_=kind, style=f"--share:{strength:.3f}", title=hint)
            )
        body.append(tag("tr", tag("th", truth, scope="row", title=truth), *cells))
    head = tag(
        "tr", tag("th", "truth ↓ answer →"), *(tag("th", name, scope="col") for name in names)
    )
    whole = tag("table", tag("thead", head), tag("tbody", *body), class_="matrix")
    return _titled("Confusion", tag("div", whole, class_="scroll", tabindex="0"))


def mistakes(folder: Path) -> Html | None:
    """mistakes.csv, with the pictures in mistakes/, which lie in the order of its rows."""
    rows = read_rows(folder / "mistakes.csv")
    if not rows:
        return None
    files = sorted(
        (folder / "mistakes").glob("*.png"), key=lambda path: (len(path.stem), path.stem)
    )
    drawn = [_mistake(row, path) for row, path in zip(rows, files[:MOST_PICTURES])]
    note = tag(
        "p", f"{len(rows):,} stand in mistakes.csv, the most confident first.", class_="note"
    )
    if any(drawn):
        return _titled("The most confident mistakes", tag("ul", *drawn, class_="pictures"), note)
    cells = [list(row.values()) for row in rows[:TABLE_MISTAKES]]
    return _titled("The most confident mistakes", table(list(rows[0]), cells), note)


def tables(folder: Path) -> Html | None:
    """Reliability, classes and confusion, beside one another where there is room."""
    parts = [part for part in (reliability(folder), per_class(folder), confusion(folder)) if part]
    return tag("div", *parts, class_="beside") if parts else None


PARTS = (measures, pictures, tables, mistakes)


def _titled(name: str, *parts: Html) -> Html:
    return tag("div", tag("h3", name), *parts)


def _flat(values: dict, prefix: str = "") -> dict:
    """Values by name, those one dict down too (`tar_at_far 0.001`); tables are left out."""
    flat = {}
    for key, value in values.items():
        if (
            isinstance(value, dict)
            and not prefix
            and not any(isinstance(inner, (dict, list)) for inner in value.values())
        ):
            flat |= _flat(value, f"{key} ")
        elif not isinstance(value, (dict, list)):
            flat[f"{prefix}{key}"] = value
    return flat


def _is_fraction(name: str, value) -> bool:
    return (
        isinstance(value, float)
        and 0 <= value <= 1
        and name not in NO_FRACTIONS
        and not name.endswith("_loss")
    )


def _measure(name: str, value) -> Html:
    if name == "seconds" and isinstance(value, (int, float)):
        return tag("data", duration(value), value=repr(value))
    return (
        tag("data", f"{value:.2%}", value=repr(value))
        if _is_fraction(name, value)
        else shown(value)
    )


def _all_fractions(cells: list[str]) -> bool:
    """Whether a column holds shares of 1: in 0..1, and not written as whole numbers."""
    values = [number(cell) for cell in cells if cell != ""]
    return bool(values) and all(isinstance(value, float) and 0 <= value <= 1 for value in values)


def _cell(text: str, is_share: bool) -> Html:
    value = number(text)
    return fraction(value) if is_share else shown(text if value is None else value)


def _pairs(names: list[str], matrix: list[tuple[str, list[int]]]) -> Html:
    pairs = [
        (count, truth, name, sum(counts))
        for truth, counts in matrix
        for name, count in zip(names, counts)
        if count and name != truth
    ]
    worst = sorted(pairs, key=lambda pair: -pair[0])[:MOST_PAIRS]
    rows = [
        (f"{truth} → {name}", shown(count), fraction(count / of))
        for count, truth, name, of in worst
    ]
    return (
        _titled("Most confused", table(("truth → answer", "pictures", "of the truth's"), rows))
        if rows
        else None
    )


def _mistake(row: dict, path: Path) -> Html | None:
    """A picture, what it is, what it was taken for, how surely; `None` if it cannot be read."""
    uri, file = embedded(path, PICTURE_SIDE), row.get("file", "")
    if uri is None:
        return None
    said = (
        f"{row['truth']} → {row['answer']}"
        if row.get("truth") is not None and row.get("answer") is not None
        else ""
    )
    score = number(row.get("score"))
    certain = tag("data", f" {score:.1%}", value=row["score"]) if score is not None else None
    short = file if len(file) <= LONG else file.rsplit("/", 1)[-1]
    picture = tag(
        "img", src=uri, alt=f"{file}: {said}", class_="pixels" if is_small(path, SMALL) else None
    )
    return tag(
        "li", picture, tag("b", said), certain, tag("span", short, class_="note", title=file)
    )
