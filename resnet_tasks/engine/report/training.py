"""Sections about the run itself: what it was, how it went, on what data, by which recipe."""

from pathlib import Path

from resnet_tasks.engine import draw
from resnet_tasks.engine.report import plots
from resnet_tasks.engine.report.evaluation import folders, headline
from resnet_tasks.engine.report.files import (
    embedded,
    number,
    read_json,
    read_rows,
    read_text,
    read_yaml,
)
from resnet_tasks.engine.report.page import (
    Html,
    breakable,
    duration,
    facts,
    figure,
    folded,
    section,
    shown,
    table,
    tag,
)

MOST_EPOCHS = 200  # in the table of epochs
MOST_PROBLEMS = 100
BATCH_SIDE = 1200  # pixels
OF_A_CLASS = ": "  # in a column of metrics.csv, between a measure and the class that it is of


def title(run: Path) -> str:
    """The recipe's name where the command tells it, else the run folder's."""
    words = (read_text(run / "command.txt") or "").split()
    after = words[words.index("train") + 1 :][:1] if "train" in words else []
    return after[0] if after and not after[0].startswith("-") else run.name


def summary(run: Path) -> Html:
    """The heading: task, recipe, best metric, pictures, time, hardware, commit."""
    recipe, name, best = read_yaml(run / "recipe.yaml"), title(run), _best_fact(run)
    best = tag("b", best) if best else None
    known = (best, _pictures(run), _time(run), _hardware(run), _commit(run))
    line = [part for fact in known if fact for part in (" · ", fact)][1:]
    state, below = _state(run, "last"), []
    if run.name != Path(name).stem:
        below += [tag("p", f"run folder {run.name}", class_="note")]
    if state.get("finished") is False:
        said = f"This run has not ended: it stands at step {state['step']:,}."
        below += [tag("p", said, class_="state")]
    kind = tag("p", recipe.get("task", "run"), class_="kind")
    return tag("header", kind, tag("h1", breakable(name)), tag("p", *line), *below)


def divergence(run: Path) -> Html | None:
    """Where the loss was not finite, if it happened."""
    report = read_json(run / "nan_report.json")
    if not report:
        return None
    known = {key: value for key, value in report.items() if not isinstance(value, (dict, list))}
    losses = {f"loss: {key}": value for key, value in report.get("losses", {}).items()}
    files = tag("ul", *(tag("li", name) for name in report.get("files", ())))
    pairs = [(key.replace("_", " "), value) for key, value in {**known, **losses}.items()]
    batch = folded("Pictures of that batch", files)
    return section("The loss was not finite", facts(pairs), batch, class_="alarm")


def curves(run: Path) -> Html | None:
    """metrics.csv, drawn and as a table."""
    rows = read_rows(run / "metrics.csv")
    series = {name: _points(rows, name) for name in (rows[0] if rows else ())}
    series = {name: points for name, points in series.items() if points}
    monitor, best = _monitor(run, rows), _state(run, "best").get("best_epoch")
    charts = (
        ("Loss", [*_losses(series), "val_loss"], None, "number"),
        (f"Validation: {(monitor or '')[4:]}", [monitor], best, "number"),
        ("Learning rate", ["lr"], None, "positive"),
        ("Pictures a second", ["images_per_second"], None, "positive"),
        ("Share of time waiting for data", ["data_wait"], None, "percent"),
    )
    drawn = [
        _chart(name, {key: series[key] for key in keys if key in series}, mark, form)
        for name, keys, mark, form in charts
    ]
    drawn += _by_class(series)
    if not any(drawn):
        return None
    return section("Training", tag("div", *drawn, class_="charts"), _epochs(rows))


def training_batch(run: Path) -> Html | None:
    """Pictures as the network saw them."""
    uri = embedded(run / "training_batch.png", BATCH_SIDE)
    what = "Cropped, flipped, coloured and mixed as in training."
    return section(
        "A training batch as the network saw it",
        tag("figure", tag("img", src=uri, alt=what)) if uri else None,
    )


def data(run: Path) -> Html | None:
    """What the reader found."""
    dataset = read_json(run / "dataset.json")
    if not dataset:
        return None
    classes = len(read_json(run / "labels.json").get("names", ()))
    problems = dataset.get("problems", ())
    pairs = [(key, dataset[key]) for key in ("where", "format") if dataset.get(key)]
    pairs += [("classes", classes)] if classes else []
    pairs += [(f"pictures in {name}", count) for name, count in dataset.get("splits", {}).items()]
    pairs += [("files left out", len(problems))] if problems else []
    notes = [tag("li", note) for note in dataset.get("notes", ())]
    told = tag("ul", *notes) if notes else None
    return section("Data", facts(pairs), told, _problems(problems) if problems else None)


def recipe(run: Path) -> Html | None:
    """The recipe with what "auto" became."""
    text = read_text(run / "recipe.yaml")
    return section("Recipe", folded("recipe.yaml, resolved", tag("pre", text))) if text else None


def command(run: Path) -> Html | None:
    """What started it."""
    text = read_text(run / "command.txt")
    return section("Command", tag("pre", text.strip(), class_="wrap")) if text else None


def weights(run: Path) -> Html | None:
    """What the network started from, and what of it was loaded."""
    report = read_json(run / "transfer.json")
    if not report:
        return None
    pairs = [("weights", f"{report['source']} ({report['convention']})"), ("backbone loaded", f"{report['share']:.1%}")]
    for level, part in report["levels"].items():
        whole = part["loaded"] == part["values"]
        some = f"{part['loaded']:,} of {part['values']:,} values" if part["loaded"] else "re-initialised"
        pairs.append((level, "loaded" if whole else some))
    for key in ("reinitialised", "unused"):
        names = report[key]
        shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        pairs.append((key, shown or "nothing"))
    return section("Weights", facts([*pairs, ("head", report["head"])]))


