"""Constants compared with the noise of a movie."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

import anscombe_transform as at
from anscombe_transform import Agreement, ConstantsMismatch, Sensitivity
from anscombe_transform.calibration.references.agreement import LIMITS, _level, _squares
from anscombe_transform.compression import describe

GAIN, ZERO = 90.0, 50.0
RIGHT = Sensitivity.from_known(conversion_gain=GAIN, zero_level=ZERO)


def wrong_by(factor: float) -> Sensitivity:
    """Constants whose gain is wrong."""
    return Sensitivity.from_known(conversion_gain=GAIN * factor, zero_level=ZERO)


def counts(light: np.ndarray, frames: int, seed: int = 0) -> np.ndarray:
    """Photon counts of a still scene, as signal."""
    photons = np.random.default_rng(seed).poisson(light, (frames, *light.shape))
    return (ZERO + GAIN * photons).astype("int16")


def scene(frames: int = 60) -> np.ndarray:
    """A simulated movie of the right constants."""
    return at.simulate_movie((frames, 64, 64), conversion_gain=GAIN, zero_level=ZERO, rng=0)[0]


FORMS = {
    "scene": scene(),
    "of one brightness": counts(np.full((64, 64), 8.0), 60),
    "8 x 8 pixels": counts(np.linspace(2, 20, 64).reshape(8, 8), 200),
    "line scan": counts(np.linspace(2, 20, 128)[None], 1000),
    "two frames": counts(np.full((96, 96), 8.0), 2),
    "nearly dark": counts(np.full((64, 64), 0.05), 100),
}


@pytest.mark.parametrize("form", FORMS)
def test_right_constants_agree(form: str) -> None:
    """The measured noise variance is that of the right constants, whatever the movie's form."""
    found = RIGHT.agreement(FORMS[form])
    assert found.verdict == "agrees"
    assert found.factor_interval[0] / 1.1 < 1 < found.factor_interval[1] * 1.1


@pytest.mark.parametrize("factor", [1 / 10, 1 / 3, 1 / 1.3, 1.3, 3, 10])
@pytest.mark.parametrize("form", FORMS)
def test_wrong_gain_is_contradicted(form: str, factor: float) -> None:
    """A gain that is wrong by a factor contradicts the movie, which shows the factor within 10 %."""
    found = wrong_by(factor).agreement(FORMS[form])
    assert found.verdict == "contradicts"
    assert found.factor * factor == pytest.approx(1, rel=0.1)


def test_gain_is_compared_under_read_noise() -> None:
    """A wrong gain is found by the slope where read noise hides it from the variance."""
    movie, truth = at.simulate_movie(
        (100, 96, 96), conversion_gain=2.0, zero_level=100.0, read_noise=8.0, mean_photons=6, rng=1
    )
    wrong = Sensitivity.from_known(conversion_gain=2.6, zero_level=100, read_noise=truth.read_noise)
    found = wrong.agreement(movie)
    assert found.verdict == "contradicts"
    assert found.gain_factor == pytest.approx(2 / 2.6, rel=0.1)


def test_wrong_zero_level_is_contradicted() -> None:
    """A zero level far below the signal implies more noise than there is."""
    movie, _ = at.simulate_movie(
        (60, 96, 96), conversion_gain=2.0, zero_level=500.0, read_noise=3.0, dtype="uint16", rng=1
    )
    wrong = Sensitivity.from_known(conversion_gain=2.0, zero_level=0, read_noise=3.0)
    found = wrong.agreement(movie)
    assert found.verdict == "contradicts"
    assert "zero level" in found.message


@pytest.mark.parametrize(("gain", "side"), [(1.18, -1), (0.84, 1)])
def test_constants_that_are_right_at_the_median_only_are_contradicted(gain: float, side: int) -> None:
    """Two lines that cross at the median brightness differ in darkness, where the interval says so."""
    light = np.linspace(1, 59, 96 * 96).reshape(96, 96)
    middle = 30 * GAIN
    wrong = Sensitivity.from_known(
        conversion_gain=GAIN * gain,
        zero_level=ZERO,
        # The variance of 30 photons is that of the movie.
        read_noise=math.sqrt(max(GAIN * middle * (1 - gain), 0)),
    )
    if gain > 1:
        wrong = Sensitivity.from_known(conversion_gain=GAIN * gain, zero_level=ZERO + middle * (1 - 1 / gain))
    found = wrong.agreement(counts(light, 60))
    assert found.factor == pytest.approx(1, rel=0.1)
    assert found.verdict == "contradicts"
    assert "At a signal of" in found.message
    assert (found.ratio[0] > 1) == (side < 0)


