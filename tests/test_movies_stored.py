"""What HDF5, NWB and Zarr announce is held against what is stored; axes, units and scales are kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from movie_files import ZARR_3, h5py, make_nwb, tifffile, write_movie, write_nwb, write_ome_tiff, zarr
from numpy.typing import NDArray

from anscombe_transform import Sensitivity, compress, compute_sensitivity, decompress
from anscombe_transform.movies import IncompleteRecordingError, open_movie
from anscombe_transform.simulation import simulate_movie

SHAPE = (12, 40, 56)
KNOWN = Sensitivity.from_known(conversion_gain=90, zero_level=50)


@pytest.fixture
def frames(rng: np.random.Generator) -> NDArray[np.int16]:
    """A movie without zeros, whose frames all differ."""
    return rng.integers(1, 3000, SHAPE).astype(np.int16)


@pytest.fixture
def recording(seed: int) -> NDArray[np.uint16]:
    """A simulated movie that is not square."""
    return simulate_movie((30, 32, 48), conversion_gain=90, zero_level=50, rng=seed)[0].astype(np.uint16)


# --- HDF5 -------------------------------------------------------------------------------------------------


def write_parts(folder: Path, frames: NDArray[np.int16], *, interleaved: bool = False) -> Path:
    """A virtual dataset of three files."""
    layout = h5py.VirtualLayout(SHAPE, frames.dtype)
    for number in range(3):
        part = np.s_[number::3] if interleaved else np.s_[number * 4 : number * 4 + 4]
        with h5py.File(folder / f"part{number}.h5", "w") as file:
            file["data"] = frames[part]
        layout[part] = h5py.VirtualSource(f"part{number}.h5", "data", (4, *SHAPE[1:]))
    with h5py.File(folder / "all.h5", "w") as file:
        file.create_virtual_dataset("movie", layout)
    return folder / "all.h5"


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("fault", ["absent", "cut", "renamed dataset", "shorter"])
def test_a_virtual_dataset_needs_its_sources(
    fault: str, interleaved: bool, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """A source that is absent, cut, renamed or shorter reads as zeros; its frames are not there."""
    path = write_parts(tmp_path, frames, interleaved=interleaved)
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie[:], frames)
    part = tmp_path / "part1.h5"
    if fault == "absent":
        part.unlink()
    elif fault == "cut":
        part.write_bytes(part.read_bytes()[:-3000])
    else:
        with h5py.File(part, "w") as file:
            file["other" if fault == "renamed dataset" else "data"] = frames[: 4 - (fault == "shorter")]
    with pytest.raises(IncompleteRecordingError, match=r"8 whole frames of 12: .*part1\.h5"):
        open_movie(path)
    kept = np.delete(frames, np.s_[1::3] if interleaved else np.s_[4:8], axis=0)
    with open_movie(path, partial=True) as movie:
        np.testing.assert_array_equal(movie[:], kept)
        np.testing.assert_array_equal(movie[1:7:2, 3:9], kept[1:7:2, 3:9])


def test_a_virtual_dataset_with_a_hole(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Frames that no source was named for are zeros, not data."""
    layout = h5py.VirtualLayout(SHAPE, frames.dtype)
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["data"] = frames
    layout[:9] = h5py.VirtualSource("part.h5", "data", SHAPE)[:9]
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_virtual_dataset("movie", layout)
    with pytest.raises(IncompleteRecordingError, match="9 whole frames of 12"):
        open_movie(tmp_path / "all.h5")


