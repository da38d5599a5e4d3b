"""Write the folders of our codecs for the registry of Zarr extensions.

    python packaging/registration/zarr_extensions.py FOLDER

FOLDER is ``codecs`` in a clone of https://github.com/zarr-developers/zarr-extensions. Every codec gets its
page and its schema, as the registry asks; links to other pages of this project become absolute.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PAGES = "https://github.com/datajoint/anscombe-transform/blob/main/docs/reference/"
CODECS = ("anscombe-v1", "anscombe", "anscombe_frames")
SECTIONS = """
## Change log

No changes yet.

## Current maintainers

* [The maintainers of anscombe-transform](https://github.com/datajoint/anscombe-transform)
"""


def make_links_absolute(page: str) -> str:
    """Replace links to files beside a page by addresses; those within the page and to elsewhere stay."""
    return re.sub(r"\]\((?!#|[a-z]+:)([^)]+)\)", lambda link: f"]({PAGES}{link[1]})", page)


def write_codec(name: str, folder: Path) -> None:
    """Write README.md and schema.json of one codec below `folder`."""
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    page = (REFERENCE / f"{name}.md").read_text(encoding="utf-8")
    (target / "README.md").write_text(make_links_absolute(page) + SECTIONS, encoding="utf-8")
    shutil.copyfile(REFERENCE / "schemas" / f"{name}.zarr-v3.json", target / "schema.json")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for name in CODECS:
        write_codec(name, Path(sys.argv[1]))
        sys.stdout.write(f"{Path(sys.argv[1]) / name}\n")
