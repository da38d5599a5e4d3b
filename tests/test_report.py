"""A page about a stored movie: it says what was noted, stands alone, and keeps foreign text as text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("jinja2")
zarr = pytest.importorskip("zarr")
if int(zarr.__version__.partition(".")[0]) < 3:
    pytest.skip("needs zarr-python 3", allow_module_level=True)

from anscombe_transform import AnscombeTransformV3, compress  # noqa: E402
from anscombe_transform.calibration import Reason, Sensitivity  # noqa: E402
from anscombe_transform.compression import ATTRIBUTE  # noqa: E402
from anscombe_transform.compression.stored.notes import sealed  # noqa: E402
from anscombe_transform.diagnostics.pages.report import write_calibration_report, write_report  # noqa: E402
from anscombe_transform.simulation import simulate_movie  # noqa: E402

KNOWN = Sensitivity.from_known(conversion_gain=90, zero_level=50)


class _Page(HTMLParser):
    """The text of a page, its pictures, and whatever it would load."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.pictures, self.loaded, self.tags = "", 0, [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data"):
                if (value or "").startswith("data:image/png;base64,"):
                    self.pictures += 1
                else:
                    self.loaded.append(value)
            assert not name.startswith("on")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def movie(seed: int) -> NDArray[Any]:
    """A small simulated movie."""
    return simulate_movie((20, 48, 48), conversion_gain=90, zero_level=50, rng=seed)[0]


@pytest.fixture
def stored(movie: NDArray[Any], tmp_path: Path) -> Path:
    """The movie, compressed."""
    compress(movie, tmp_path / "movie.zarr", sensitivity=KNOWN)
    return tmp_path / "movie.zarr"


def test_a_page_says_what_was_noted(stored: Path, tmp_path: Path) -> None:
    """Sizes, constants, bound and verification are on the page, with pictures, and nothing is loaded."""
    page = _Page(write_report(stored, tmp_path / "report.html"))
    for text in (
        "verified, value by value",
        "46,080 values",
        "20 × 48 × 48",
        "given, not measured",
        "shifted by",
    ):
        assert text in page.text
    assert page.pictures == 3
    assert page.loaded == []
    assert "script" not in page.tags
    assert not re.search(r"url\(|@import|https?:", (tmp_path / "report.html").read_text(encoding="utf-8"))


def test_a_source_is_compared_again(movie: NDArray[Any], stored: Path, tmp_path: Path) -> None:
    """With the source the page compares every value; another movie is found out."""
    page = _Page(write_report(stored, tmp_path / "report.html", against=movie))
    assert "Compared with the source just now" in page.text
    assert page.pictures == 4
    page = _Page(write_report(stored, tmp_path / "report.html", against=movie + 400))
    assert "beyond its bound" in page.text
    assert "46,080 of 46,080 values differ" in page.text


def test_an_unfinished_array_is_called_that(stored: Path, tmp_path: Path) -> None:
    """Neither an interrupted writing nor a missing verification looks like a good end."""
    array = zarr.open_array(stored, mode="r+")
    notes = dict(array.attrs[ATTRIBUTE])
    array.attrs[ATTRIBUTE] = sealed(notes | {"verification": None})
    page = _Page(write_report(stored, tmp_path / "report.html"))
    assert "not verified" in page.text
    assert "verified, value by value" not in page.text
    array.attrs[ATTRIBUTE] = notes | {"complete": False}
    assert "incomplete" in _Page(write_report(stored, tmp_path / "report.html")).text


def test_foreign_text_stays_text(movie: NDArray[Any], tmp_path: Path) -> None:
    """A name that holds markup is shown as it is, not obeyed."""
    compress(movie, tmp_path / "<script>alert(1)<&script>.zarr", sensitivity=KNOWN)
    page = _Page(write_report(tmp_path / "<script>alert(1)<&script>.zarr", tmp_path / "report.html"))
    assert "<script>alert(1)<&script>.zarr" in page.text
    assert "script" not in page.tags


def test_an_array_of_others_is_reported(movie: NDArray[Any], tmp_path: Path) -> None:
    """An array with our codec that `compress` didn't write has a page; one without it is refused."""
    codec = AnscombeTransformV3(zero_level=50, conversion_gain=90)
    zarr.create_array(tmp_path / "a.zarr", data=movie.clip(0), filters=[codec])
    page = _Page(write_report(tmp_path / "a.zarr", tmp_path / "report.html"))
    assert "does not say how these constants were found" in page.text
    zarr.create_array(tmp_path / "b.zarr", data=movie)
    with pytest.raises(ValueError, match="no Anscombe codec"):
        write_report(tmp_path / "b.zarr", tmp_path / "report.html")


def test_notes_of_another_version_are_no_error(stored: Path, tmp_path: Path) -> None:
    """A calibration with unknown fields leaves a page with the codec's constants."""
    array = zarr.open_array(stored, mode="r+")
    notes = dict(array.attrs[ATTRIBUTE])
    array.attrs[ATTRIBUTE] = sealed(notes | {"sensitivity": notes["sensitivity"] | {"colour": "blue"}})
    assert "90 signal units per photon" in _Page(write_report(stored, tmp_path / "report.html")).text


def test_a_refused_calibration_has_a_page(movie: NDArray[Any], tmp_path: Path) -> None:
    """A refused calibration is shown with its reasons and without a transform made of it."""
    refused = Sensitivity.refused(Reason("smoothed", "neighbouring pixels share their noise.", "refusal"))
    page = _Page(write_calibration_report(refused, tmp_path / "report.html", movie=movie))
    assert "neighbouring pixels share their noise." in page.text
    assert page.pictures == 1
    page = _Page(write_calibration_report(KNOWN, tmp_path / "report.html", movie=np.asarray(movie)))
    assert page.pictures == 2
    assert page.loaded == []
