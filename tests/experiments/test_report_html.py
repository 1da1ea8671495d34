"""The report as a single page."""

import base64
from pathlib import Path

import pytest
from taskloom_experiments.report_html import page, write_html

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def test_page_holds_tables_and_charts(tmp_path: Path) -> None:
    """What the Markdown links to is in the page itself."""
    (tmp_path / "my chart.png").write_bytes(PIXEL)
    report = tmp_path / "report.md"
    report.write_text("# A & B\n\n![Chart](my%20chart.png)\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n")
    text = write_html(report).read_text()
    assert "<title>A &amp; B</title>" in text
    assert f'src="data:image/png;base64,{base64.b64encode(PIXEL).decode()}"' in text
    assert '<td style="text-align:right">2</td>' in text
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[look](javascript:alert(1))",
        '# "><script>alert(1)</script>',
    ],
)
def test_what_a_definition_says_stays_text(text: str, tmp_path: Path) -> None:
    """No tag of a definition or a database becomes one of the page."""
    made = page(text, tmp_path)
    assert "<script" not in made
    assert "<img" not in made
    assert 'href="javascript' not in made
    assert "default-src 'none'" in made


def test_folded_part_stays_folded(tmp_path: Path) -> None:
    """The report's own fold is one in the page, too."""
    made = page("<details><summary>How</summary>\n\n- this way\n\n</details>", tmp_path)
    assert "<details><summary>How</summary>" in made
    assert "<li>this way</li>" in made
    assert "</details>" in made
