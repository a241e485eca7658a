"""The page: HTML that escapes what is put into it, and the few shapes a section is made of."""

import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

STYLE = Path(__file__).with_name("style.css")
ALONE = {"img", "meta"}  # elements without an end tag
# What a browser may load: the pictures in the page.  Whatever slips in can neither load nor run.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Html(str):
    """Text that is HTML already."""


def tag(name: str, /, *content, **attributes) -> Html:
    """An element; what is not `Html` is escaped, `None` left out; `class_` stands for `class`."""
    head = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
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
        tag("style", Html(STYLE.read_text(encoding="utf-8"))),
    )
    return Html(f"<!doctype html>\n{tag('html', head, tag('body', tag('main', *sections)), lang='en')}\n")


def section(title: str, *parts: Html | None, class_: str | None = None) -> Html | None:
    """A part of the page under its heading; `None` where it would hold nothing."""
    kept = [part for part in parts if part]
    return tag("section", tag("h2", title), *kept, class_=class_) if kept else None


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
    return tag(
        "div",
        tag("table", tag("thead", head), tag("tbody", *body), **attributes),
        class_="scroll",
        tabindex="0",
    )


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Names and values, a row each."""
    rows = (tag("tr", tag("th", name, scope="row"), tag("td", shown(value))) for name, value in pairs)
    return tag("div", tag("table", tag("tbody", *rows), class_="facts"), class_="scroll", tabindex="0")


def fraction(value: float | None) -> Html:
    """A number in 0..1 as a percentage with a bar behind it; the element holds the exact value."""
    if value is None:
        return shown(None)
    return tag(
        "data",
        f"{value:.2%}",
        value=repr(value),
        class_="bar",
        style=f"--part:{100 * min(max(value, 0), 1):.1f}%",
    )


def shown(value) -> Html:
    """A number as people read it, in an element that holds the exact value; or text; or a dash."""
    if value is None or value == "":
        return tag("span", "–", class_="quiet")
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return tag("span", value)
    if isinstance(value, int):
        return tag("data", f"{value:,}", value=repr(value))
    text = f"{value:,.0f}" if math.isfinite(value) and abs(value) >= 1000 else f"{value:.4g}"
    return tag("data", text, value=repr(value))


def breakable(name: str) -> Html:
    """A long name that a narrow screen may break at its slashes and underscores."""
    return Html(html.escape(name).replace("/", "/<wbr>").replace("_", "_<wbr>"))


def duration(seconds: float) -> str:
    """3725 as "1 h 2 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
