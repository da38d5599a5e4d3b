"""One HTML page about a stored movie or a calibration: results, record and plots."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anscombe_transform.calibration import Sensitivity
from anscombe_transform.codec.transform.curve import check_sensitivity
from anscombe_transform.compression import Verification, describe, verify
from anscombe_transform.compression.blocks.mean_shift import mean_shift_text
from anscombe_transform.compression.checking import read_again
from anscombe_transform.compression.results import (
    agreement_of,
    agreement_text,
    bound_text,
    size_text,
)
from anscombe_transform.compression.stored.arrays import open_array
from anscombe_transform.diagnostics.pages.page import (
    Picture,
    Section,
    Status,
    check_page_name,
    constant_rows,
    load_template,
    noted_sensitivity,
    png_text,
    software_text,
    times_text,
    write_page,
)
from anscombe_transform.movies import open_movie
from anscombe_transform.native.documents import value_text
from anscombe_transform.native.work import Progress, count_threads

if TYPE_CHECKING:
    from anscombe_transform.calibration import Agreement
    from anscombe_transform.compression import StoredMovie
    from anscombe_transform.diagnostics.decision import Decision
    from anscombe_transform.movies import Movie, SupportsMovie

__all__ = ["write_calibration_report", "write_decision_report", "write_report"]


def write_report(
    stored: Any,
    path: str | os.PathLike[str],
    *,
    against: str | os.PathLike[str] | SupportsMovie | Movie | None = None,
    partial: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write one HTML page about a stored movie, from the record of its compression.

    Parameters
    ----------
    stored : path, store of Zarr, or zarr.Array
        An array with an Anscombe codec, or an OME-Zarr image.
    path : path
        The page to write; one that is there is replaced.
    against : path or array, optional
        The movie that was stored. Every value is then compared again, and the page shows the residuals.
    partial : bool, optional
        Accept a recording that isn't whole, see `open_movie`.
    progress : callable, optional
        Called as ``progress(done, total, stage)``.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no Zarr array, it has no Anscombe codec, or `path` doesn't end with ``.html``.
    VerificationError
        Stored values can't be read, or are not those that were written; no page is made then.
    ImportError
        jinja2 is missing; the message says how to install it.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from anscombe_transform import Sensitivity, compress
    >>> movie = 50 + 90 * np.random.default_rng(0).poisson(8, (20, 64, 64)).astype("int16")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     known = Sensitivity.from_known(conversion_gain=90, zero_level=50)
    ...     result = compress(movie, f"{folder}/movie.zarr", sensitivity=known)
    ...     page = write_report(f"{folder}/movie.zarr", f"{folder}/report.html")
    ...     print(page.read_text(encoding="utf-8").splitlines()[0])
    <!doctype html>
    """
    check_page_name(path)
    render = load_template()
    found = describe(stored)
    if found.codec is None:
        raise ValueError(
            f"{found.path} has no Anscombe codec, so there is nothing to report: compress the movie first"
        )
    # A page about damaged values would outlive them.
    read_again(open_array(stored), found.path, count_threads(None), progress)
    verification = None if against is None else verify(stored, against, partial=partial, progress=progress)
    sensitivity = noted_sensitivity(found.provenance)
    pictures = _Drawing(progress)
    sections = [
        Section("What is stored", rows=_stored_rows(found)),
        _detector(found, sensitivity, pictures),
        _kept(found, verification),
        _views(stored, against, partial, pictures),
    ]
    page = render(
        title=Path(found.path).name or found.path,
        status=_status(found, verification),
        lead=_lead(found, verification),
        sections=[section for section in sections if section is not None],
        footer=_footer(found),
    )
    return write_page(path, page)


