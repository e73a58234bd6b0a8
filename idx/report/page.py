"""The page: escaping, style and the parts that sections are built from. Plain strings; nothing is fetched."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath, PureWindowsPath

# Two or more folders from a root, or a Windows drive: enough to tell a path from "mg/ml" or a date.
_POSIX = re.compile(r"(?<![\w/.:<])/(?:[^/\s:;,'\"<>|]+/)+([^/\s:;,'\"<>|]*)")
_WINDOWS = re.compile(r"\b[A-Za-z]:\\(?:[^\\:;,'\"<>|\n]+\\)*([^\\\s:;,'\"<>|]*)")
_FILE_URL = re.compile(r"file:///?[^\s'\"<>]*/([^/\s'\"<>]*)")


def without_folders(value: object) -> str:
    """Text in which absolute paths are cut to their last part: folders name people, hospitals and machines.

    Examples
    --------
    >>> without_folders("/home/jane/ct/series"), without_folders("5 mg/ml"), without_folders(r"D:\\scans\\a.nii")
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
<style>{STYLE}</style>
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


STYLE = """
:root{--ink:#1c2126;--muted:#626b76;--faint:#8b949e;--line:#e4e7eb;--page:#fbfbfa;--plate:#fff;--tint:#f3f5f7;--accent:#0072b2;--good:#00805e;--warn:#b34a00}
@media (prefers-color-scheme:dark){:root{--ink:#e6e8ea;--muted:#a3abb5;--faint:#7d8590;--line:#2c323a;--page:#14171a;--plate:#1b1f24;--tint:#20252b;--accent:#56b4e9;--good:#3fc59d;--warn:#f0995a}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.6 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;font-feature-settings:"kern","liga"}
.wrap{max-width:66rem;margin:0 auto;padding:0 1.75rem}
header{padding:3.25rem 0 1.6rem}
.brand{display:flex;align-items:baseline;gap:.6rem;margin:0 0 2.4rem;font-weight:700;letter-spacing:.01em}
.brand span{font-weight:400;color:var(--muted)}
.brand b{margin-left:auto;font-size:.75rem;font-weight:600;color:var(--warn);border:1px solid currentColor;border-radius:99px;padding:.15rem .75rem;letter-spacing:.03em}
h1{font:600 clamp(2rem,5vw,2.9rem)/1.12 "Iowan Old Style","Palatino Linotype",Palatino,"Book Antiqua",Georgia,serif;letter-spacing:-.015em;margin:0 0 .5rem;overflow-wrap:anywhere}
.subtitle{margin:0;color:var(--muted);font-size:1.06rem;max-width:46rem}
nav{position:sticky;top:0;z-index:5;background:var(--page);border-bottom:1px solid var(--line)}
nav .wrap{display:flex;gap:1.5rem;overflow-x:auto;scrollbar-width:none}
nav a{color:var(--muted);text-decoration:none;font-size:.875rem;padding:.75rem 0;white-space:nowrap}
nav a:hover,nav a:focus-visible{color:var(--accent)}
section{padding:3.1rem 0 0;scroll-margin-top:2rem}
h2{font:600 1.5rem/1.25 "Iowan Old Style","Palatino Linotype",Palatino,"Book Antiqua",Georgia,serif;letter-spacing:-.01em;margin:0 0 .6rem}
h3{font-size:.95rem;font-weight:600;margin:2rem 0 .5rem}
h3 small{font-weight:400;color:var(--muted);margin-left:.5rem}
.lead{color:var(--muted);max-width:44rem;margin:0 0 1.4rem}
.numbers{display:grid;grid-template-columns:repeat(auto-fit,minmax(12.5rem,1fr));gap:1px;background:var(--line);border:1px solid var(--line);border-radius:12px;overflow:hidden;margin-top:2rem}
.numbers>div{background:var(--plate);padding:1.15rem 1.35rem 1.2rem}
.numbers .label{font-size:.82rem;color:var(--muted);margin:0}
.numbers .value{font-size:1.85rem;font-weight:600;letter-spacing:-.02em;line-height:1.25;margin:.15rem 0 .1rem;font-variant-numeric:tabular-nums lining-nums}
.numbers .value small{font-size:.95rem;font-weight:400;color:var(--muted);letter-spacing:0;margin-left:.3rem}
.numbers .extra{font-size:.82rem;color:var(--muted);margin:0;font-variant-numeric:tabular-nums}
.numbers .value.none{color:var(--faint);font-weight:400}
figure{margin:1.4rem 0 0;background:#fff;border:1px solid var(--line);border-radius:12px;padding:1.1rem 1.1rem .9rem;overflow:hidden}
figure.narrow{max-width:46rem}
figure img{display:block;width:100%;height:auto}
figure figcaption{margin:.7rem .15rem 0;color:#5b646e;font-size:.85rem;line-height:1.5}
.pair{display:grid;grid-template-columns:minmax(0,1.02fr) minmax(0,1fr);gap:1.4rem;align-items:start}
.pair figure{margin-top:0}
.facts{margin:0;font-size:.92rem}
.facts div{display:grid;grid-template-columns:minmax(9rem,14rem) minmax(0,1fr);gap:1rem;padding:.42rem 0;border-bottom:1px solid var(--line)}
.facts dt{color:var(--muted)}
.facts dd{margin:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
.note{margin:1rem 0;padding:.8rem 1.1rem;border-left:3px solid var(--faint);background:var(--tint);border-radius:0 8px 8px 0;max-width:52rem}
.note.good{border-color:var(--good)}
.note.warn{border-color:var(--warn)}
.scroll{max-height:31rem;overflow:auto;border:1px solid var(--line);border-radius:12px;background:var(--plate);scrollbar-width:thin}
table{border-collapse:collapse;width:100%;font-size:.875rem;line-height:1.45}
th,td{text-align:left;padding:.42rem .9rem;border-bottom:1px solid var(--line);vertical-align:baseline}
tbody tr:last-child td{border-bottom:0}
tbody tr:hover td{background:var(--tint)}
th{position:sticky;top:0;background:var(--plate);font-weight:600;font-size:.8rem;color:var(--muted);box-shadow:inset 0 -1px var(--line)}
.group th{position:static;color:var(--ink);background:var(--tint);box-shadow:none;padding-top:.7rem}
th.num,.num{text-align:right;font-variant-numeric:tabular-nums lining-nums;white-space:nowrap}
.unit,.code,.dim{color:var(--muted);white-space:nowrap}
.code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.8rem}
.name span{border-bottom:1px dotted var(--faint);cursor:help}
.def{color:var(--muted);max-width:26rem}
.def div{display:-webkit-box;-webkit-box-orient:vertical;-webkit-line-clamp:1;overflow:hidden}
.missing{color:var(--warn);white-space:normal;font-variant-numeric:normal}
footer{margin-top:4rem;padding:1.6rem 0 3rem;border-top:1px solid var(--line);color:var(--muted);font-size:.85rem}
footer p{margin:.2rem 0;max-width:50rem}
@media (max-width:46rem){.brand span{display:none}.wrap{padding:0 1.1rem}header{padding-top:1.6rem}.brand{margin-bottom:1.5rem}.pair{grid-template-columns:1fr}.def,th.def{display:none}.facts div{grid-template-columns:1fr;gap:0}section{padding-top:2.2rem}figure{padding:.6rem}.numbers{grid-template-columns:repeat(2,minmax(0,1fr))}.numbers>div{padding:.9rem 1rem}.numbers .value{font-size:1.45rem}}
@media print{:root{--ink:#000;--muted:#444;--faint:#777;--line:#ccc;--page:#fff;--plate:#fff;--tint:#f6f6f6;--accent:#000;--good:#00805e;--warn:#9a3f00}body{font-size:10pt}nav{display:none}header{padding-top:0}.scroll{max-height:none;overflow:visible;border:0}th{position:static}.def div{-webkit-line-clamp:none;display:block}figure,.numbers,.note,tr{break-inside:avoid}h2,h3{break-after:avoid}section{padding-top:1.6rem}@page{margin:16mm 14mm}}
"""
