"""The report's page: one HTML file that needs nothing else, readable on a screen, light or dark, and on paper.

Knows how tables, figures and paragraphs look, and nothing of what they say.
"""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

DPI = 150
"""Pixels per inch of the pictures: still sharp where a screen has two pixels for one, or on paper."""

# Nothing may be loaded from anywhere, whatever stands in the data: pictures come inside the page.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #57606a; --paper: #ffffff; --rule: #c9d1d9; --band: #f3f5f7;
  --mark: #9a5b00; --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --dim: #a3adb7; --paper: #14171b; --rule: #3a424b;
  --band: #1e2329; --mark: #f0b35a; --link: #7db7f0; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 20px 80px; }
h1 { font-size: 1.9em; line-height: 1.2; margin: .6em 0 .2em; }
h2 { font-size: 1.35em; margin: 2.2em 0 .5em; padding-top: .4em; border-top: 1px solid var(--rule); }
h3 { font-size: 1.05em; margin: 1.4em 0 .3em; }
p, ul, dl { max-width: 78ch; } a { color: var(--link); }
nav { color: var(--dim); margin: 1em 0 1.5em; } nav a { white-space: nowrap; }
.dim, p.caption, figcaption { color: var(--dim); }
.care { border-left: 4px solid var(--mark); padding: .1em 0 .1em 1em; } ul.care { padding-left: 2em; }
ul.care li { margin: .4em 0; }
.wide { overflow-x: auto; margin: 1em 0 1.6em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92em; }
p.caption { font-size: .92em; max-width: 100ch; margin: 0 0 .5em; break-after: avoid; }
p.caption b, figcaption b { color: var(--ink); }
th, td { padding: .28em .7em; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: .4em; }
thead th { border-bottom: 2px solid var(--rule); vertical-align: bottom; font-weight: 600; white-space: normal;
  min-width: 3.5em; max-width: 11em; }
