"""A check's report as text and as one HTML page that opens offline."""

import base64
import html as markup
import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from resnet_tasks.data.check_report import Finding, Histogram, Report

_MOST_FILES = 20  # of a finding, as text; the page and JSON name all
_LONGEST = 600  # characters of such a line: a film's frames may all be alike
_OPEN_FILES = 4  # of a finding on the page; more are folded
_SHOWN_SIDE = 64  # pixels of a miniature on the page
_BAR = 30  # characters of the longest bar, as text
_QUALITY = 85  # of the JPEGs on the page
VOID_PIXELS = "void pixels"  # in `Report.pictures`, where pixels are counted

_STYLE = """
:root { color-scheme: light; --ink: #1c2733; --quiet: #5d6b7a; --line: #dfe4ea; --accent: #1769aa }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; max-width: 68rem; margin: 0 auto;
  padding: 1rem 1rem 4rem; color: var(--ink); background: #f4f6f8 }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .8rem 0 .3rem; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 1.6rem 0 .5rem }
.card, section { background: #fff; border: 1px solid var(--line); border-radius: .5rem; padding: .6rem 1rem;
  margin: .6rem 0; overflow-x: auto }
.error { border-left: 5px solid #c4281c } .warning { border-left: 5px solid #d98a00 }
.note { border-left: 5px solid #b4bec8 }
section p { margin: .1rem 0; overflow-wrap: anywhere }
section ul { margin: .3rem 0; word-break: break-all; max-height: 24rem; overflow: auto; font-size: .85rem }
summary { cursor: pointer; color: var(--accent); font-size: .88rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .8rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left; white-space: normal }
tr.sum td { font-weight: 600 } tr.more td { color: var(--quiet) }
.bar { display: inline-block; height: .8em; background: var(--accent); opacity: .75; border-radius: 2px }
td.bars { text-align: left; min-width: 14rem }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border: 1px solid #8884 }
.legend span.name { display: inline-block; margin-right: 1.1em; font-size: .88rem }
figure { display: inline-block; margin: .5em; vertical-align: top }
figcaption { font-size: 12px; max-width: 16em; overflow-wrap: anywhere; color: var(--quiet) }
img { image-rendering: pixelated }
.drawn { columns: 2 24rem; column-gap: .8rem }
.drawn figure { margin: 0 0 .8rem; width: 100%; break-inside: avoid; background: #fff; border: 1px solid var(--line);
  border-radius: .5rem; padding: .4rem }
.drawn img { display: block; max-width: 100%; max-height: 34rem; width: auto; height: auto; margin: 0 auto;
  image-rendering: auto; border-radius: .25rem }
.drawn figcaption { max-width: none; padding: .3rem .2rem 0 }
"""


def text(report: "Report") -> str:
    """Returns the findings with the first files of each, and the classes' counts, for a terminal."""
    lines = [f"{report.where} ({report.format})", "", *_columns(_rows(report)), ""]
    if report.histogram:
        lines += [report.histogram.title, *_columns(_bars(report.histogram)), ""]
    for finding in report.findings:
        lines.append(f"{finding.level}: {finding.what}")
        lines += [f"    {_shortened(file)}" for file in finding.files[:_MOST_FILES]]
        if len(finding.files) > _MOST_FILES:
            lines.append(f"    and {len(finding.files) - _MOST_FILES} more")
    lines += ["", _verdict(report)]
    return "\n".join(lines)


def html(report: "Report") -> str:
    """Returns the whole report as a page without outside resources."""
    title = f"Check of {markup.escape(report.where)}"
    groups = "".join(
        "<div>" + "".join(_figure(file, miniature) for file, miniature in group) + "</div>" for group in report.samples
    )
    drawn = "".join(_drawn(caption, picture) for caption, picture in report.drawn)
    of_what = "masks" if report.counted == "pixels" else "boxes"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{title}</h1><p>{markup.escape(report.format)}; {_verdict(report)}</p>"
        + "".join(_section(finding) for finding in report.findings)
        + (f'<h2>Pictures with their {of_what}</h2>{_legend(report)}<div class="drawn">{drawn}</div>' if drawn else "")
        + (_html_bars(report.histogram) if report.histogram else "")
        + (f'<h2>Duplicates</h2><div class="card">{groups}</div>' if groups else "")
        + f"<h2>{report.counted.capitalize()} of each class</h2>{_html_table(report)}</body></html>\n"
    )


