"""The page: HTML that escapes whatever is put into it, the few shapes a section is made of, and the style."""

import html
import math
from collections.abc import Iterable, Sequence

ALONE = {"img", "meta"}  # elements without an end tag
# What the browser may load: the pictures in the page.  Nothing that slips in can reach the net or run.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Html(str):
    """Text that is HTML already."""


def tag(name: str, *content, **attributes) -> Html:
    """An element; content that is not `Html` is escaped, `None` is left out, `class_` stands for `class`."""
    head = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"' for key, value in attributes.items() if value is not None
    )
    if name in ALONE:
        return Html(f"<{name}{head}>")
    inner = "".join(part if isinstance(part, Html) else html.escape(str(part)) for part in content if part is not None)
    return Html(f"<{name}{head}>{inner}</{name}>")


def page(title: str, sections: Iterable[Html | None]) -> Html:
    """The whole document."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", **{"http-equiv": "Content-Security-Policy", "content": POLICY}),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(STYLE)),
    )
    return Html(f"<!doctype html>\n{tag('html', head, tag('body', tag('main', *sections)), lang='en')}\n")


def section(title: str, *parts: Html | None) -> Html | None:
    """A part of the page under its heading; `None` where it would hold nothing."""
    parts = [part for part in parts if part]
    return tag("section", tag("h2", title), *parts) if parts else None


def folded(title: str, *content: Html | None) -> Html:
    """Something to open by a tap."""
    return tag("details", tag("summary", title), *content)


def figure(title: str, uri: str, note: str | Html = "", **attributes) -> Html:
    """A picture under its title, with a line below."""
    below = tag("figcaption", note, class_="note") if note else None
    return tag("figure", tag("h3", title), tag("img", src=uri, alt=title, **attributes), below)


def table(columns: Sequence[str], rows: Iterable[Sequence], **attributes) -> Html:
    """A table that scrolls on its own; cells are text or `Html`, the first of a row names it."""
    head = tag("tr", *(tag("th", column, scope="col") for column in columns))
    body = (tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows)
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body), **attributes), class_="scroll", tabindex="0")


def fraction(value: float | None) -> Html:
    """A number in 0..1 as a percentage, with a bar behind it; the exact value stands in the element."""
    if value is None:
        return shown(None)
    return tag("data", f"{value:.2%}", value=repr(value), class_="bar", style=f"--part:{100 * min(max(value, 0), 1):.1f}%")


def shown(value) -> Html:
    """A number as people read it; the exact value stands in the element.  Text stays text, `None` is a dash."""
    if value is None or value == "":
        return tag("span", "–", class_="quiet")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return tag("span", value)
    if isinstance(value, int):
        return tag("data", f"{value:,}", value=repr(value))
    text = f"{value:,.0f}" if math.isfinite(value) and abs(value) >= 1000 else f"{value:.4g}"
    return tag("data", text, value=repr(value))


def duration(seconds: float) -> str:
    """3725 as "1 h 2 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


STYLE = """
:root { color-scheme: light; --ink: #1c2733; --quiet: #5d6b7a; --line: #dfe4ea; --accent: #1769aa; --tint: 23, 105, 170; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f6f8; color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1rem 1rem 4rem; }
h1, h2, h3 { line-height: 1.2; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; margin: .2rem 0 .5rem; }
h2 { font-size: 1.2rem; margin: 0 0 .8rem; }
h3 { font-size: .95rem; margin: 0 0 .4rem; }
header { padding: 1rem 0 .5rem; }
header p { margin: 0; color: var(--quiet); overflow-wrap: anywhere; }
header b { color: var(--ink); }
.kind { text-transform: uppercase; letter-spacing: .08em; font-size: .8rem; font-weight: 600; color: var(--accent); }
.state { color: #a33b00; font-weight: 600; }
.quiet, .note { color: var(--quiet); }
.note { font-size: .85rem; margin: .3rem 0 0; overflow-wrap: anywhere; }
section { background: #fff; border: 1px solid var(--line); border-radius: .6rem; padding: 1.1rem; margin: 1rem 0; }
section.alarm { border-color: #d9480f; }
section > * + * { margin-top: 1.2rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .6rem; margin: 0; }
.tiles div { background: #f4f6f8; border-radius: .45rem; padding: .6rem .75rem; }
.tiles dt { font-size: .8rem; color: var(--quiet); overflow-wrap: anywhere; }
.tiles dd { margin: 0; font-size: 1.2rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.tiles div:first-child { background: var(--accent); color: #fff; }
.tiles div:first-child dt { color: #dbeafa; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); gap: 1.2rem; }
figure { margin: 0; min-width: 0; }
figure img { display: block; width: 100%; height: auto; max-width: 46rem; }
.pixels { image-rendering: pixelated; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .9rem; margin: 0; padding: 0; list-style: none; }
.pictures li { font-size: .85rem; line-height: 1.35; overflow-wrap: anywhere; }
.pictures img { width: 100%; aspect-ratio: 1; object-fit: contain; background: #eceff2; border-radius: .3rem; display: block; margin-bottom: .3rem; }
.pictures .note { display: block; font-size: .75rem; margin: 0; }
.scroll { overflow: auto; max-height: 32rem; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
thead th { position: sticky; top: 0; background: #fff; color: var(--quiet); font-weight: 600; }
tbody th, thead th:first-child, .text td { text-align: left; font-weight: 500; }
.text td { white-space: normal; overflow-wrap: anywhere; }
.bar { display: inline-block; min-width: 5.2rem; padding: 0 .35rem; border-radius: .2rem;
  background: linear-gradient(to right, rgba(var(--tint), .2) var(--part), transparent var(--part)); }
.matrix th, .matrix td { padding: .2rem .3rem; text-align: center; border: 1px solid #fff; min-width: 2.1rem; }
.matrix thead th { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; position: static; max-height: 10rem; }
.matrix thead th:first-child { writing-mode: horizontal-tb; transform: none; vertical-align: bottom; color: var(--quiet); }
.matrix tbody th { text-align: right; max-width: 10rem; overflow: hidden; text-overflow: ellipsis; }
.matrix td.right { --tint: 46, 125, 50; }
.matrix td.wrong { --tint: 196, 60, 20; }
.matrix td { background: rgba(var(--tint), var(--share)); }
details { border-top: 1px solid var(--line); padding-top: .7rem; }
section > details:only-of-type:nth-child(2) { border: 0; padding: 0; }
summary { cursor: pointer; font-weight: 600; font-size: .95rem; color: var(--accent); }
details > * + * { margin-top: .7rem; }
pre { margin: 0; padding: .8rem; background: #f4f6f8; border-radius: .4rem; overflow: auto; font-size: .82rem; line-height: 1.45; }
pre.wrap { white-space: pre-wrap; overflow-wrap: anywhere; }
ul { margin: 0; padding-left: 1.2rem; }
li { overflow-wrap: anywhere; }
@media (max-width: 30rem) { main { padding: .6rem .6rem 3rem; } section { padding: .8rem; } .pictures { grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); } }
@media print { body { background: #fff; } .scroll { max-height: none; } section { break-inside: avoid; } }
"""