tbody { border-bottom: 1px solid var(--rule); }
tbody th.group { text-align: left; background: var(--band); font-weight: 600; }
td small { color: var(--dim); }
table.dense { font-size: .84em; } .dense th, .dense td { padding: .08em .7em; }
td.text, th.text { text-align: left; white-space: normal; overflow-wrap: anywhere; }
figure { margin: 1.4em 0 2.2em; }
figure img { width: 100%; height: auto; background: #fff; border: 1px solid var(--rule); border-radius: 4px; }
figcaption { max-width: 100ch; font-size: .92em; margin-top: .5em; }
@page { margin: 14mm 12mm; }
@media print { :root { color-scheme: light; --ink: #000; --dim: #333; --paper: #fff; --rule: #999; --band: #eee;
  --mark: #9a5b00; --link: #000; } body { font-size: 10pt; } main { max-width: none; padding: 0; }
  nav { display: none; }
  h2, h3 { break-after: avoid; } figure, table, li { break-inside: avoid; } figure img { border: 0; max-height: 205mm;
  object-fit: contain; } .wide { overflow: visible; break-inside: avoid; }
  table { font-size: 8pt; } th, td { padding: .2em .5em; } }
"""


def page(title: str, sections: Iterable[tuple[str, str, str]], head: str) -> str:
    """Return a whole HTML document.

    Parameters
    ----------
    title : str
        Plain text.
    sections : iterable of tuple
        (anchor, heading in plain text, body in HTML), in order.
    head : str
        HTML between title and contents.
    """
    parts = list(sections)
    contents = " · ".join(f'<a href="#{anchor}">{escape(heading)}</a>' for anchor, heading, _ in parts)
    body = "\n".join(f'<h2 id="{anchor}">{escape(heading)}</h2>\n{text}' for anchor, heading, text in parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{head}\n<nav>{contents}</nav>\n{body}\n</main>\n</body>\n</html>\n"
    )


def paragraph(*sentences: str, kind: str = "") -> str:
    """Return sentences, in plain text, as one paragraph; nothing for none."""
    text = " ".join(escape(sentence) for sentence in sentences if sentence)
    of_class = f' class="{kind}"' if kind else ""
    return f"<p{of_class}>{text}</p>\n" if text else ""


def bullets(items: Iterable[str | tuple[str, str]], kind: str = "") -> str:
    """Return plain texts as a list, a pair with its first text in bold; empty texts are left out."""
    pairs = [item if isinstance(item, tuple) else ("", item) for item in items]
    texts = [
        f"<li>{f'<b>{escape(lead)}.</b> ' if lead else ''}{escape(sentence)}</li>"
        for lead, sentence in pairs
        if sentence
    ]
    of_class = f' class="{kind}"' if kind else ""
    return f"<ul{of_class}>\n" + "\n".join(texts) + "\n</ul>\n" if texts else ""


class Cell(str):
    """Text of a table's cell that is HTML already; any other text is escaped."""

    __slots__ = ()


def bold(text: str) -> Cell:
    """Return plain text as a bold cell."""
    return Cell(f"<b>{escape(text)}</b>")


def html_table(
    caption: str,
    columns: Sequence[str],
    groups: Iterable[tuple[str, Iterable[Sequence[str]]]],
    *,
    text_columns: Sequence[int] = (),
    dense: bool = False,
) -> str:
    """Return a table.

    Parameters
    ----------
    caption : str
        HTML, what the table shows.
    columns : sequence of str
        Headings, plain text or `Cell`.
    groups : iterable of tuple
        (heading of the group or "", rows of cells); each group is set apart by a rule.
    text_columns : sequence of int
        Columns of long text: they wrap and stand to the left.
    dense : bool
        Close lines, for a table that is looked things up in.
    """
    of_class = ' class="dense"' if dense else ""
    lines = [f'<div class="wide"><p class="caption">{caption}</p>\n<table{of_class}>\n<thead><tr>']
    lines += [
        f'<th scope="col"{" class=text" if k in text_columns else ""}>{_cell(name)}</th>'
        for k, name in enumerate(columns)
    ]
    lines.append("</tr></thead>")
    for heading, rows in groups:
        lines.append("<tbody>")
        if heading:
            lines.append(f'<tr><th class="group" colspan="{len(columns)}" scope="rowgroup">{_cell(heading)}</th></tr>')
        for row in rows:
            cells = [
                f'<td class="text">{_cell(cell)}</td>' if k in text_columns else f"<td>{_cell(cell)}</td>"
                for k, cell in enumerate(row)
            ]
            lines.append(f"<tr>{''.join(cells)}</tr>")
        lines.append("</tbody>")
    return "\n".join([*lines, "</table></div>\n"])


def html_figure(figure: Figure, alternative: str, caption: str) -> str:
    """Return a picture with its caption.

    Parameters
    ----------
    figure : Figure
        What to draw.
    alternative : str
        Plain text for who cannot see it.
    caption : str
        HTML.
    """
    picture = base64.b64encode(png_bytes(figure)).decode("ascii")
    return (
        f'<figure>\n<img src="data:image/png;base64,{picture}" alt="{escape(alternative)}">\n'
        f"<figcaption>{caption}</figcaption>\n</figure>\n"
    )


def new_figure(width_in: float, height_in: float) -> Figure:
    """Return an empty figure that needs no screen, inches."""
    return Figure(figsize=(width_in, height_in), dpi=DPI, facecolor="white")


def png_bytes(figure: Figure) -> bytes:
    """Return a figure as PNG; the same figure gives the same bytes: no date and no version."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    target = BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(target, format="PNG", optimize=True)
    return target.getvalue()


def number(value: float | int | None, digits: int = 3) -> str:
    """Return a number with so many digits after the point, a true minus sign, and a dash if there is none."""
    if value is None or not np.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def with_error(value: float | None, error: float | None, digits: int = 3) -> str:
    """Return a number and its error bar, or the number alone where there is no error bar."""
    if error is None or not np.isfinite(error):
        return number(value, digits)
    return f"{number(value, digits)} ± {number(error, digits)}"


def _cell(text: str) -> str:
    return text if isinstance(text, Cell) else escape(text)