def _shortened(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ... ({len(line) - _LONGEST} characters more)"


def _verdict(report: "Report") -> str:
    levels = [finding.level for finding in report.findings]
    counted = sum(sum(counts.values()) for counts in report.counts.values())
    pictures = sum(kinds["pictures"] for kinds in report.pictures.values())
    of_pictures = f", pictures: {pictures}" if report.pictures else ""
    return (
        f"{report.counted}: {counted}{of_pictures}, errors: {levels.count('error')}, "
        f"warnings: {levels.count('warning')}"
    )


def _rows(report: "Report") -> list[list[str]]:
    """The table of classes: a head, a row for each class, their sum, and what else the splits hold."""
    if report.counted == "pixels":
        return _pixel_rows(report)
    splits = list(report.counts)
    with_ids = bool(report.source_ids)
    rows = [["class", *["id"] * with_ids, *splits]]
    for name in next(iter(report.counts.values()), ()):
        own = [str(report.source_ids.get(name, ""))] * with_ids
        rows.append([name, *own, *(str(report.counts[split][name]) for split in splits)])
    rows.append(["all", *[""] * with_ids, *(str(sum(report.counts[split].values())) for split in splits)])
    for kind in next(iter(report.pictures.values()), ()):
        rows.append([kind, *[""] * with_ids, *(str(report.pictures[split][kind]) for split in splits)])
    return rows


def _pixel_rows(report: "Report") -> list[list[str]]:
    """The table of classes in masks: for each split a class's share of the pixels, and the pictures that it is in."""
    splits = list(report.counts)
    with_ids = bool(report.source_ids)
    totals = {split: max(sum(counts.values()), 1) for split, counts in report.counts.items()}
    rows = [["class", *["id"] * with_ids]]
    for split in splits:
        rows[0] += [f"{split}: pixels", "pictures"]
    for name in next(iter(report.counts.values()), ()):
        row = [name, *[str(report.source_ids.get(name, ""))] * with_ids]
        for split in splits:
            row += [f"{report.counts[split][name] / totals[split]:.2%}", str(report.present[split][name])]
        rows.append(row)
    rows.append(["all", *[""] * with_ids])
    for split in splits:
        rows[-1] += [str(sum(report.counts[split].values())), str(report.pictures[split]["pictures"])]
    rows.append(["void", *[""] * with_ids])
    for split in splits:
        void = report.pictures[split][VOID_PIXELS]
        rows[-1] += [f"{void / max(sum(report.counts[split].values()) + void, 1):.2%}", ""]
    for kind in next(iter(report.pictures.values()), ()):
        if kind not in ("pictures", VOID_PIXELS):
            cells = [cell for split in splits for cell in ("", str(report.pictures[split][kind]))]
            rows.append([kind, *[""] * with_ids, *cells])
    return rows


def _bars(histogram: "Histogram") -> list[list[str]]:
    splits = list(next(iter(histogram.bins.values())))
    most = max(max(sum(counts.values()) for counts in histogram.bins.values()), 1)
    rows = [["side", *splits, "  "]]
    for name, counts in histogram.bins.items():
        bar = "#" * -(-_BAR * sum(counts.values()) // most)
        rows.append([name, *(str(counts[split]) for split in splits), "  " + bar.ljust(_BAR)])
    return rows


def _columns(rows: list[list[str]]) -> list[str]:
    wide = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        (
            row[0].ljust(wide[0])
            + "".join(cell.rjust(width + 2) for cell, width in zip(row[1:], wide[1:], strict=True))
        ).rstrip()
        for row in rows
    ]


def _html_table(report: "Report") -> str:
    head, *rows = _rows(report)
    classes = len(next(iter(report.counts.values()), ()))
    lines = ["<tr>" + "".join(f"<th>{markup.escape(cell)}</th>" for cell in head) + "</tr>"]
    for place, row in enumerate(rows):
        kind = "" if place < classes else ' class="sum"' if place == classes else ' class="more"'
        cells = "".join(f"<td>{markup.escape(cell)}</td>" for cell in row[1:])
        lines.append(f"<tr{kind}><td>{_swatch(report, row[0])}{markup.escape(row[0])}</td>{cells}</tr>")
    return f'<div class="card"><table>{"".join(lines)}</table></div>'


def _swatch(report: "Report", name: str) -> str:
    colour = report.colours.get(name)
    return f'<span class="swatch" style="background:rgb{tuple(colour)}"></span>' if colour else ""


def _legend(report: "Report") -> str:
    """What the colours of the masks mean; the stripes are void."""
    if not report.colours:
        return ""
    named = "".join(
        f'<span class="name">{_swatch(report, name)}{markup.escape(name)}</span>' for name in report.colours
    )
    return f'<p class="legend">{named}<span class="name">striped: void</span></p>'


def _html_bars(histogram: "Histogram") -> str:
    head, *rows = _bars(histogram)
    totals = [sum(counts.values()) for counts in histogram.bins.values()]
    lines = ["<tr>" + "".join(f"<th>{markup.escape(cell)}</th>" for cell in head) + "</tr>"]
    for row, total in zip(rows, totals, strict=True):
        cells = "".join(f"<td>{markup.escape(cell)}</td>" for cell in row[:-1])
        bar = f'<span class="bar" style="width:{100 * total / max(*totals, 1):.1f}%"></span>'
        lines.append(f'<tr>{cells}<td class="bars">{bar}</td></tr>')
    title = histogram.title[0].upper() + histogram.title[1:]
    return f'<h2>{markup.escape(title)}</h2><div class="card"><table>{"".join(lines)}</table></div>'


def _section(finding: "Finding") -> str:
    files = "".join(f"<li>{markup.escape(file)}</li>" for file in finding.files)
    listed = f"<ul>{files}</ul>" if files else ""
    if len(finding.files) > _OPEN_FILES:
        listed = f"<details><summary>all {len(finding.files)}</summary>{listed}</details>"
    what = f"<p><b>{finding.level}</b>: {markup.escape(finding.what)}</p>"
    return f'<section class="{finding.level}">{what}{listed}</section>'


def _figure(file: str, miniature: np.ndarray) -> str:
    data = _encoded(Image.fromarray(miniature), "PNG")
    return (
        f'<figure><img width="{_SHOWN_SIDE}" height="{_SHOWN_SIDE}" alt="" src="data:image/png;base64,{data}">'
        f"<figcaption>{markup.escape(file)}</figcaption></figure>"
    )


def _drawn(caption: str, picture: Image.Image) -> str:
    data = _encoded(picture, "JPEG", quality=_QUALITY)
    return (
        f'<figure><img width="{picture.width}" height="{picture.height}" alt="" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{markup.escape(caption)}</figcaption></figure>"
    )


def _encoded(picture: Image.Image, form: str, **options) -> str:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return base64.b64encode(stream.getvalue()).decode()