@pytest.mark.parametrize("chunks", [(1, 40, 56), (5, 20, 56)])
def test_chunks_that_were_never_written_are_no_frames(
    chunks: tuple[int, int, int], tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """A recording that stopped leaves chunks without values, which HDF5 reads as zeros."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("movie", SHAPE, frames.dtype, chunks=chunks)
        dataset[:5] = frames[:5]
        rows = np.s_[:20] if chunks[1] == 20 else np.s_[:]
        dataset[10:, rows] = frames[10:, rows]
    whole = [*range(5)] if chunks[1] == 20 else [*range(5), 10, 11]
    with pytest.raises(IncompleteRecordingError, match=rf"{len(whole)} whole frames of 12: \d+ of its \d+"):
        open_movie(path)
    with open_movie(path, partial=True) as movie:
        np.testing.assert_array_equal(movie[:], frames[whole])
    with h5py.File(path, "w") as file:
        file.create_dataset("movie", SHAPE, frames.dtype)
    with pytest.raises(ValueError, match=r"holds no whole frame: nothing was ever written"):
        open_movie(path, partial=True)


def test_the_chunks_of_another_channel_do_not_matter(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """What was never written of a channel that is not asked for is not missing."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("movie", (12, 2, 40, 56), frames.dtype, chunks=(1, 1, 40, 56))
        dataset[:, 1] = frames
    with open_movie(path, axes="tcyx", channel=1) as movie:
        np.testing.assert_array_equal(movie[:], frames)
    with pytest.raises(ValueError, match="holds no whole frame"):
        open_movie(path, axes="tcyx", channel=0, partial=True)


def test_links_that_lead_nowhere_are_told(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """A master file whose second data file was not copied is not the movie of the first one."""
    for number in (1, 2):
        with h5py.File(tmp_path / f"data_{number}.h5", "w") as file:
            file["entry/data"] = frames
    with h5py.File(tmp_path / "master.h5", "w") as file:
        for number in (1, 2):
            file[f"entry/data_{number}"] = h5py.ExternalLink(f"data_{number}.h5", "/entry/data")
    with pytest.raises(ValueError, match=r"holds 2 movies: /entry/data_1 .*/entry/data_2"):
        open_movie(tmp_path / "master.h5")
    (tmp_path / "data_2.h5").unlink()
    with pytest.raises(IncompleteRecordingError, match=r"/entry/data_2 → data_2\.h5::/entry/data"):
        open_movie(tmp_path / "master.h5")
    for options in ({"partial": True}, {"dataset": "entry/data_1"}):
        with open_movie(tmp_path / "master.h5", **options) as movie:
            np.testing.assert_array_equal(movie[:], frames)
    with pytest.raises(FileNotFoundError, match=r"is a link to data_2\.h5"):
        open_movie(tmp_path / "master.h5", dataset="entry/data_2")


def test_values_in_a_file_of_their_own_must_be_there(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """External storage that is absent or short reads as zeros."""
    outside = tmp_path / "values.raw"
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset(
            "movie", SHAPE, frames.dtype, external=[(str(outside), 0, frames.nbytes)]
        )
        dataset[:] = frames
    with open_movie(tmp_path / "a.h5") as movie:
        np.testing.assert_array_equal(movie[:], frames)
    outside.write_bytes(outside.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"values\.raw, which has \d+ bytes of \d+"):
        open_movie(tmp_path / "a.h5")
    outside.unlink()
    with pytest.raises(ValueError, match=r"values\.raw, which is absent"):
        open_movie(tmp_path / "a.h5")


@pytest.mark.parametrize("filter_name", ["Bitshuffle", "Blosc", "LZ4", "Zstd"])
def test_filters_of_hdf5plugin_are_used_or_named(
    filter_name: str, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """A new process reads them without importing anything itself; without hdf5plugin the error names it."""
    hdf5plugin = pytest.importorskip("hdf5plugin")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        options = getattr(hdf5plugin, filter_name)()
        file.create_dataset("movie", data=frames, chunks=(1, 40, 56), **options)
    code = (
        "import sys\n"
        "if len(sys.argv) > 2: sys.modules['hdf5plugin'] = None\n"
        "import anscombe_transform as at\n"
        "try: print(int(at.open_movie(sys.argv[1])[:].sum(dtype='int64')))\n"
        "except ValueError as error: print(error)\n"
    )
    read = [sys.executable, "-c", code, str(path)]
    found = subprocess.run(read, capture_output=True, text=True, check=True).stdout.strip()
    assert found == str(int(frames.sum(dtype=np.int64)))
    found = subprocess.run([*read, "without"], capture_output=True, text=True, check=True).stdout
    assert "pip install hdf5plugin" in found


def test_matlab_writes_the_axes_in_reverse(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Y(y, x, time) of a v7.3 file lies as (time, x, y); the option `axes` says otherwise."""
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["Y"] = frames.transpose(0, 2, 1)
        file["Y"].attrs["MATLAB_class"] = np.bytes_("int16")
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie[:], frames)
    with open_movie(path, axes="tyx") as movie:
        np.testing.assert_array_equal(movie[:], frames.transpose(0, 2, 1))


# --- NWB --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["Created using NeuroConv v0.7.4", "nwb-conversion-tools 0.9"])
def test_files_of_neuroconv_are_read_as_they_are_written(
    script: str, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """It stores frames as (time, x, y) and fills `dimension` with rows and columns."""
    pynwb = pytest.importorskip("pynwb")
    from datetime import UTC, datetime

    nwb = make_nwb(pynwb, datetime(2024, 5, 17, tzinfo=UTC), frames.transpose(0, 2, 1), dimension=[40, 56])
    nwb.source_script, nwb.source_script_file_name = script, "convert.py"
    with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "w") as file:
        file.write(nwb)
    with open_movie(tmp_path / "a.nwb") as movie:
        np.testing.assert_array_equal(movie[:], frames)


def test_the_first_advice_about_a_contradiction_is_the_standard(
    tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """Most files whose `dimension` contradicts the data are stored as the standard says."""
    path = write_nwb(tmp_path / "a.nwb", frames, dimension=[40, 56])
    with pytest.raises(ValueError, match=r'axes="txy" .*\(40 rows and 56 columns\), or axes="tyx"'):
        open_movie(path)


@pytest.mark.parametrize("there", [True, False])
def test_frames_outside_an_nwb_file_are_named(there: bool, tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """The error names the files where they are looked for, and says which one is absent."""
    pytest.importorskip("pynwb")
    if there:
        tifffile.imwrite(tmp_path / "raw.tif", frames)
    options = {"external_file": ["raw.tif"], "format": "external", "starting_frame": [0], "num_samples": 12}
    path = write_nwb(tmp_path / "a.nwb", frames[:0], dimension=[56, 40], **options)
    with pytest.raises(ValueError, match=rf"{'open' if there else 'is absent'}.*raw\.tif|raw\.tif is absent"):
        open_movie(path)


# --- Zarr -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("shards", [None, (8, 40, 56)])
def test_frames_of_a_zarr_array_that_were_never_written(
    zarr_format: int, shards: Any, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """An array that was made for more frames than were recorded is not whole; empty chunks inside are."""
    if not ZARR_3 or (shards and zarr_format == 2):
        pytest.skip("needs zarr-python 3 and format 3")
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=(40, *SHAPE[1:]),
        dtype="int16",
        chunks=(4, 20, 56),
        shards=shards,
        zarr_format=zarr_format,
    )
    frames[4:8, :20] = 0
    array[:12] = frames
    held = 12 if shards is None else 16
    with pytest.raises(IncompleteRecordingError, match=rf"holds {held} frames of 40"):
        open_movie(tmp_path / "a.zarr")
    with open_movie(tmp_path / "a.zarr", partial=True) as movie:
        assert len(movie) == held
        np.testing.assert_array_equal(movie[:12], frames)


def test_an_array_of_ours_that_lost_chunks_opens_on_request(
    tmp_path: Path, recording: NDArray[np.uint16]
) -> None:
    """The frames before the first loss are there with `partial`, and only those."""
    compress(recording, tmp_path / "a.zarr", sensitivity=KNOWN, chunks=(10, 32, 48))
    chunks = sorted(path for path in (tmp_path / "a.zarr" / "c").rglob("*") if path.is_file())
    chunks[1].unlink()
    with pytest.raises(ValueError, match="lacks 1 of 3 chunks"):
        open_movie(tmp_path / "a.zarr")
    with open_movie(tmp_path / "a.zarr", partial=True) as movie:
        assert len(movie) == 10
        assert "holds 10 frames of 30" in movie.metadata["partial"][0]


# --- names of axes, scales and units ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "dims", [("y", "x", "time"), ("x", "time", "y"), ("frame", "row", "col"), ("a", "b", "t")]
)
@pytest.mark.parametrize("kind", ["numpy", "dask"])
def test_named_axes_are_obeyed_by_the_calibration(
    dims: tuple[str, str, str], kind: str, recording: NDArray[np.uint16]
) -> None:
    """A movie that names its axes in another order has the gain of the ordered one."""
    xarray = pytest.importorskip("xarray")
    letter = {"y": 1, "row": 1, "a": 1, "x": 2, "col": 2, "b": 2, "time": 0, "frame": 0, "t": 0}
    values: Any = recording.transpose([letter[name] for name in dims])
    if kind == "dask":
        values = pytest.importorskip("dask.array").from_array(values)
    found = compute_sensitivity(xarray.DataArray(values, dims=dims), on_refusal="return")
    expected = compute_sensitivity(recording, on_refusal="return")
    assert found.conversion_gain == pytest.approx(expected.conversion_gain, rel=1e-9)
    assert found.verdict == expected.verdict


def test_names_of_axes_that_leave_a_choice_are_asked_about(recording: NDArray[np.uint16]) -> None:
    """A plane axis is no time, and an axis that is called otherwise is not taken for it."""
    xarray = pytest.importorskip("xarray")
    with pytest.raises(ValueError, match="planes of one image"):
        compute_sensitivity(xarray.DataArray(recording, dims=("z", "y", "x")))
    with pytest.raises(ValueError, match="axis=1 is not the time"):
        compute_sensitivity(xarray.DataArray(recording, dims=("time", "y", "x")), axis=1)


def test_zarr_names_of_axes_are_obeyed_by_the_calibration(
    tmp_path: Path, recording: NDArray[np.uint16]
) -> None:
    """Dimension names of Zarr V3 and labels of HDF5 count as those of xarray do."""
    if not ZARR_3:
        pytest.skip("needs zarr-python 3")
    turned = np.ascontiguousarray(recording.transpose(1, 2, 0))
    array = zarr.create_array(tmp_path / "a.zarr", data=turned, dimension_names=("y", "x", "time"))
    expected = compute_sensitivity(recording, on_refusal="return").conversion_gain
    assert compute_sensitivity(array, on_refusal="return").conversion_gain == pytest.approx(expected)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("movie", data=turned)
        for dimension, name in zip(dataset.dims, ("y", "x", "time"), strict=True):
            dimension.label = name
        found = compute_sensitivity(dataset, on_refusal="return").conversion_gain
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["zarr 2", "zarr 3", "hdf5", "xarray"])
def test_scale_and_offset_of_packed_integers_are_kept(
    kind: str, tmp_path: Path, recording: NDArray[np.uint16]
) -> None:
    """The integers are stored as they are, with the attributes by which xarray unpacks them."""
    told = {"scale_factor": 0.5, "add_offset": -50.0}
    source: Any = tmp_path / f"in.{kind[:4]}"
    if kind == "hdf5":
        source = tmp_path / "in.h5"
        with h5py.File(source, "w") as file:
            file["movie"] = recording
            file["movie"].attrs.update(told)
    elif kind == "xarray":
        source = pytest.importorskip("xarray").DataArray(recording, dims=("time", "y", "x"), attrs=told)
    else:
        if not ZARR_3:
            pytest.skip("needs zarr-python 3")
        array = zarr.create_array(
            source, shape=recording.shape, dtype="uint16", chunks=(10, 32, 48), zarr_format=int(kind[-1])
        )
        array[:] = recording
        array.attrs.update(told)
    compress(source, tmp_path / "a.zarr", sensitivity=KNOWN)
    stored = zarr.open_array(tmp_path / "a.zarr", mode="r")
    assert {name: stored.attrs[name] for name in told} == told
    decompress(tmp_path / "a.zarr", tmp_path / "back.h5")
    with h5py.File(tmp_path / "back.h5") as file:
        assert {name: float(file["movie"].attrs[name]) for name in told} == told


def packed_source(kind: str, folder: Path, values: NDArray[Any], told: dict[str, Any]) -> Any:
    """Values with attributes of the CF conventions, as programs write them."""
    xarray = pytest.importorskip("xarray")
    array = xarray.DataArray(values, dims=("time", "y", "x"), name="movie", attrs=told)
    if kind == "xarray":
        return array
    if kind == "dask":
        pytest.importorskip("dask")
        return array.chunk(time=3)
    if kind == "hdf5":
        with h5py.File(folder / "in.h5", "w") as file:
            file["movie"] = values
            file["movie"].attrs.update(
                {
                    name: value if isinstance(value, str) else np.atleast_1d(value)
                    for name, value in told.items()
                }
            )
        return folder / "in.h5"
    if not ZARR_3:
        pytest.skip("needs zarr-python 3")
    array.to_dataset().to_zarr(folder / "in.zarr", zarr_format=int(kind[-1]), consolidated=False)
    return f"{folder}/in.zarr::movie"


@pytest.mark.parametrize("kind", ["zarr 2", "zarr 3", "hdf5", "xarray", "dask"])
def test_integers_that_are_declared_unsigned_are(kind: str, tmp_path: Path) -> None:
    """`_Unsigned` makes the upper half of signed integers the large values that they were."""
    values = np.arange(60000, 60000 + 5 * 6 * 7, dtype=np.uint16).reshape(5, 6, 7)
    source = packed_source(kind, tmp_path, values.view(np.int16), {"_Unsigned": "true"})
    with open_movie(source) as movie:
        assert movie.dtype == np.uint16
        np.testing.assert_array_equal(movie[:], values)
        np.testing.assert_array_equal(movie.to_dask(2).compute(), values)


@pytest.mark.parametrize("kind", ["zarr 2", "zarr 3", "hdf5", "xarray", "dask"])
@pytest.mark.parametrize("unsigned", [False, True])
def test_values_that_mean_nothing_was_measured_are_not_made_ordinary(
    kind: str, unsigned: bool, tmp_path: Path
) -> None:
    """An integer that `_FillValue` declares missing is refused, but only where it stands in the movie."""
    values = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)
    told: dict[str, Any] = {"_FillValue": np.int16(-1)} | ({"_Unsigned": "true"} if unsigned else {})
    values[3, 2, 1] = -1
    with open_movie(packed_source(kind, tmp_path, values, told)) as movie:
        np.testing.assert_array_equal(movie[:3], values[:3])
        with pytest.raises(ValueError, match=r"that nothing was measured.*xarray\.open_dataset"):
            movie[3]


@pytest.mark.parametrize("kind", ["zarr 2", "zarr 3", "hdf5", "xarray", "dask"])
def test_missing_values_of_floats_are_nan(kind: str, tmp_path: Path) -> None:
    """Floats have a value for what was not measured, which the codec keeps."""
    values = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)
    holed = values.copy()
    holed[3, 2, 1] = 9.96921e36
    with open_movie(packed_source(kind, tmp_path, holed, {"_FillValue": np.float32(9.96921e36)})) as movie:
        expected = values.copy()
        expected[3, 2, 1] = np.nan
        np.testing.assert_array_equal(movie[:], expected)


@pytest.mark.parametrize("name", ["back.tif", "back.ome.tif", "back.btf", "back.h5", "back.raw"])
@pytest.mark.parametrize("dtype", ["uint16", "int16"])
def test_pixel_size_and_frame_time_come_back(
    name: str, dtype: str, tmp_path: Path, recording: NDArray[np.uint16]
) -> None:
    """What the source says of its pixels and frames is in the array, and in the file that is made of it."""
    source = tmp_path / "a.ome.tif"
    write_ome_tiff(source, recording.astype(dtype))
    with open_movie(source, channel=1) as movie:
        compress(movie, tmp_path / "a.zarr", sensitivity=KNOWN)
    decompress(tmp_path / "a.zarr", tmp_path / name)
    opened = [tmp_path / "a.zarr"] if name == "back.raw" else [tmp_path / "a.zarr", tmp_path / name]
    for path in opened:
        with open_movie(path) as movie:
            assert movie.metadata["frame_rate"] == pytest.approx(20)
            assert movie.metadata["pixel_size"] == pytest.approx({"y": 0.5, "x": 0.25})
            assert movie.shape == recording.shape
    if name == "back.ome.tif":
        with tifffile.TiffFile(tmp_path / name) as tiff:
            assert 'PhysicalSizeX="0.25"' in tiff.ome_metadata
            assert 'TimeIncrement="0.05"' in tiff.ome_metadata


@pytest.mark.parametrize("kind", ["tiff pages", "hdf5", "npy", "npz", "fits"])
@pytest.mark.parametrize("name", ["a.dat", "a.h5", "a.tif", "a.lsm", "a"])
def test_a_file_is_what_its_first_bytes_say(
    kind: str, name: str, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """A name that lies, or says nothing, keeps no file from opening."""
    (tmp_path / "named").mkdir()
    source, _ = write_movie(kind, tmp_path / "named", frames)
    path = Path(source).rename(tmp_path / name)
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie[:], frames)


def test_old_formats_behind_a_known_suffix_are_named(tmp_path: Path) -> None:
    """NetCDF 3 and MATLAB files before 7.3 are no HDF5, and the error says what loads them."""
    (tmp_path / "a.nc").write_bytes(b"CDF\x01" + bytes(100))
    (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0 MAT-file".ljust(200))
    for name in ("a.nc", "a.mat"):
        with pytest.raises(ValueError, match=r"scipy\.io"):
            open_movie(tmp_path / name)


def test_raw_values_may_begin_with_any_bytes(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """A type of values that is given goes before what the first bytes look like."""
    frames[0, 0, :2] = np.frombuffer(b"II*\0", np.int16)
    (tmp_path / "a.raw").write_bytes(frames.tobytes())
    with open_movie(tmp_path / "a.raw", shape=SHAPE, dtype="i2") as movie:
        np.testing.assert_array_equal(movie[:], frames)
