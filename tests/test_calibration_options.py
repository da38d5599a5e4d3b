"""Options of `compute_sensitivity`: axes, channels, masks, sampling, files and clusters."""

from __future__ import annotations

import collections
import itertools
import pickle

import numpy as np
import pytest

from anscombe_transform import compute_sensitivity, open_movie, simulate_movie
from anscombe_transform.calibration.sums.distributed import _run_length
from anscombe_transform.calibration.sums.reading import choose_segments
from anscombe_transform.calibration.sums.statistics import NoiseStatistics


def close(found, expected, rel=1e-12):
    """Whether two estimates agree but for the order of floating-point sums."""
    return found.conversion_gain == pytest.approx(expected.conversion_gain, rel=rel) and (
        found.zero_level == pytest.approx(expected.zero_level, rel=1e-9, abs=1e-9)
    )


def test_axes_may_come_in_any_order(seed):
    """A time axis elsewhere, counted from either end, gives the estimate of the movie in order."""
    movie, _ = simulate_movie((48, 64, 72), rng=seed)
    expected = compute_sensitivity(movie)
    assert compute_sensitivity(np.moveaxis(movie, 0, 2), axis=2) == expected
    assert compute_sensitivity(np.moveaxis(movie, 0, 1), axis=-2) == expected


@pytest.mark.parametrize("lazy", [False, True])
def test_each_channel_is_calibrated_for_itself(seed, lazy):
    """`channel_axis` gives a tuple of what each channel alone gives, from numpy and dask arrays."""
    green, _ = simulate_movie((48, 64, 64), conversion_gain=90, rng=seed)
    red, _ = simulate_movie((48, 64, 64), conversion_gain=40, rng=seed + 1)
    for axis, channel_axis in itertools.permutations(range(4), 2):
        both = np.moveaxis(np.stack([green, red]), (0, 1), (channel_axis, axis))
        if lazy:
            both = pytest.importorskip("dask.array").from_array(both, chunks=-1)
        found = compute_sensitivity(both, axis=axis, channel_axis=channel_axis)
        assert isinstance(found, tuple)
        assert [close(f, compute_sensitivity(m)) for f, m in zip(found, (green, red), strict=True)] == [
            True,
            True,
        ]
        if axis > 1 or lazy:
            break


def test_a_refused_channel_is_named(seed):
    """The error for a channel that can't be calibrated says which one it is."""
    movie, _ = simulate_movie((48, 64, 64), rng=seed)
    with pytest.raises(ValueError, match="every sample has the same value") as error:
        compute_sensitivity(np.stack([movie, np.zeros_like(movie)], axis=1), channel_axis=1)
    assert error.value.__notes__ == ["This is channel 1 of axis 1."]


def test_masked_pixels_have_no_part(seed):
    """What lies under False of the mask may be anything at all."""
    movie, truth = simulate_movie((48, 128, 128), rng=seed)
    mask = np.ones((128, 128), bool)
    mask[40:70, 10:90] = False
    spoilt = movie.copy()
    spoilt[:, ~mask] = np.random.default_rng(seed).integers(-3000, 3000, spoilt[:, ~mask].shape)
    found = compute_sensitivity(spoilt, mask=mask)
    assert found == compute_sensitivity(movie, mask=mask)
    assert abs(found.conversion_gain / truth.conversion_gain - 1) < 0.05


def test_statistics_of_other_masks_do_not_mix(seed):
    """Statistics know their mask, and merge only with those of the same."""
    mask = np.ones((32, 32), bool)
    mask[0, 0] = False
    movie, _ = simulate_movie((48, 32, 32), rng=seed)
    first, second = NoiseStatistics((32, 32), mask=mask), NoiseStatistics((32, 32))
    first.update(movie[:24], start=0)
    second.update(movie[24:], start=24)
    assert (second.table().label("tile") == 0).any()
    assert not (first.table().label("tile") == 0).any()
    with pytest.raises(ValueError, match="another mask"):
        first.merge(second)


MOVIE = np.zeros((20, 32, 40))