@pytest.mark.parametrize("photons", [-0.2, 0.2])
def test_part_of_a_photon_is_no_contradiction(photons: float) -> None:
    """A zero level that is off by a part of a photon loses nothing, however dark the movie is."""
    light = np.linspace(0.05, 20, 96 * 96).reshape(96, 96) ** 2 / 20
    near = Sensitivity.from_known(conversion_gain=GAIN, zero_level=ZERO + photons * GAIN)
    assert near.agreement(counts(light, 60)).verdict != "contradicts"


def test_read_noise_that_was_not_given_is_reported_only() -> None:
    """Without the read noise the codes are finer than needed, which loses nothing."""
    movie, _ = at.simulate_movie((100, 96, 96), conversion_gain=2.0, zero_level=100.0, read_noise=6.0, rng=1)
    found = Sensitivity.from_known(conversion_gain=2.0, zero_level=100).agreement(movie)
    assert found.verdict == "differs"
    assert "read noise" in found.message


@pytest.mark.parametrize(
    "movie",
    [
        counts(np.full((64, 64), 8.0), 1),
        np.full((20, 32, 32), 7, "int16"),
        np.repeat(counts(np.full((32, 32), 8.0), 1), 10, axis=0),
        np.full((20, 32, 32), np.nan, "float32"),
    ],
    ids=["still", "constant", "identical", "nan"],
)
def test_movie_without_noise_is_unchecked(movie: np.ndarray) -> None:
    """A movie that shows no noise neither agrees nor contradicts."""
    found = RIGHT.agreement(movie)
    assert found.verdict == "unchecked"
    assert not found.checked
    assert math.isnan(found.factor)
    assert "cannot be checked" in found.message


def test_saturated_pixels_do_not_count() -> None:
    """Pixels that are saturated have too little noise, which is not held against the constants."""
    light = np.where(np.arange(64)[:, None] % 32 < 16, 8.0, 60.0) * np.ones((64, 64))
    assert RIGHT.agreement(counts(light, 60).clip(None, 2000)).verdict == "agrees"


def test_motion_is_not_a_contradiction() -> None:
    """Motion and activity add to what frames differ by; right constants still do not contradict."""
    movie, truth = at.simulate_movie(
        (100, 96, 96), conversion_gain=GAIN, zero_level=ZERO, jitter=0.5, activity=0.3, drift=2, rng=2
    )
    found = Sensitivity.from_known(
        conversion_gain=GAIN, zero_level=ZERO, read_noise=truth.read_noise
    ).agreement(movie)
    assert found.verdict in ("agrees", "differs")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "agrees"), (1.5, "contradicts")])
def test_planes_that_take_turns_are_compared_one_by_one(seed: int, factor: float, verdict: str) -> None:
    """Noise is measured between frames of one plane; neighbours show scenes of other brightness."""
    planes = [
        at.simulate_movie(
            (40, 24, 24), conversion_gain=90.0, zero_level=50.0, mean_photons=photons, rng=seed
        )[0]
        for photons in (3, 30, 10)
    ]
    turns = np.stack(planes, axis=1).reshape(120, 24, 24)
    known = Sensitivity.from_known(conversion_gain=90.0 * factor, zero_level=50.0)
    assert known.agreement(turns).verdict == verdict


def test_limits_decide_at_both_sides() -> None:
    """A ratio just within a limit passes, one just beyond does not, if its interval is beyond as well."""
    for side in (1, -1):
        exact = [(LIMITS.tolerated * 1.01) ** side] * 2
        within, beyond = (LIMITS.contradicted**side * k**side for k in (0.99, 1.01))
        assert _level(within, (exact[0], exact[1])) == 1
        assert _level(beyond, (exact[0], exact[1])) == 2
        assert _level(beyond, ((LIMITS.tolerated * 0.99) ** side,) * 2) == 1
        assert _level((LIMITS.tolerated * 0.99) ** side, (1.1**side,) * 2) == 0
    assert _level(1.18, (0.9, 1.4)) == 0


