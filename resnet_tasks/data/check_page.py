"""A check's report as text and as one HTML page that opens offline."""

import base64
import html as markup
import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from resnet_tasks.data.check import Finding, Report

_MOST_FILES = 20  # of a finding, as text; the page and JSON name all
_SHOWN_SIDE = 64  # pixels of a miniature on the page

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse } th, td { padding: .2em .8em; border-bottom: 1px solid #ddd; text-align: right }
th:first-child, td:first-child { text-align: left }
.error { border-left: 4px solid #c22 } .warning { border-left: 4px solid #d90 } .note { border-left: 4px solid #bbb }
section { padding: .1em 1em; margin: .7em 0 } ul { margin: .3em 0; word-break: break-all }
figure { display: inline-block; margin: .5em } figcaption { font-size: 12px; max-width: 16em; word-break: break-all }
img { image-rendering: pixelated }
"""


def text(report: "Report") -> str:
    """Returns the findings with the first files of each, and the classes' counts, for a terminal."""
    lines = [f"{report.where} ({report.format})", "", *_table(report), ""]
    for finding in report.findings:
        lines.append(f"{finding.level}: {finding.what}")
        lines += [f"    {file}" for file in finding.files[:_MOST_FILES]]
        if len(finding.files) > _MOST_FILES:
            lines.append(f"    and {len(finding.files) - _MOST_FILES} more")
    lines += ["", _verdict(report)]
    return "\n".join(lines)


def html(report: "Report") -> str:
    """Returns the whole report as a page without outside resources."""
    groups = "".join(
        "<div>" + "".join(_figure(file, miniature) for file, miniature in group) + "</div>" for group in report.samples
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>Check of {markup.escape(report.where)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>Check of {markup.escape(report.where)}</h1><p>{_verdict(report)}</p>"
        + "".join(_section(finding) for finding in report.findings)
        + (f"<h2>Duplicates</h2>{groups}" if groups else "")
        + f"<h2>Pictures of each class</h2>{_html_table(report)}</body></html>\n"
    )


def _verdict(report: "Report") -> str:
    levels = [finding.level for finding in report.findings]
    pictures = sum(sum(counts.values()) for counts in report.counts.values())
    return f"pictures: {pictures}, errors: {levels.count('error')}, warnings: {levels.count('warning')}"


def _rows(report: "Report") -> list[list[str]]:
    splits = list(report.counts)
    classes = next(iter(report.counts.values()))
    rows = [[name, *(str(report.counts[split][name]) for split in splits)] for name in classes]
    total = ["all", *(str(sum(report.counts[split].values())) for split in splits)]
    return [["class", *splits], *rows, total]


def _table(report: "Report") -> list[str]:
    rows = _rows(report)
    wide = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        row[0].ljust(wide[0]) + "".join(cell.rjust(width + 2) for cell, width in zip(row[1:], wide[1:], strict=True))
        for row in rows
    ]


def _html_table(report: "Report") -> str:
    head, *rows = _rows(report)
    lines = ["<tr>" + "".join(f"<th>{markup.escape(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{markup.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def _section(finding: "Finding") -> str:
    files = "".join(f"<li>{markup.escape(file)}</li>" for file in finding.files)
    listed = f"<details><summary>{len(finding.files)}</summary><ul>{files}</ul></details>" if files else ""
    what = f"<p><b>{finding.level}</b>: {markup.escape(finding.what)}</p>"
    return f'<section class="{finding.level}">{what}{listed}</section>'


def _figure(file: str, miniature: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(miniature).save(stream, "PNG")
    data = base64.b64encode(stream.getvalue()).decode()
    return (
        f'<figure><img width="{_SHOWN_SIDE}" height="{_SHOWN_SIDE}" alt="" src="data:image/png;base64,{data}">'
        f"<figcaption>{markup.escape(file)}</figcaption></figure>"
    )
