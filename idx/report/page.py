"""The page: escaping, style and the parts that sections are built from. Plain strings; nothing is fetched."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

# Two or more folders from a root, or a Windows drive: enough to tell a path from "mg/ml" or a date.
_POSIX = re.compile(r"(?<![\w/.:<])/(?:[^/\s:;,'\"<>|]+/)+([^/\s:;,'\"<>|]*)")
_WINDOWS = re.compile(r"\b[A-Za-z]:\\(?:[^\\:;,'\"<>|\n]+\\)*([^\\\s:;,'\"<>|]*)")
_FILE_URL = re.compile(r"file:///?[^\s'\"<>]*/([^/\s'\"<>]*)")


def without_folders(value: object) -> str:
    r"""Text in which absolute paths are cut to their last part: folders name people, hospitals and machines.

    Examples
    --------
    >>> without_folders("/home/jane/ct/series"), without_folders("5 mg/ml"), without_folders(r"D:\scans\a.nii")
    ('series', '5 mg/ml', 'a.nii')
    """
    string = str(value)
    if string.startswith("/") and "\n" not in string and string.count("/") >= 2:
        # The whole text is one path: folder names may hold spaces.
        return PurePosixPath(string).name
    if re.match(r"[A-Za-z]:\\", string):
        return PureWindowsPath(string).name
    for pattern in (_FILE_URL, _POSIX, _WINDOWS):
        string = pattern.sub(r"\1", string)
    return string


def text(value: object) -> str:
    """Escape for HTML, attributes included, after cutting paths. Every string of a report passes here."""
    return html.escape(without_folders(value), quote=True)


def section(anchor: str, heading: str, body: str, *, lead: str = "") -> str:
    """Section with a heading, an optional plain-text lead, and a body of HTML."""
    first = f'<p class="lead">{text(lead)}</p>' if lead else ""
    return f'<section id="{anchor}"><h2>{text(heading)}</h2>{first}{body}</section>'


def figure(uri: str, alt: str, caption: str = "", *, css: str = "") -> str:
    """Picture on a white plate with its caption; ``css="narrow"`` for one that should not fill the page."""
    below = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return f'<figure class="{css}"><img src="{uri}" alt="{text(alt)}">{below}</figure>'


def rows(pairs: Iterable[tuple[str, object]]) -> str:
    """Definition list of (name, value)."""
    return '<dl class="facts">' + "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in pairs) + "</dl>"


def table(head: Sequence[tuple[str, str]], groups: Iterable[tuple[str, Sequence[Sequence[str]]]], *, label: str) -> str:
    """Scrolling table.

    Parameters
    ----------
    head : sequence of (text, class)
        One per column; the class is given to the column's cells too.
    groups : iterable of (heading, lines)
        Cells are HTML already; an empty heading gives no heading row.
    label : str
        What a screen reader calls the table.
    """
    top = "".join(f'<th scope="col" class="{css}">{text(name)}</th>' for name, css in head)
    body = ""
    for heading, lines in groups:
        if heading:
            body += f'<tr class="group"><th scope="colgroup" colspan="{len(head)}">{text(heading)}</th></tr>'
        for line in lines:
            body += "<tr>" + "".join(f'<td class="{css}">{cell}</td>' for cell, (_, css) in zip(line, head, strict=True)) + "</tr>"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{text(label)}"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def note(message: object, *, kind: str = "") -> str:
    """Quiet box with a sentence; kind "good" or "warn" colours its edge."""
    return f'<p class="note {kind}">{text(message)}</p>'


def _style() -> str:
    return (Path(__file__).parent / "page.css").read_text(encoding="utf-8")


def document(*, title: str, heading: str, subtitle: str, contents: Sequence[tuple[str, str]], body: str, footer: str) -> str:
    """Whole page; ``body`` and ``footer`` are HTML, everything else is plain text."""
    links = "".join(f'<a href="#{anchor}">{text(name)}</a>' for anchor, name in contents)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{text(title)}</title>
<style>{_style()}</style>
</head>
<body>
<header><div class="wrap">
<p class="brand">idx <span>integrated diagnostics</span><b>Research use only</b></p>
<h1>{text(heading)}</h1>
<p class="subtitle">{text(subtitle)}</p>
</div></header>
<nav aria-label="Sections"><div class="wrap">{links}</div></nav>
<main class="wrap">{body}</main>
<footer><div class="wrap">{footer}</div></footer>
</body>
</html>
"""
