"""The report as one page that needs nothing else: the Markdown, its charts within.

The page loads nothing and runs nothing, and tells the browser so: whatever a definition or a
database says can be text there, and no more.
"""

import base64
import html
import re
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt

from taskloom_experiments.whole_files import written_whole

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.5rem 4rem; color: #222;
  background: #fff; font: 16px/1.55 system-ui, sans-serif; }
h1, h2, h3 { line-height: 1.25; margin: 2em 0 .6em; }
h1 { margin-top: 0; }
h2 { border-bottom: 1px solid #d9d9d9; padding-bottom: .25em; }
p, ul { max-width: 46rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #d9d9d9; padding: .35rem .7rem; text-align: left;
  vertical-align: top; }
th { border-bottom: 2px solid #6b6b6b; }
code { font-size: .9em; background: #f3f3f3; padding: .1em .25em; border-radius: 3px; }
pre { overflow-x: auto; background: #f3f3f3; padding: .8rem; }
img { max-width: 100%; height: auto; }
blockquote { border-left: 4px solid #D55E00; margin-left: 0; padding-left: 1rem; }
@media print { body { max-width: none; padding: 0; } details > * { display: block; } }
"""

_IMAGE = re.compile(r'<img src="([^":]+\.png)"')
_FOLD = re.compile(
    r"<p>&lt;details&gt;&lt;summary&gt;([^<]*?)&lt;/summary&gt;</p>(.*?)<p>&lt;/details&gt;</p>",
    re.DOTALL,
)


def write_html(markdown: Path) -> Path:
    """Write the page beside a report in Markdown, with its charts; return the page's file."""
    file = markdown.with_suffix(".html")
    text = page(markdown.read_text(encoding="utf-8"), markdown.parent)
    with written_whole(file) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return file


def page(markdown: str, folder: Path) -> str:
    """The page of a text in Markdown, whose pictures lie in the folder."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    body = _FOLD.sub(r"<details><summary>\1</summary>\2</details>", body)
    body = body.replace("<table>", '<div class="wide"><table>').replace(
        "</table>", "</table></div>"
    )
    body = _IMAGE.sub(lambda match: f'<img src="{_inline(folder / unquote(match[1]))}"', body)
    first = next((line for line in markdown.splitlines() if line.startswith("# ")), "# Report")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(first[2:])}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}</body>\n</html>\n"
    )


def _inline(file: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
