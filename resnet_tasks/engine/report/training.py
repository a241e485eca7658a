"""Sections about the run itself: what it was, how it went, on what data, by which recipe."""

import shlex
from pathlib import Path

from resnet_tasks.engine import draw
from resnet_tasks.engine.report import plots
from resnet_tasks.engine.report.evaluation import folders, headline
from resnet_tasks.engine.report.files import embedded, number, read_json, read_rows, read_text, read_yaml
from resnet_tasks.engine.report.page import Html, duration, figure, folded, section, shown, table, tag

MOST_EPOCHS = 200  # in the table of epochs
MOST_PROBLEMS = 100
BATCH_SIDE = 1200  # pixels


def title(run: Path) -> str:
    """The recipe's name where the command tells it, else the run folder's."""
    words = shlex.split(read_text(run / "command.txt") or "", posix=True) if (run / "command.txt").is_file() else []
    after = words[words.index("train") + 1 :][:1] if "train" in words else []
    return after[0] if after and not after[0].startswith("-") else run.name


def summary(run: Path) -> Html:
    """The heading: task, recipe, best metric, pictures, time, hardware, commit."""
    recipe, where = read_yaml(run / "recipe.yaml"), read_json(run / "environment.json")
    splits = read_json(run / "dataset.json").get("splits", {})
    rows, state = read_rows(run / "metrics.csv"), _state(run, "last")
    facts = [tag("b", fact) for fact in [_best_fact(run)] if fact]
    facts += [recipe.get("model", {}).get("backbone")]
    facts += [f"{sum(splits.values()):,} pictures ({', '.join(f'{name} {count:,}' for name, count in splits.items())})"] if splits else []
    if rows and (seconds := number(rows[-1].get("seconds"))) is not None:
        facts += [f"{rows[-1]['epoch']} epochs in {duration(seconds)}"]
    if where:
        cores = f"{where['cores']} cores" if where.get("cores") else None
        facts += [", ".join(str(part) for part in (where.get("processor"), cores) if part)]
    facts += [", ".join(map(str, where["devices"]))] if isinstance(where.get("devices"), list) else []
    facts += [f"commit {where['commit']}" if where.get("commit") else None]
    unfinished = tag("p", f"This run has not ended: it stands at step {state['step']:,}.", class_="state") if state.get("finished") is False else None
    name = title(run)
    folder = tag("p", f"run folder {run.name}", class_="note") if run.name != Path(name).stem else None
    line = [part for fact in facts if fact for part in (" · ", fact)][1:]
    return tag("header", tag("p", recipe.get("task", "run"), class_="kind"), tag("h1", name), tag("p", *line), folder, unfinished)


def divergence(run: Path) -> Html | None:
    """Where the loss was not finite, if it happened."""
    report = read_json(run / "nan_report.json")
    if not report:
        return None
    known = {key: value for key, value in report.items() if not isinstance(value, (dict, list))}
    losses = {f"loss: {key}": value for key, value in report.get("losses", {}).items()}
    files = tag("ul", *(tag("li", name) for name in report.get("files", ())))
    rows = ((key.replace("_", " "), shown(value)) for key, value in {**known, **losses}.items())
    body = section("The loss was not finite", table(("", ""), rows, class_="text"), folded("Pictures of that batch", files))
    return Html(body.replace("<section>", '<section class="alarm">', 1))


def curves(run: Path) -> Html | None:
    """metrics.csv, drawn and as a table."""
    rows = read_rows(run / "metrics.csv")
    series = {name: _points(rows, name) for name in (rows[0] if rows else ())}
    series = {name: points for name, points in series.items() if points}
    best = _state(run, "best").get("best_epoch")
    names = list(series)
    terms = names[: names.index("lr")] if "lr" in names else [name for name in names if name == "loss"]
    losses = [name for name in terms if name not in ("epoch", "step")]
    if len(losses) == 2 and series[losses[0]] == series[losses[1]]:
        del losses[1]  # the only term is the loss
    monitor = _monitor(run, rows)
    charts = (
        ("Loss", [*losses, "val_loss"], None, "number"),
        (f"Validation: {monitor[4:]}" if monitor else "", [monitor], best, "number"),
        ("Learning rate", ["lr"], None, "positive"),
        ("Pictures a second", ["images_per_second"], None, "positive"),
        ("Share of time waiting for data", ["data_wait"], None, "percent"),
    )
    drawn = [_chart(name, {key: series[key] for key in keys if key in series}, mark, form) for name, keys, mark, form in charts]
    drawn = [chart for chart in drawn if chart]
    if not drawn:
        return None
    return section("Training", tag("div", *drawn, class_="charts"), _epochs(rows))