def environment(run: Path) -> Html | None:
    """Versions, hardware, commit."""
    pairs = []
    for key, value in read_json(run / "environment.json").items():
        pairs += value.items() if isinstance(value, dict) else [(key.replace("_", " "), value)]
    return section("Environment", facts(pairs)) if pairs else None


def _best_fact(run: Path) -> str | None:
    """The first measure of the first evaluation; without one, the best value in training."""
    for folder in folders(run):
        if found := headline(folder):
            return f"{found[0]} {found[1]} on {folder.name}"
    monitor, best = _monitor(run, read_rows(run / "metrics.csv")), _state(run, "best")
    if monitor is None or best.get("best") is None:
        return None
    return f"{monitor} {best['best']:.4f} in epoch {best['best_epoch']}"


def _pictures(run: Path) -> str | None:
    splits = read_json(run / "dataset.json").get("splits", {})
    each = ", ".join(f"{name} {count:,}" for name, count in splits.items())
    return f"{sum(splits.values()):,} pictures ({each})" if splits else None


def _time(run: Path) -> str | None:
    last = (read_rows(run / "metrics.csv") or [{}])[-1]
    seconds = number(last.get("seconds"))
    if seconds is None:
        return None
    return f"{last['epoch']} epoch{'s' * (last['epoch'] != '1')} in {duration(seconds)}"


def _hardware(run: Path) -> str | None:
    known = read_json(run / "environment.json")
    cores = f"{known['cores']} core{'s' * (known['cores'] != 1)}" if known.get("cores") else None
    parts = (*known.get("devices", ()), known.get("processor"), cores)
    return ", ".join(str(part) for part in parts if part) or None


def _commit(run: Path) -> str | None:
    commit = read_json(run / "environment.json").get("commit")
    return f"commit {commit}" if commit else None


def _state(run: Path, which: str) -> dict:
    """state.json of the checkpoint that `last` or `best` names; empty if there is none."""
    name = (read_text(run / "checkpoints" / which) or "").strip()
    return read_json(run / "checkpoints" / name / "state.json") if name else {}


def _monitor(run: Path, rows: list[dict]) -> str | None:
    """The column that decides what is best: in the best epoch it holds the best value.

    Where no checkpoint tells, the first that was measured.
    """
    names = [name for name in (rows[0] if rows else ()) if name.startswith("val_")]
    names = [name for name in names if OF_A_CLASS not in name and _points(rows, name)]
    state = _state(run, "best")
    best = [row for row in rows if number(row.get("epoch")) == state.get("best_epoch")]
    decided = [name for name in names for row in best if number(row[name]) == state.get("best")]
    return next(iter(decided + names), None)


def _losses(series: dict) -> list[str]:
    """The loss and its terms: metrics.csv has them before the learning rate."""
    names = list(series)
    before = names[: names.index("lr")] if "lr" in names else ["loss"] * ("loss" in names)
    losses = [name for name in before if name not in ("epoch", "step")]
    alone = len(losses) == 2 and series[losses[0]] == series[losses[1]]
    return losses[:1] if alone else losses


def _points(rows: list[dict], name: str) -> list[tuple[float, float]]:
    pairs = ((number(row.get("epoch")), number(row.get(name))) for row in rows)
    return [(epoch, value) for epoch, value in pairs if epoch is not None and value is not None]


def _chart(name: str, series: dict, best: float | None, form: str) -> Html | None:
    if not series:
        return None
    last = ", ".join(f"{key} {points[-1][1]:.4g}" for key, points in series.items())
    uri = draw.data_uri(plots.svg(plots.curves(series, best, form)))
    return figure(name, uri, f"at the end: {last}")


def _by_class(series: dict) -> list[Html | None]:
    """A chart for each measure whose columns are `val_measure: class`; of many classes those that end lowest."""
    measures: dict[str, dict] = {}
    for column, points in series.items():
        measure, between, name = column.removeprefix("val_").partition(OF_A_CLASS)
        if between and column.startswith("val_"):
            measures.setdefault(measure, {})[name] = points
    charts: list[Html | None] = []
    for measure, lines in measures.items():
        lowest = sorted(lines, key=lambda name: lines[name][-1][1])[: plots.MOST_LINES]
        chosen = {name: points for name, points in lines.items() if name in lowest}
        more = f"the {len(chosen)} classes that end lowest" if len(chosen) < len(lines) else "every class"
        uri = draw.data_uri(plots.svg(plots.curves(chosen)))
        charts.append(figure(f"Validation: {measure} by class", uri, more))
    return charts


def _problems(problems: list[dict]) -> Html:
    listed = [
        tag("li", tag("b", problem.get("file", "")), ": ", problem.get("what", ""))
        for problem in problems[:MOST_PROBLEMS]
    ]
    if len(problems) > MOST_PROBLEMS:
        listed += [tag("li", f"and {len(problems) - MOST_PROBLEMS} more, in dataset.json")]
    return folded(f"Files that were left out: {len(problems):,}", tag("ul", *listed))


def _epochs(rows: list[dict]) -> Html:
    kept = rows[-MOST_EPOCHS:]
    which = "every epoch" if len(kept) == len(rows) else f"the last {MOST_EPOCHS} epochs"
    cells = ([_number_or_text(value) for value in row.values()] for row in kept)
    return folded(f"The numbers of {which}", table(list(rows[0]), cells))


def _number_or_text(cell: str) -> Html:
    value = number(cell)
    return shown(cell if value is None else value)