@pytest.mark.parametrize(
    ("movie", "options", "error", "message"),
    [
        (MOVIE, {"axis": 3}, ValueError, "axis must be a whole number from -3 to 2, got 3"),
        (MOVIE, {"channel_axis": 1}, ValueError, r"four axes .* got shape \(20, 32, 40\)"),
        (MOVIE[None], {}, ValueError, "channel_axis= names a fourth axis"),
        (MOVIE[None], {"axis": 1, "channel_axis": -3}, ValueError, "must differ"),
        (MOVIE, {"mask": np.ones((40, 32), bool)}, ValueError, r"shape .*\(32, 40\), True .* got \(40, 32\)"),
        (MOVIE, {"mask": np.ones((32, 40))}, TypeError, "boolean, True where pixels may be used"),
        (MOVIE, {"mask": np.zeros((32, 40), bool)}, ValueError, "False everywhere"),
        (MOVIE.tolist(), {}, TypeError, "path or an array .* got list"),
        ("nowhere.tif", {"axis": 1}, ValueError, "open_movie"),
    ],
)
def test_misuse_names_the_rule(movie, options, error, message):
    """Axes and masks that do not fit are errors that say what would."""
    with pytest.raises(error, match=message):
        compute_sensitivity(movie, **options)


def test_a_mask_of_crumbs_is_refused():
    """A mask that leaves no whole tile is an error, not a movie without noise."""
    movie, _ = simulate_movie((20, 48, 48), rng=0)
    mask = np.ones((48, 48), bool)
    mask[::8, ::8] = False
    with pytest.raises(ValueError, match="leaves no tile"):
        compute_sensitivity(movie, mask=mask)