def training_batch(run: Path) -> Html | None:
    """Pictures as the network saw them."""
    uri = embedded(run / "training_batch.png", BATCH_SIDE)
    what = "Cropped, flipped, coloured and mixed as in training."
    return section("A training batch as the network saw it", tag("figure", tag("img", src=uri, alt=what)) if uri else None)


def data(run: Path) -> Html | None:
    """What the reader found."""
    dataset = read_json(run / "dataset.json")
    if not dataset:
        return None
    classes = len(read_json(run / "labels.json").get("names", ()))
    facts = [(key, shown(dataset[key])) for key in ("where", "format") if dataset.get(key)]
    facts += [("classes", shown(classes))] if classes else []
    facts += [(f"pictures in {name}", shown(count)) for name, count in dataset.get("splits", {}).items()]
    problems = dataset.get("problems", ())
    facts += [("left out", shown(len(problems)))] if problems else []
    listed = [tag("li", tag("b", problem.get("file", "")), ": ", problem.get("what", "")) for problem in problems[:MOST_PROBLEMS]]
    listed += [tag("li", f"and {len(problems) - MOST_PROBLEMS} more, in dataset.json")] if len(problems) > MOST_PROBLEMS else []
    notes = [tag("li", note) for note in dataset.get("notes", ())]
    return section(
        "Data",
        table(("", ""), facts, class_="text facts"),
        tag("ul", *notes) if notes else None,
        folded(f"{len(problems)} files that could not be used", tag("ul", *listed)) if listed else None,
    )


def recipe(run: Path) -> Html | None:
    """The recipe with what "auto" became."""
    text = read_text(run / "recipe.yaml")
    return section("Recipe", folded("recipe.yaml, resolved", tag("pre", text))) if text else None


def command(run: Path) -> Html | None:
    """What started it."""
    text = read_text(run / "command.txt")
    return section("Command", tag("pre", text.strip(), class_="wrap")) if text else None


def environment(run: Path) -> Html | None:
    """Versions, hardware, commit."""
    rows = []
    for key, value in read_json(run / "environment.json").items():
        inner = value.items() if isinstance(value, dict) else [(key, value)]
        shown_values = ((name, ", ".join(map(str, part)) if isinstance(part, list) else part) for name, part in inner)
        rows += [(str(name).replace("_", " "), shown(part)) for name, part in shown_values]
    return section("Environment", table(("", ""), rows, class_="text facts")) if rows else None


def _best_fact(run: Path) -> str | None:
    """The first measure of the first evaluation, or the best value of training where nothing was evaluated."""
    for folder in folders(run):
        if found := headline(folder):
            return f"{found[0]} {found[1]} on {folder.name}"
    monitor, best = _monitor(run, read_rows(run / "metrics.csv")), _state(run, "best")
    return f"{monitor} {best['best']:.4f} in epoch {best['best_epoch']}" if monitor and best.get("best") is not None else None


def _state(run: Path, which: str) -> dict:
    """state.json of the checkpoint that `last` or `best` names; empty if there is none."""
    name = (read_text(run / "checkpoints" / which) or "").strip()
    return read_json(run / "checkpoints" / name / "state.json") if name else {}


def _monitor(run: Path, rows: list[dict]) -> str | None:
    """The column that decides what is best: it holds the best value in the best epoch; else the first that was measured."""
    names = [name for name in (rows[0] if rows else ()) if name.startswith("val_") and _points(rows, name)]
    state = _state(run, "best")
    best = [row for row in rows if number(row.get("epoch")) == state.get("best_epoch")]
    decided = [name for name in names for row in best if number(row[name]) == state.get("best")]
    return next(iter(decided + names), None)


def _points(rows: list[dict], name: str) -> list[tuple[float, float]]:
    pairs = ((number(row.get("epoch")), number(row.get(name))) for row in rows)
    return [(epoch, value) for epoch, value in pairs if epoch is not None and value is not None]


def _chart(name: str, series: dict, best: float | None, form: str) -> Html | None:
    if not series:
        return None
    last = ", ".join(f"{key} {points[-1][1]:.4g}" for key, points in series.items())
    return figure(name, draw.data_uri(plots.svg(plots.curves(series, best, form))), f"at the end: {last}")


def _epochs(rows: list[dict]) -> Html:
    kept = rows[-MOST_EPOCHS:]
    cells = ([value if number(value) is None else shown(number(value)) for value in row.values()] for row in kept)
    what = "Every epoch's numbers" if len(kept) == len(rows) else f"Numbers of the last {MOST_EPOCHS} epochs"
    return folded(what, table(list(rows[0]), cells))