def test_uncertain_interval_contradicts_nothing() -> None:
    """An interval that holds 1 or is enormous contradicts nothing; one just narrower and beside 1 does."""
    for side in (1, -1):
        factor = 5.0**side
        ends = sorted((2.0**side, (2 * LIMITS.enormous * 1.01) ** side))
        assert _level(factor, (ends[0], ends[1])) == 0
        ends = sorted((2.0**side, (2 * LIMITS.enormous * 0.99) ** side))
        assert _level(factor, (ends[0], ends[1])) == 2
        ends = sorted((1.0, 5.5**side))
        assert _level(factor, (ends[0], ends[1])) == 0
    assert _level(0.5, (3e-71, 3e70)) == 0
    assert _level(0.75, (0.805, 1.19)) == 0
    assert _level(math.nan, (math.nan, math.nan)) == 0


def test_squares_are_a_part_of_a_large_frame() -> None:
    """Small frames are looked at whole, and large ones in squares from each of their quarters."""
    assert _squares((128, 128)) is None
    for shape in ((512, 512), (1024, 700), (2048, 2048)):
        squares = _squares(shape)
        assert squares is not None
        assert squares.shape == shape
        assert 0 < squares.mean() <= 0.6
        middle = shape[0] // 2, shape[1] // 2
        for rows in (slice(None, middle[0]), slice(middle[0], None)):
            for columns in (slice(None, middle[1]), slice(middle[1], None)):
                assert squares[rows, columns].any()


def test_imprecise_factor_is_unchecked() -> None:
    """Where the interval is wider than the limit, nothing is said."""
    found = RIGHT.agreement(counts(np.linspace(2, 20, 64).reshape(8, 8), 3))
    low, high = found.factor_interval
    assert found.verdict == "unchecked"
    assert high > LIMITS.imprecise * found.factor or found.factor > LIMITS.imprecise * low


def test_codes_of_a_codec_are_checked() -> None:
    """The codes' noise is flat for the right constants, and too small for a gain that is too high."""
    movie = scene()
    for factor, expected in ((1, 1.0), (3, 1 / 3)):
        given = wrong_by(factor)
        found = given.agreement(movie, codec=given.codec(sample=movie))
        bright = np.array(found.code_mean) > ZERO + 12 * GAIN
        assert np.array(found.code_ratio)[bright] == pytest.approx(expected, rel=0.15)


def test_agreement_survives_json() -> None:
    """What `to_dict` gives is JSON and makes the same result."""
    for found in (RIGHT.agreement(scene()), RIGHT.agreement(scene()[:1])):
        text = json.dumps(found.to_dict(), allow_nan=False)
        assert Agreement.from_dict(json.loads(text)).to_dict() == found.to_dict()
        assert str(found).startswith(found.verdict)


def test_given_constants_are_given() -> None:
    """Constants of a data sheet are never called trustworthy, nor are those that an older version noted."""
    assert RIGHT.verdict == "given"
    assert Sensitivity.from_dict(RIGHT.to_dict() | {"verdict": "trustworthy"}).verdict == "given"


def test_compress_stops_at_a_contradiction(tmp_path) -> None:
    """Nothing is written with constants that contradict the movie."""
    with pytest.raises(ConstantsMismatch, match=r"accept_mismatch=True") as error:
        at.compress(scene(), tmp_path / "a.zarr", sensitivity=wrong_by(3))
    assert error.value.agreement.gain_factor == pytest.approx(1 / 3, rel=0.1)
    assert not list(tmp_path.iterdir())


def test_compress_stops_at_measured_constants_of_another_movie(tmp_path) -> None:
    """A calibration of another detector is compared like any other constants."""
    camera, _ = at.simulate_movie((60, 64, 64), conversion_gain=0.5, zero_level=100, dtype="uint16", rng=0)
    with pytest.raises(ConstantsMismatch):
        at.compress(scene(), tmp_path / "a.zarr", sensitivity=at.compute_sensitivity(camera))