def test_segments_are_spread_over_the_movie(seed):
    """With a seed or without, every tenth of a long movie has its segment."""
    assert choose_segments(1000, 10) == np.linspace(0, 999, 10).round().astype(int).tolist()
    drawn = choose_segments(1000, 10, seed)
    assert [k // 100 for k in drawn] == list(range(10))
    assert drawn == choose_segments(1000, 10, seed) != choose_segments(1000, 10, seed + 1)
    assert choose_segments(3, 10, seed) == [0, 1, 2]


def test_a_file_is_opened_and_calibrated(seed, tmp_path):
    """A path gives what the array in the file gives."""
    movie, _ = simulate_movie((48, 64, 64), rng=seed)
    np.save(tmp_path / "movie.npy", movie)
    assert compute_sensitivity(tmp_path / "movie.npy") == compute_sensitivity(movie)
    assert compute_sensitivity(str(tmp_path / "movie.npy"), full=True) == compute_sensitivity(
        movie, full=True
    )


def test_labelled_arrays_are_taken(seed):
    """Xarray gives what its array gives, lazy ones included."""
    xarray, da = pytest.importorskip("xarray"), pytest.importorskip("dask.array")
    movie, _ = simulate_movie((48, 64, 64), rng=seed)
    expected = compute_sensitivity(movie)
    assert compute_sensitivity(xarray.DataArray(movie, dims=("time", "y", "x"))) == expected
    lazy = xarray.DataArray(da.from_array(movie, chunks=(20, 64, 64)), dims=("time", "y", "x"))
    assert close(compute_sensitivity(lazy), expected)


@pytest.mark.parametrize("full", [False, True])
def test_dask_gives_the_estimate_of_memory(seed, full):
    """Chunks of any length, summed by a tree of tasks, give the estimate of the array in memory."""
    da = pytest.importorskip("dask.array")
    movie, _ = simulate_movie((400, 48, 48), rng=seed)
    expected = compute_sensitivity(movie, full=full)
    for chunks in ((16, 48, 48), (37, 20, 48), (400, 10, 10)):
        heard = []
        found = compute_sensitivity(
            da.from_array(movie, chunks=chunks), full=full, progress=lambda *a, to=heard: to.append(a)
        )
        assert close(found, expected)
        assert heard[-1] == (16, 16)


def test_tasks_are_few_and_read_no_more_than_memory_bears():
    """Small chunks are joined, large ones kept; a chunk beyond 256 MB is cut into several tasks."""
    da = pytest.importorskip("dask.array")
    for frames, side, chunk, expected in (
        (24 * 640, 32, 24, 40),
        (24 * 64, 32, 24, 4),
        (24 * 8, 32, 24, 1),
        (24 * 64, 512, 24, 1),
        (24 * 64, 512, 96, 4),
        (24 * 64, 1024, 24 * 64, 5),
    ):
        movie = da.zeros((frames, side, side), chunks=(chunk, side, side), dtype="uint16")
        assert _run_length(open_movie(movie), 24, frames // 24) == expected


def test_a_cluster_gives_the_estimate_of_memory(seed):
    """Two worker processes of a connected cluster give the estimate of the array in memory."""
    distributed, da = pytest.importorskip("distributed"), pytest.importorskip("dask.array")
    movie, _ = simulate_movie((256, 48, 48), rng=seed)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        found = compute_sensitivity(da.from_array(movie, chunks=(32, 48, 48)), full=True)
        ran = client.run(
            lambda: "anscombe_transform.calibration.sums.distributed" in __import__("sys").modules
        )
    assert list(ran.values()) == [True, True]
    assert close(found, compute_sensitivity(movie, full=True))


class Chunked:
    """A movie in chunks of whole frames that remembers how often each chunk was read."""

    def __init__(self, movie, frames):
        self.shape, self.dtype, self.chunks = movie.shape, movie.dtype, (frames, *movie.shape[1:])
        self._movie, self.reads = movie, collections.Counter()

    def __getitem__(self, index):
        start, stop, _ = index[0].indices(len(self._movie))
        self.reads.update(range(start // self.chunks[0], -(-stop // self.chunks[0])))
        return self._movie[index]


@pytest.mark.parametrize("frames", [10, 24, 37, 100])
def test_a_full_pass_reads_every_chunk_once_and_looks_at_eight(seed, frames):
    """However long chunks are, each is read once for the sums, and few for the first looks."""
    movie, _ = simulate_movie((1152, 48, 48), rng=seed)
    lazy = Chunked(movie, frames)
    expected = compute_sensitivity(movie, full=True, on_refusal="return")
    assert close(compute_sensitivity(lazy, full=True, on_refusal="return"), expected)
    assert len(lazy.reads) == -(-1152 // frames)
    # A pair of frames may lie in two chunks; three windows of 96 frames are searched for turns of channels.
    windows = 3 * (96 // frames + 2)
    assert sum(lazy.reads.values()) <= len(lazy.reads) + 2 * 8 + windows
    lazy = Chunked(movie, 1152)
    compute_sensitivity(lazy, full=True, on_refusal="return")
    assert sum(lazy.reads.values()) <= 1 + 8 + 3


def test_merging_leaves_the_other_statistics_as_they_are(seed, monkeypatch):
    """Frames added to one of two statistics after a merge do not change the other, nor its copies."""
    monkeypatch.setattr("anscombe_transform.calibration.sums.statistics._MOST_ROWS", 1000)
    movie, _ = simulate_movie((240, 32, 32), rng=seed)
    first, second, third = (NoiseStatistics((32, 32)) for _ in range(3))
    second.expect(range(10))
    for statistics, start, stop in ((first, 0, 96), (second, 96, 120), (third, 144, 168)):
        statistics.update(movie[start:stop], start=start)
    kept = second.table().rows
    sums = first.merge(second).table().rows
    copied = pickle.loads(pickle.dumps(first))
    second.update(movie[120:144], start=120)
    np.testing.assert_array_equal(first.table().rows, sums)
    first.merge(third)
    np.testing.assert_array_equal(copied.table().rows, sums)
    copied.merge(third)
    np.testing.assert_allclose(copied.table().rows, first.table().rows, rtol=1e-12)
    again = NoiseStatistics((32, 32))
    again.expect(range(10))
    again.update(movie[96:120], start=96)
    np.testing.assert_array_equal(again.table().rows, kept)


def test_expected_segments_change_only_the_memory(seed, monkeypatch):
    """Statistics that know what is to come add up as those do that find out."""
    monkeypatch.setattr("anscombe_transform.calibration.sums.statistics._MOST_ROWS", 1000)
    movie, _ = simulate_movie((240, 32, 32), rng=seed)
    whole, told = NoiseStatistics((32, 32)), NoiseStatistics((32, 32))
    whole.update(movie, start=0)
    told.expect(range(10))
    parts = [told.without_frames() for _ in range(10)]
    for k, part in enumerate(parts):
        part.update(movie[24 * k : 24 * k + 24], start=24 * k)
        told.merge(part)
    np.testing.assert_allclose(told.table().rows, whole.table().rows, rtol=1e-12)
    np.testing.assert_array_equal(told.table().labels, whole.table().labels)