def write_calibration_report(
    sensitivity: Sensitivity,
    path: str | os.PathLike[str],
    *,
    movie: str | os.PathLike[str] | SupportsMovie | Movie | None = None,
    partial: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write one HTML page about a calibration: constants, verdict, reasons and plots.

    Parameters
    ----------
    sensitivity : Sensitivity
        Result of `compute_sensitivity`; a refused one too (``on_refusal="return"``).
    path : path
        The page to write; one that is there is replaced.
    movie : path or array, optional
        The movie that was calibrated. The page then shows how the transform stabilises its noise, unless the
        calibration was refused.
    partial, progress : optional
        As for `compress`.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    ImportError
        jinja2 is missing; the message says how to install it.

    Examples
    --------
    >>> import tempfile
    >>> from anscombe_transform import compute_sensitivity, simulate_movie
    >>> movie, _ = simulate_movie((48, 64, 64), rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write_calibration_report(compute_sensitivity(movie), f"{folder}/page.html")
    ...     print(page.read_text(encoding="utf-8").count("<img"))
    1
    """
    check_page_name(path)
    check_sensitivity(sensitivity, "write_calibration_report(compute_sensitivity(movie), path, movie=movie)")
    render = load_template()
    pictures = _Drawing(progress)
    sections = [
        Section(
            "The detector",
            text=_DETECTOR,
            rows=constant_rows(sensitivity),
            reasons=sensitivity.reasons,
            figures=(pictures.transfer(sensitivity),),
        )
    ]
    maps = sensitivity.maps
    if maps is not None and (maps.offset is not None or maps.gain is not None):
        sections.append(Section("The pixels", text=_PIXELS, figures=(pictures.pixels(sensitivity),)))
    title = "Calibration"
    if movie is not None:
        with open_movie(movie, partial=partial) as opened:
            title = f"Calibration of {Path(opened.source).name or opened.source}"
            rows = (("shape (time, y, x)", times_text(opened.shape)), ("values", opened.dtype.name))
            figures: tuple[Picture, ...] = ()
            if sensitivity.verdict != "refused":
                figures = (pictures.stabilization(opened, sensitivity.codec(sample=_extremes(opened))),)
            sections.append(Section("The movie", rows=rows, figures=figures))
    page = render(
        title=title,
        status=_verdict_status(sensitivity.verdict),
        lead=_VERDICTS[sensitivity.verdict],
        sections=sections,
        footer=software_text(None),
    )
    return write_page(path, page)


def write_decision_report(decision: Decision, path: str | os.PathLike[str]) -> Path:
    """Write one HTML page about a decision: size and changes for each step, compared with chance.

    Parameters
    ----------
    decision : Decision
        From `anscombe_transform.decide`.
    path : path
        The page to write; one that is there is replaced.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    ImportError
        jinja2 is missing; the message says how to install it.

    Examples
    --------
    >>> import tempfile
    >>> from anscombe_transform import decide, simulate_movie
    >>> movie, _ = simulate_movie((40, 64, 64), conversion_gain=90, zero_level=50, rng=0)
    >>> decision = decide(movie, betas=(0.5,), presets=("fast",))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write_decision_report(decision, f"{folder}/decision.html")
    ...     print(page.read_text(encoding="utf-8").count("<img"))
    1
    """
    from anscombe_transform.diagnostics.decision_page import plot_decision

    if not hasattr(decision, "changes"):
        raise TypeError(
            f"decision must be what decide gives, got {value_text(decision)}: "
            "write_decision_report(decide(movie), path)"
        )
    stored = [change for change in decision.changes if change.kind == "stored"]
    picture = Picture(
        png_text(plot_decision(decision)),
        "Size, shift of the mean, cells, events, noise of traces and frame shifts against the step β",
        "Each result of the stored movie (blue) beside that of the original with equal random noise (red) "
        "and the difference between odd and even frames (dotted). Where blue and red agree, storing does "
        "what a little more noise does, and nothing else.",
    )
    sections = [
        Section("Settings", rows=tuple((change.name, decision.summary(change.beta)) for change in stored)),
        Section("What changes", figures=(picture,)),
        Section(
            "The movie",
            rows=(
                ("shape (time, y, x)", times_text(decision.shape)),
                ("first frame", f"{decision.first_frame:,}"),
                ("values", decision.dtype),
                *constant_rows(decision.sensitivity),
            ),
            reasons=decision.sensitivity.reasons,
        ),
    ]
    page = load_template()(
        title=f"How far to compress {Path(decision.source).name or decision.source}",
        status=_verdict_status(decision.sensitivity.verdict),
        lead="What each quantisation step β saves, and what it changes in results drawn from this movie.",
        sections=sections,
        footer=software_text(None),
    )
    return write_page(path, page)


# --- words --------------------------------------------------------------------------------------------------

_VERDICTS = {
    "trustworthy": "The movie shows how its detector turns photons into numbers; the constants can be used.",
    "given": "The constants were given, not measured: compare them with a movie before you rely on them.",
    "caution": "The constants can be used, but the reasons below bear on them: read these first.",
    "refused": "The movie doesn't reveal its noise, so nothing can be read from it; the reasons say why.",
}
_PIXELS = (
    "Constants of every pixel, as far as they were measured, drawn towards those of the field by as much as "
    "their error asks for."
)
_DETECTOR = (
    "Where light is counted, the variance of the noise grows in proportion to the brightness. The slope of "
    "that line is the gain, and where it would have no noise left tells the zero level."
)


def _status(found: StoredMovie, verification: Verification | None) -> Status:
    if not found.complete:
        return Status("incomplete: its writing did not end", "bad")
    ok = verification.ok if verification is not None else _noted(found, "verification").get("ok")
    if ok is None:
        return Status("not verified", "care")
    if not ok:
        return Status("beyond its bound", "bad")
    agreement = _agreement(found, verification)
    if agreement is None or not agreement.checked:
        return Status("verified against constants that were not checked", "care")
    if agreement.verdict == "contradicts":
        return Status("constants contradict the movie", "bad")
    return Status("verified, value by value", "good")


def _agreement(found: StoredMovie, verification: Verification | None) -> Agreement | None:
    """The agreement that was measured just now, or else when the array was written."""
    if verification is not None and verification.agreement is not None:
        return verification.agreement
    return agreement_of(found.provenance)


def _verdict_status(verdict: str) -> Status:
    kinds: dict[str, Literal["good", "care", "bad"]] = {"trustworthy": "good", "caution": "care"}
    return Status(verdict, kinds.get(verdict, "bad"))


def _lead(found: StoredMovie, verification: Verification | None) -> str:
    smaller = f"{found.ratio:.2f} times smaller than the movie's {size_text(found.raw_bytes)}"
    bound = _noted(found, "bound").get("noise_std")
    within = "" if bound is None else f": {bound_text(bound, _agreement(found, verification))}"
    if verification is not None:
        if not verification.ok:
            return f"{smaller}. {verification}."
        return (
            f"{smaller}. Compared with the source just now, each of {verification.compared:,} values is "
            f"within its bound{within}."
        )
    checked = _noted(found, "verification")
    if not checked:
        return f"{smaller}. The stored values were not compared with the source."
    return (
        f"{smaller}. When it was written, each of {checked['compared']:,} values was read back and found "
        f"within its bound{within}."
    )


def _stored_rows(found: StoredMovie) -> tuple[tuple[str, str], ...]:
    source = _noted(found, "source")
    rows = [
        ("array", found.path),
        ("source", source.get("name", "not noted")),
        ("shape (time, y, x)", times_text(found.shape)),
        ("values", found.dtype + (f", {source['minimum']:g} to {source['maximum']:g}" if source else "")),
        ("chunks", times_text(found.chunks)),
        ("raw size", size_text(found.raw_bytes)),
        ("stored size", f"{size_text(found.stored_bytes)} ({100 / found.ratio:.1f} % of the raw size)"),
        ("format", f"Zarr V{found.zarr_format}, codec {(found.codec or {})['name']}"),
    ]
    return tuple(rows)


def _detector(found: StoredMovie, sensitivity: Sensitivity | None, pictures: _Drawing) -> Section:
    if sensitivity is not None:
        return Section(
            "The detector",
            text=f"Verdict: {sensitivity.verdict}. {_VERDICTS[sensitivity.verdict]}",
            rows=constant_rows(sensitivity),
            reasons=sensitivity.reasons,
            figures=(pictures.transfer(sensitivity),),
        )
    codec = found.codec or {}
    rows = [
        ("gain", f"{codec['conversion_gain']:g} signal units per photon"),
        ("zero level", f"{codec['zero_level']:g}"),
    ]
    if codec.get("read_noise"):
        rows.append(("read noise", f"{codec['read_noise']:g}"))
    return Section(
        "The detector", text="The array does not say how these constants were found.", rows=tuple(rows)
    )


def _kept(found: StoredMovie, verification: Verification | None) -> Section:
    bound, noted = _noted(found, "bound"), _noted(found, "verification")
    beta = (found.codec or {}).get("beta", 0.5)
    rows = [
        ("agreement of constants and movie", agreement_text(_agreement(found, verification))),
        ("step of the codes", f"{beta:g} standard deviations of the noise that the constants imply"),
        ("noise variance added", f"{100 * beta**2 / 12:.2g} %"),
    ]
    if bound:
        rows += [
            ("largest error", bound_text(bound["noise_std"], _agreement(found, verification))),
            ("largest error at the darkest value", f"{bound['at_minimum']:.4g} signal units"),
            ("largest error at the brightest value", f"{bound['at_maximum']:.4g} signal units"),
        ]
    if noted:
        rows += [
            ("compared when written", f"{noted['compared']:,} values, {noted['failed']:,} beyond the bound"),
            ("largest error found then", f"{noted['max_error']:g} signal units"),
            ("mean", mean_shift_text(Verification.from_dict(noted).mean_shift)),
        ]
        if noted.get("clipped"):
            rows.append(("clipped as asked", f"{noted['clipped']:,} values"))
    if verification is not None:
        rows.append(("compared for this page", str(verification)))
    agreement = _agreement(found, verification)
    inside = (
        ", so what is lost lies inside the noise"
        if agreement is not None and agreement.verdict in ("agrees", "differs")
        else " that the constants imply"
    )
    return Section(
        "What was kept",
        text="Each value is stored as the nearest of a row of levels that lie closer together than the noise "
        f"at their brightness{inside}.",
        rows=tuple(rows),
    )


def _views(stored: Any, against: Any, partial: bool, pictures: _Drawing) -> Section:
    from anscombe_transform.compression.stored.arrays import codec_of, open_array

    array = open_array(stored)
    codec = codec_of(array)
    with open_movie(array if against is None else against, partial=partial) as movie:
        figures = [pictures.codes(movie, codec)]
        if movie.shape[0] > 1:
            figures.insert(0, pictures.stabilization(movie, codec))
        if against is not None:
            figures.append(pictures.residuals(movie, codec))
    return Section(
        "What it looks like",
        text="Drawn from the source." if against is not None else "Drawn from the stored values.",
        figures=tuple(figures),
    )


def _footer(found: StoredMovie) -> str:
    written = (found.provenance or {}).get("date")
    return software_text(found.provenance) + (f" Array written {written}." if written else "")


# --- plots --------------------------------------------------------------------------------------------------


class _Drawing:
    """Draws plots as pictures for the page, and tells how many there are so far."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._done = 0

    def transfer(self, sensitivity: Sensitivity) -> Picture:
        from anscombe_transform.diagnostics.plots.transfer import plot_noise_transfer

        return self._picture(
            plot_noise_transfer(sensitivity).figure,
            "Noise variance against mean signal, with the fitted line",
            "Noise variance against brightness. The points should lie on the line, whose slope is the gain.",
        )

    def pixels(self, sensitivity: Sensitivity) -> Picture:
        from anscombe_transform.diagnostics.plots.pixel_maps import plot_pixel_maps

        return self._picture(
            plot_pixel_maps(sensitivity),
            "Images of zero level, read noise and gain of every pixel",
            "Pixels beside their neighbours: columns and corners that stand out belong to the camera.",
        )

    def stabilization(self, movie: Movie, codec: Any) -> Picture:
        from anscombe_transform.diagnostics.plots.stabilization import plot_stabilization

        return self._picture(
            plot_stabilization(movie, codec).figure,
            "Noise variance against mean before and after the transform",
            "Noise against brightness before and after the transform. After it the noise should be the same "
            "at every brightness, so that one step suits all.",
        )

    def codes(self, movie: Movie, codec: Any) -> Picture:
        from anscombe_transform.diagnostics.plots.codes import plot_code_histogram

        return self._picture(
            plot_code_histogram(movie, codec).figure,
            "How often each code is used",
            "How often each code is used, and the least bits a pixel can take.",
        )

    def residuals(self, movie: Movie, codec: Any) -> Picture:
        from anscombe_transform.diagnostics.plots.residuals import plot_residuals

        return self._picture(
            plot_residuals(movie, codec),
            "Map, histogram and correlation of stored minus original values",
            "Stored minus original, in standard deviations of the noise: it should look like nothing at all.",
        )

    def _picture(self, figure: Any, alt: str, caption: str) -> Picture:
        picture = Picture(png_text(figure), alt, caption)
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._done, "draw")
        return picture


def _extremes(movie: Movie) -> Any:
    """A sample that spans the movie's values, from which a codec is chosen that holds them."""
    import numpy as np

    ends: list[Any] = []
    for block in movie.blocks(max(1, 2**22 // (movie.shape[1] * movie.shape[2]))):
        ends += [np.fmin.reduce(block, None), np.fmax.reduce(block, None)]
    return np.array(ends, movie.dtype)


# --- the record ---------------------------------------------------------------------------------------------


def _noted(found: StoredMovie, name: str) -> dict[str, Any]:
    return dict((found.provenance or {}).get(name) or {})