def test_accepted_mismatch_is_on_record(tmp_path) -> None:
    """The array, its verification and its description keep saying that its constants contradict the movie."""
    movie = scene()
    place = tmp_path / "a.zarr"
    result = at.compress(movie, place, sensitivity=wrong_by(10), accept_mismatch=True)
    assert result.sensitivity.verdict == "caution"
    assert result.measured_bound == pytest.approx(result.bound * math.sqrt(10), rel=0.1)
    noted = describe(place).provenance["agreement"]
    assert noted["accepted_mismatch"]
    assert noted["factor"] == pytest.approx(0.1, rel=0.1)
    assert "CONTRADICTS" in str(describe(place))
    assert "trustworthy" not in str(describe(place))
    assert "CONTRADICT" in str(at.verify(place, movie))


def test_measured_constants_agree_with_their_movie(tmp_path) -> None:
    """Constants that compress measures are compared with the same movie, and noted to agree."""
    movie = scene()
    result = at.compress(movie, tmp_path / "a.zarr")
    assert result.agreement.verdict == "agrees"
    assert not describe(tmp_path / "a.zarr").provenance["agreement"]["accepted_mismatch"]
    found = at.verify(tmp_path / "a.zarr", movie)
    assert found.agreement.verdict == "agrees"
    assert "measured standard deviations" in str(found)
    assert found.error_in_noise == pytest.approx(result.measured_bound, rel=0.1)


def test_unchecked_constants_are_not_trustworthy(tmp_path) -> None:
    """A single image cannot confirm the calibration that it is stored with."""
    measured = at.compute_sensitivity(scene())
    assert measured.verdict == "trustworthy"
    result = at.compress(scene()[:1], tmp_path / "a.zarr", sensitivity=measured)
    assert result.sensitivity.verdict == "given"
    assert "not checked" in str(result)
    assert "trustworthy" not in str(result.sensitivity)


def test_verify_compares_the_constants_of_any_array() -> None:
    """Of an array that compress did not write, too, the constants are compared with the source."""
    import zarr

    movie = scene()
    for factor, verdict in ((1, "agrees"), (10, "contradicts")):
        codec = wrong_by(factor).codec(sample=movie)
        stored = zarr.create_array({}, data=movie, filters=[codec])
        assert at.verify(stored, movie).agreement.verdict == verdict


def test_page_is_green_only_with_agreement(tmp_path) -> None:
    """A page calls a movie verified only if its constants agree with it."""
    movie, place = scene(), tmp_path / "a.zarr"
    for constants, said in (
        (RIGHT, "verified, value by value"),
        (wrong_by(3), "constants contradict the movie"),
    ):
        at.compress(movie, place, sensitivity=constants, accept_mismatch=True, overwrite=True)
        for against in (None, movie):
            page = at.write_report(place, tmp_path / "page.html", against=against).read_text("utf-8")
            assert said in page


def test_command_takes_every_constant(tmp_path) -> None:
    """`compress --gain --zero-level --read-noise --excess-noise` reach the codec; contradiction exits 3."""
    from anscombe_transform.cli.commands import app

    np.save(tmp_path / "m.npy", scene())
    name, out = str(tmp_path / "m.npy"), str(tmp_path / "m.zarr")
    constants = ["--zero-level", "50", "--read-noise", "9", "--excess-noise", "2"]
    run = CliRunner().invoke(app, ["compress", name, out, "--gain", "90", *constants])
    assert run.exit_code == 0, run.output
    noted = describe(out).provenance["sensitivity"]
    assert [noted[key] for key in ("conversion_gain", "zero_level", "read_noise", "excess_noise")] == [
        90,
        50,
        9,
        2,
    ]
    assert noted["verdict"] == "given"
    wrong = ["compress", name, out, "--overwrite", "--gain", "900", "--zero-level", "50"]
    run = CliRunner().invoke(app, wrong)
    assert run.exit_code == 3
    assert "--accept-mismatch" in run.output
    assert "=True" not in run.output
    assert CliRunner().invoke(app, [*wrong, "--accept-mismatch"]).exit_code == 0
    run = CliRunner().invoke(app, ["verify", out, "--against", name])
    assert run.exit_code == 0
    assert "CONTRADICT" in run.output
