"""One page for each object of the Python API, made when the site is built.

`docs/reference/api.md` lists the objects by ``::: name``. In the site it becomes a table of links with the
first line of every docstring. Each object has a page of its own, and each plot its picture.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

LISTED = re.compile(r"^::: (\S+)\n", re.M)
API = "reference/api.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each object that the API page lists."""
    listed = files.get_file_from_path(API)
    assert listed is not None
    for name in LISTED.findall(listed.content_string):
        title = name.rpartition(".")[2]
        pictures = (f"figures/{kind}{title.removeprefix('plot_')}.png" for kind in ("", "recording_"))
        shown = [
            f"![A picture that {title} draws](../../{picture})"
            for picture in pictures
            if title.startswith("plot_") and files.get_file_from_path(picture)
        ]
        content = "\n\n".join([f"# `{title}`", *shown[:1], f"::: {name}", ""])
        files.append(File.generated(config, f"reference/api/{name}.md", content=content))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Replace the list of objects by links with their summaries."""
    if page.file.src_uri != API:
        return markdown
    rows = LISTED.sub(lambda match: summarise(match[1]), markdown)
    # Rows of one section follow each other without blank lines: a Markdown table.
    rows = re.sub(r"(^\| .*\n)\n(?=\| )", r"\1", rows, flags=re.M)
    return re.sub(r"(?<=\n\n)(?=\| \[)", "| object | summary |\n|---|---|\n", rows)


def on_page_content(html: str, **_: Any) -> str:
    """Put formulas on lines of their own into a box that can scroll."""
    return re.sub(r'<math display="block".*?</math>', r'<div class="formula">\g<0></div>', html, flags=re.S)


def summarise(name: str) -> str:
    """A row of the table: the link and the first line of the docstring."""
    found = pkgutil.resolve_name(name)
    first = (inspect.getdoc(found) or "").partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")
    return f"| [`{name.removeprefix('anscombe_transform.')}`](api/{name}.md) | {first} |\n"
