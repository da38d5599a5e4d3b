"""What each kind of source tells, what must be chosen, and what is refused."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from movie_files import (
    KINDS,
    ZARR_3,
    h5py,
    tifffile,
    with_other_channel,
    write_folder,
    write_movie,
    write_nwb,
    write_ome_tiff,
    write_ome_zarr,
    write_pages,
    write_raw,
    write_scanimage,
    write_stacks,
    write_suite2p,
    write_tiff,
    write_zarr,
    zarr,
)
from numpy.typing import NDArray

from anscombe_transform.movies import IncompleteRecordingError, open_movie
from anscombe_transform.movies.readers.sequence import natural_order

SHAPE = (12, 40, 56)
RECORDINGS = Path(__file__).parent / "data" / "recordings"


# --- every kind ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_are_json_and_the_axes_are_named(
    kind: str, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """Every source tells its format in types of JSON, and where time, y and x lie."""
    source, options = write_movie(kind, tmp_path, frames)
    with open_movie(source, **options) as movie:
        assert json.loads(json.dumps(movie.metadata, allow_nan=False)) == movie.metadata
        assert movie.metadata["format"]
        assert (movie.axes["t"], movie.axes["y"], movie.axes["x"]) == SHAPE
        assert movie.channels == (2 if "channel" in options else movie.axes.get("c", 1))


@pytest.mark.parametrize("kind", ["tiff zlib", "tiff stacks", "hdf5", "zarr 2", "raw", "ome-tiff channels"])
def test_a_movie_travels_to_another_process(kind: str, tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """A pickled movie is opened again from its source with the same options."""
    source, options = write_movie(kind, tmp_path, frames)
    with open_movie(source, **options) as movie, pickle.loads(pickle.dumps(movie)) as other:
        movie.close()
        np.testing.assert_array_equal(other[3:5], frames[3:5])


def test_a_movie_becomes_a_dask_array(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Blocks are whole frames; a dask array behind the movie keeps its own."""
    dask_array = pytest.importorskip("dask.array")
    source, options = write_movie("tiff zlib", tmp_path, frames)
    with open_movie(source, **options) as movie:
        lazy = movie.to_dask(5)
        assert lazy.chunks == ((5, 5, 2), (40,), (56,))
        assert lazy.dtype == np.int16
        np.testing.assert_array_equal(lazy.compute(), frames)
        assert movie.to_dask().numblocks == (1, 1, 1)
        with pytest.raises(ValueError, match="frames_per_block must be at least 1"):
            movie.to_dask(0)
    array = dask_array.from_array(with_other_channel(frames), chunks=(4, 1, 20, 56))
    movie = open_movie(array, axes="tcyx", channel=1)
    assert movie.chunk_frames == 4
    assert movie.to_dask().chunks == ((4, 4, 4), (20, 20), (56,))
    np.testing.assert_array_equal(movie.to_dask(6).compute(), frames)


def test_frames_that_are_stored_together_are_told(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Zarr and HDF5 chunks along time are known to whoever reads in blocks."""
    for kind, expected in (("zarr 2", 5), ("hdf5 compressed", 5), ("hdf5", 1), ("tiff pages", 1)):
        folder = tmp_path / kind.replace(" ", "_")
        folder.mkdir()
        source, options = write_movie(kind, folder, frames)
        with open_movie(source, **options) as movie:
            assert movie.chunk_frames == expected, kind


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.avi", r"video .*no longer linear"),
        ("a.MP4", r"video .*no longer linear"),
        ("a.mov", r"video .*no longer linear"),
        ("a.png", "is a picture"),
        ("a.dcimg", "export it as TIFF from HCImage"),
        ("a.oir", r"bioio may read it: pip install bioio and its plug-in for \.oir"),
    ],
)
def test_what_is_not_linear_or_not_ours_is_refused_with_the_reason(
    name: str, message: str, tmp_path: Path
) -> None:
    """Videos and pictures are no measurement; formats without a reader have a way out."""
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(ValueError, match=message):
        open_movie(tmp_path / name)


@pytest.mark.parametrize("kind", ["tif", "h5", "zarr"])
@pytest.mark.parametrize("dtype", [bool, complex])
def test_values_without_noise_are_refused(kind: str, dtype: type, tmp_path: Path) -> None:
    """Masks and complex values are no movie, whatever file they lie in."""
    path = tmp_path / f"a.{kind}"
    values = np.zeros((4, 8, 8), dtype)
    if kind == "tif":
        tifffile.imwrite(path, values, photometric="minisblack")
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["movie"] = values
    else:
        write_zarr(path, values, 2)
    with pytest.raises(ValueError, match=r"a movie holds integers or floats|holds no dataset"):
        open_movie(path)


# --- axes ------------------------------------------------------------------------------------------------


def test_xarray_dimensions_are_found_by_name(frames: NDArray[np.int16]) -> None:
    """The order of named dimensions doesn't matter; a Dataset must be asked for a variable."""
    xarray = pytest.importorskip("xarray")
    for dims in (("y", "x", "time"), ("row", "column", "frame"), ("height", "t", "width")):
        order = [{"t": 0, "f": 0, "y": 1, "r": 1, "h": 1, "x": 2, "c": 2, "w": 2}[name[0]] for name in dims]
        movie = open_movie(xarray.DataArray(frames.transpose(order), dims=dims))
        np.testing.assert_array_equal(movie[:], frames)
    four = xarray.DataArray(with_other_channel(frames), dims=("time", "channel", "y", "x"), name="movie")
    with pytest.raises(ValueError, match="channel=0 to 1"):
        open_movie(four)
    np.testing.assert_array_equal(open_movie(four, channel=1)[:], frames)
    with pytest.raises(TypeError, match=r'pass one of its variables, for instance dataset\["movie"\]'):
        open_movie(four.to_dataset())


def test_axes_of_length_one_need_no_choice(frames: NDArray[np.int16]) -> None:
    """A channel and a plane that are alone are taken."""
    np.testing.assert_array_equal(open_movie(frames[:, None, None])[:], frames)
    movie = open_movie(frames[:, None], axes="tcyx", channel=0)
    np.testing.assert_array_equal(movie[:], frames)
    assert movie.channels == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, r'4 axes.*axes="tcyx", channel=0'),
        ({"axes": "tcyx"}, ValueError, "Choose channel=0 to 1"),
        ({"axes": "tzyx"}, ValueError, "Choose plane=0 to 1"),
        ({"axes": "tcyx", "channel": 2}, ValueError, "channel=2 is out of range: .* has 2"),
        ({"axes": "tcyx", "channel": -1}, ValueError, "channel=-1 is out of range"),
        ({"axes": "tcyx", "channel": True}, TypeError, "whole number"),
        ({"axes": "tcyx", "channel": "red"}, ValueError, "no names of channels"),
        ({"axes": "tcyx", "channel": 0, "plane": 1}, ValueError, "plane=1 is out of range: .* has 1"),
        ({"axes": "tyx"}, ValueError, "names 3 axes, but numpy.ndarray has 4"),
        ({"axes": "tcyy"}, ValueError, "y and x once each"),
        ({"axes": "ttyx"}, ValueError, "names t twice"),
        ({"axes": "t,yx"}, ValueError, "letters"),
        ({"axes": ("time", "colour", "y", "x")}, ValueError, "unknown name 'colour'"),
        ({"shape": (1, 2, 3)}, ValueError, "shape=.* means nothing for numpy.ndarray"),
    ],
)
def test_a_choice_that_is_missing_or_wrong_names_the_option(
    options: dict, error: type[Exception], message: str, frames: NDArray[np.int16]
) -> None:
    """The error names the option, its range and what the source has."""
    with pytest.raises(error, match=message):
        open_movie(with_other_channel(frames), **options)


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("ome-tiff channels", "channel=green"),
        ("ome-zarr 0.4", "channel=1"),
        ("hdf5 channels", "/acquisition/movie,axes=tcyx,channel=1"),
        ("tiff interleaved", "shape=-1x2x40x56,axes=tcyx,channel=1"),
        ("raw big-endian", "shape=-1x40x56, dtype=>i2, offset=100"),
        ("tiff volume", "axes=tyx"),
        ("scanimage volumes", "channel=1,plane=0"),
    ],
)
def test_options_can_stand_in_the_name(
    kind: str, written: str, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """Where there is only a name to give, as on a command line, ``::`` takes the options too."""
    source, _ = write_movie(kind, tmp_path, frames)
    with open_movie(f"{source}::{written}") as movie:
        np.testing.assert_array_equal(movie[:], frames)
    with pytest.raises(ValueError, match="cannot understand 'plane=first' after ::"):
        open_movie(f"{source}::plane=first")
    with pytest.raises(ValueError, match="plane is given twice"):
        open_movie(f"{source}::plane=0", plane=0)


def test_arrays_in_a_list_are_joined_by_the_caller(frames: NDArray[np.int16]) -> None:
    """A list may be frames or parts, so it is refused with both ways out."""
    with pytest.raises(TypeError, match=r"numpy\.stack\(arrays\).*numpy\.concatenate\(arrays\)"):
        open_movie([frames, frames])


# --- TIFF ------------------------------------------------------------------------------------------------


def test_an_ome_tiff_tells_channels_sizes_and_rate(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Names of channels choose; sizes are micrometres and rates hertz, whatever units the file has."""
    path = write_ome_tiff(tmp_path / "a.ome.tif", frames)
    with open_movie(path, channel="green") as movie:
        told = movie.metadata
        assert (movie.channel, movie.channels) == (1, 2)
        assert told["frame_rate"] == pytest.approx(20)
        assert told["pixel_size"] == {"y": 0.5, "x": 0.25}
        assert told["channel_names"] == ["red", "green"]
        assert told["format"] == "OME-TIFF"
    with pytest.raises(ValueError, match=r'channel=0 to 1 \(red, green\) .*a\.ome\.tif::channel=0"'):
        open_movie(path)
    with pytest.raises(ValueError, match=r"'blue' is not in .* the channels red, green"):
        open_movie(path, channel="blue")


def test_planes_are_chosen_or_called_frames(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """A stack of planes is no movie unless the caller says so; ImageJ's plain stacks have no such meaning."""
    counts = np.abs(frames).astype(np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, counts, imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(ValueError, match=r'planes of one image.*axes="tyx"'):
        open_movie(path)
    with open_movie(path, axes="tyx") as movie:
        np.testing.assert_array_equal(movie[:], counts)
    tifffile.imwrite(path, counts, imagej=True, metadata={"axes": "ZYX", "hyperstack": False})
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie[:], counts)
    volumes = counts.reshape(4, 3, 40, 56)
    tifffile.imwrite(path, volumes, imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(ValueError, match="Choose plane=0 to 2"):
        open_movie(path)
    with open_movie(path, plane=2) as movie:
        np.testing.assert_array_equal(movie[:], volumes[:, 2])
        assert movie.plane == 2


def test_images_that_a_file_does_not_explain_are_counted_as_told(
    tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """``shape`` and ``axes`` split interleaved images; what doesn't divide is an error."""
    path = write_pages(tmp_path / "a.tif", frames)
    with open_movie(path, shape=(-1, 3, 40, 56), axes="tcyx", channel=2) as movie:
        np.testing.assert_array_equal(movie[:], frames[2::3])
    for shape, message in (
        ((-1, 5, 40, 56), "holds 12 images, which shape=.* does not divide"),
        ((-1, 3, 56, 40), r"have shape \(40, 56\)"),
        ((-1, -1, 40, 56), "one of them may be -1"),
    ):
        with pytest.raises(ValueError, match=message):
            open_movie(path, shape=shape, axes="tcyx", channel=0)
    with pytest.raises(ValueError, match="needs axes"):
        open_movie(path, shape=(4, 3, 40, 56))


def test_images_in_three_planes_of_samples_are_frames_unless_colour(tmp_path: Path) -> None:
    """Tifffile calls three images colours if nobody told it; 8-bit ones may be colours indeed."""
    for dtype, ok in ((np.uint16, True), (np.uint8, False)):
        path = tmp_path / "a.tif"
        values = np.arange(3 * 20 * 30).reshape(3, 20, 30).astype(dtype)
        tifffile.imwrite(path, values, photometric="rgb", planarconfig="separate")
        if ok:
            with open_movie(path) as movie:
                np.testing.assert_array_equal(movie[:], values)
        else:
            with pytest.raises(ValueError, match="colour or interleaved samples"):
                open_movie(path)


def test_scanimage_headers_tell_the_interleaving(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Channels, rate, time and gains come from the header; names of channels are those that were saved."""
    path = write_scanimage(tmp_path / "a.tif", with_other_channel(frames), SI__hPmts__gains="[0.65 0.7]")
    with pytest.raises(ValueError, match=r"channel=0 to 1 \(GCaMP, tdTomato\)"):
        open_movie(path)
    with open_movie(path, channel=1) as movie:
        np.testing.assert_array_equal(movie[:], frames)
        assert movie.metadata["format"] == "TIFF (ScanImage) (BigTIFF)"
        assert movie.metadata["frame_rate"] == 30.5
        assert movie.metadata["acquired"] == "2024-05-17T13:07:42.250"
        assert movie.metadata["scanimage"]["hPmts.gains"] == [0.65, 0.7]
        assert movie.metadata["scanimage"]["hScan2D.logAverageFactor"] == 1


def test_scanimage_volumes_may_stop_in_the_middle(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Every image of a plane is a frame of it, those of a last volume that was not finished too."""
    settings = {"SI__hChannels__channelSave": "1", "SI__hFastZ__enable": "true"}
    settings["SI__hFastZ__numFramesPerVolume"] = "5"
    path = write_scanimage(tmp_path / "a.tif", frames, **settings)
    for plane, count in ((0, 3), (1, 3), (2, 2), (4, 2)):
        with open_movie(path, plane=plane) as movie:
            assert len(movie) == count
            np.testing.assert_array_equal(movie[:], frames[plane::5])
            assert movie.metadata["frame_rate"] == 7.625
    slow = {"SI__hChannels__channelSave": "1", "SI__hStackManager__numSlices": "3"}
    path = write_scanimage(tmp_path / "b.tif", frames, **slow, SI__hStackManager__framesPerSlice="4")
    with open_movie(path, plane=1) as movie:
        np.testing.assert_array_equal(movie[:], frames[4:8])


def test_scanimage_channels_that_are_incomplete_are_an_error(
    tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """An odd number of images of two channels is a file cut short."""
    path = write_scanimage(tmp_path / "a.tif", frames[:11])
    with pytest.raises(ValueError, match="11 images of 2 interleaved channels, so the last frame"):
        open_movie(path, channel=0)


# --- sequences -------------------------------------------------------------------------------------------


def test_natural_order_counts() -> None:
    """Numbers in names are compared by value."""
    names = ["frame10.tif", "frame9.tif", "frame1.tif", "frame010b.tif"]
    assert [file.name for file in natural_order([Path(name) for name in names])] == [
        "frame1.tif",
        "frame9.tif",
        "frame10.tif",
        "frame010b.tif",
    ]


def test_a_missing_file_of_a_sequence_is_named(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """A gap in the numbers is an error; the list of files is the way to say that it is right."""
    folder = write_folder(tmp_path / "frames", frames)
    (folder / "frame12.tif").unlink()
    with pytest.raises(ValueError, match=r"misses number 12: after frame11\.tif comes number 13"):
        open_movie(folder)
    kept = natural_order(list(folder.glob("frame*.tif")))
    with open_movie(kept) as movie:
        np.testing.assert_array_equal(movie[:], np.delete(frames, 4, axis=0))
    with pytest.raises(FileNotFoundError, match=r"frame12\.tif"):
        open_movie([*kept, folder / "frame12.tif"])
    with pytest.raises(FileNotFoundError, match="no file matches"):
        open_movie(f"{folder}/image*.tif")


def test_files_that_do_not_agree_are_named(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Another shape, another type, another channel count or a damaged file is an error with its name."""
    for number, bad in enumerate((frames[0][:20], frames[0].astype(np.uint8), b"rubbish")):
        folder = write_folder(tmp_path / f"frames{number}", frames)
        if isinstance(bad, bytes):
            (folder / "frame10.tif").write_bytes(bad)
        else:
            write_tiff(folder / "frame10.tif", bad)
        with pytest.raises(ValueError, match=r"frame10\.tif"):
            open_movie(folder)


def test_names_that_are_no_sequence_are_refused(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Two kinds of names, or two numbers that vary, leave the order of time open."""
    folder = write_folder(tmp_path / "frames", frames)
    write_tiff(folder / "dark.tif", frames[0])
    with pytest.raises(ValueError, match=r"not one sequence, for instance dark\.tif and frame8\.tif"):
        open_movie(folder)
    with open_movie(f"{folder}/frame*.tif") as movie:
        np.testing.assert_array_equal(movie[:], frames)
    for channel in (1, 2):
        for number in (1, 2):
            write_tiff(tmp_path / f"C{channel}_T{number}.tif", frames[0])
    with pytest.raises(ValueError, match="differ in 2 numbers"):
        open_movie(f"{tmp_path}/C*.tif")
    with open_movie(f"{tmp_path}/C1_T*.tif") as movie:
        assert movie.shape == (2, 40, 56)


def write_ome_set(folder: Path, frames: NDArray[np.int16]) -> None:
    """An OME-TIFF whose frames lie in two files, each of which describes both."""
    folder.mkdir()
    half = len(frames) // 2
    ids = [f"urn:uuid:00000000-0000-0000-0000-00000000000{n}" for n in range(2)]
    places = "".join(
        f'<TiffData IFD="{t % half}" FirstT="{t}" PlaneCount="1"><UUID FileName="a_{t // half}.ome.tif">'
        f"{ids[t // half]}</UUID></TiffData>"
        for t in range(len(frames))
    )
    size = f'SizeX="{frames.shape[2]}" SizeY="{frames.shape[1]}" SizeT="{len(frames)}"'
    for number in range(2):
        text = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{ids[number]}">'
            f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="int16" {size} SizeC="1" '
            f'SizeZ="1"><Channel ID="Channel:0:0"/>{places}</Pixels></Image></OME>'
        )
        with tifffile.TiffWriter(folder / f"a_{number}.ome.tif") as writer:
            for n, frame in enumerate(frames[number * half : (number + 1) * half]):
                writer.write(frame, contiguous=False, metadata=None, description=None if n else text)


def test_files_of_one_ome_tiff_are_one_movie(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Any file of the set gives all of it, and so does the folder; a lost file is an error."""
    write_ome_set(tmp_path / "set", frames)
    for number in range(2):
        with open_movie(tmp_path / "set" / f"a_{number}.ome.tif") as movie:
            np.testing.assert_array_equal(movie[:], frames)
    with open_movie(tmp_path / "set") as movie:
        np.testing.assert_array_equal(movie[:], frames)
    (tmp_path / "set" / "a_1.ome.tif").unlink()
    with pytest.raises(ValueError, match=r"a_0\.ome\.tif misses frame 6: a file .* is absent"):
        open_movie(tmp_path / "set" / "a_0.ome.tif")


def test_a_truncated_file_of_a_sequence_is_named(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """A stack in the middle that was cut short is found on opening."""
    folder = write_stacks(tmp_path / "run", frames)
    path = folder / "run_2024_00002.tif"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"run_2024_00002\.tif"):
        open_movie(folder)


def test_a_sequence_is_read_by_many_threads_with_few_open_files(
    tmp_path: Path, frames: NDArray[np.int16], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are closed again when others are needed, but not under another thread."""
    from concurrent.futures import ThreadPoolExecutor

    from anscombe_transform.movies.readers import sequence

    monkeypatch.setattr(sequence, "_MOST_OPEN", 2)
    with open_movie(write_folder(tmp_path / "frames", frames)) as movie, ThreadPoolExecutor(6) as pool:
        wanted = list(range(len(frames))) * 6
        for number, frame in zip(wanted, pool.map(movie.__getitem__, wanted), strict=True):
            np.testing.assert_array_equal(frame, frames[number])


# --- NWB -------------------------------------------------------------------------------------------------


def test_nwb_tells_what_it_knows(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Rate, sizes, indicator and date come from the session; the frames are turned to (time, y, x)."""
    path = write_nwb(tmp_path / "a.nwb", frames)
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie[:], frames)
        assert list(movie.axes) == ["t", "x", "y"]
        assert movie.metadata["frame_rate"] == 30
        assert movie.metadata["pixel_size"] == {"y": 2.0, "x": 1.5}
        assert movie.metadata["acquired"].startswith("2024-05-17T13:07:00")
        assert movie.metadata["nwb"]["indicator"] == "GCaMP6f"
    for name in ("TwoPhotonSeries", "/acquisition/TwoPhotonSeries", "/acquisition/TwoPhotonSeries/data"):
        with open_movie(f"{path}::{name}") as movie:
            np.testing.assert_array_equal(movie[2], frames[2])
    with pytest.raises(ValueError, match=r"no series of images 'other'; it holds /acquis"):
        open_movie(path, dataset="other")


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (np.arange(9) / 20, r"data has 12 frames, but its timestamps are 9"),
        (
            np.r_[np.arange(9), 0, 0, 0] / 20,
            r"not in the order of time: frame 8 is of 0\.4 s, frame 9 of 0 s",
        ),
        (np.r_[np.arange(9) / 20, [np.nan] * 3], r"not in the order of time"),
    ],
)
def test_frames_of_nwb_that_were_never_taken_have_no_time(
    times: NDArray[np.float64], message: str, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """A dataset that was made too long is known by its timestamps; the rate comes from them as well."""
    h5py = pytest.importorskip("h5py")
    path = write_nwb(tmp_path / "a.nwb", frames[:12])
    place = "/acquisition/TwoPhotonSeries"
    with h5py.File(path, "r+") as file:
        del file[f"{place}/starting_time"]
        file[f"{place}/timestamps"] = np.arange(12) / 20
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie[:], frames[:12])
    with h5py.File(path, "r+") as file:
        del file[f"{place}/timestamps"]
        file[f"{place}/timestamps"] = times
    with pytest.raises(IncompleteRecordingError, match=message):
        open_movie(path)
    with open_movie(path, partial=True) as movie:
        np.testing.assert_array_equal(movie[:], frames[: len(times)])


def test_an_nwb_file_that_contradicts_itself_must_be_explained(
    tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """Frames stored (time, y, x) against the standard are found by the field that counts pixels."""
    turned = frames.transpose(0, 2, 1)  # stored (time, y, x)
    path = write_nwb(tmp_path / "a.nwb", turned, dimension=[56, 40])
    with pytest.raises(ValueError, match=r'dimension says 56 × 40 .* stored 40 × 56.*axes="tyx"'):
        open_movie(path)
    with open_movie(path, axes="tyx") as movie:
        np.testing.assert_array_equal(movie[:], frames)
    with open_movie(path, axes="txy") as movie:
        np.testing.assert_array_equal(movie[:], turned)


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_nwb_in_zarr_is_read(version: str, tmp_path: Path) -> None:
    """What hdmf-zarr writes in either format of Zarr opens with zarr alone."""
    if version == "v3" and not ZARR_3:
        pytest.skip("zarr-python 2 doesn't know Zarr format 3")
    with zipfile.ZipFile(RECORDINGS / f"nwb-zarr-{version}.zip") as archive:
        archive.extractall(tmp_path / "a.nwb.zarr")
    with open_movie(tmp_path / "a.nwb.zarr") as movie:
        np.testing.assert_array_equal(movie[:], np.arange(6 * 8 * 10).reshape(6, 8, 10) * 7 % 1000 - 100)
        assert movie.metadata["frame_rate"] == 30
        assert movie.metadata["pixel_size"] == {"y": 2.0, "x": 1.5}


# --- Zarr ------------------------------------------------------------------------------------------------


def test_an_array_that_this_zarr_does_not_know_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """zarr-python 2 finds nothing in a folder of format 3; the error says which version reads it."""
    (tmp_path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array"}')
    monkeypatch.setattr("zarr.__version__", "2.18.7")
    with pytest.raises(ImportError, match=r"format 3, which needs zarr-python >= 3\.1\.1, and this is 2\.18"):
        open_movie(tmp_path)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_takes_the_full_resolution(version: str, tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Level 0 is the movie; axes, channels and scales come from the metadata."""
    if version == "0.5" and not ZARR_3:
        pytest.skip("zarr-python 2 doesn't know Zarr format 3")
    path = write_ome_zarr(tmp_path / "a.zarr", frames, version)
    with pytest.raises(ValueError, match=r"channel=0 to 1 \(red, green\)"):
        open_movie(path)
    with open_movie(path, channel="green") as movie:
        np.testing.assert_array_equal(movie[:], frames)
        assert movie.metadata["format"] == f"OME-Zarr {version}"
        assert movie.metadata["frame_rate"] == pytest.approx(20)
        assert movie.metadata["pixel_size"] == {"y": 0.5, "x": 0.25}
        assert movie.chunk_frames == 4
    with open_movie(f"{path}::1", axes="tczyx", channel=1) as movie:
        np.testing.assert_array_equal(movie[:], frames[:, ::2, ::2])


def test_an_image_of_a_collection_is_chosen(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Several OME-Zarr images under one group are told apart by the option series."""
    zarr.open_group(str(tmp_path / "a.zarr"), mode="w", **({"zarr_format": 2} if ZARR_3 else {}))
    for name in ("0", "1"):
        write_ome_zarr(tmp_path / "a.zarr" / name, frames if name == "1" else frames[::-1], "0.4")
    with pytest.raises(ValueError, match=r'holds 2 images: 0 .*Say which: series="0"'):
        open_movie(tmp_path / "a.zarr", channel=1)
    with open_movie(tmp_path / "a.zarr", series=1, channel=1) as movie:
        np.testing.assert_array_equal(movie[:], frames)


def test_stores_and_groups_of_zarr_are_sources(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """What zarr has open needs no path, and stays open."""
    write_zarr(tmp_path / "a.zarr" / "movie", frames, 2)
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="a", **({"zarr_format": 2} if ZARR_3 else {}))
    with open_movie(group) as movie:
        np.testing.assert_array_equal(movie[:], frames)
    if ZARR_3:
        with open_movie(zarr.storage.LocalStore(tmp_path / "a.zarr")) as movie:
            np.testing.assert_array_equal(movie[:], frames)


# --- raw, FITS -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"give shape and dtype, for instance shape=\(-1, 512, 512\)"),
        ({"shape": (12, 40, 56)}, "give dtype"),
        ({"shape": (-1, 40, 55), "dtype": "i2"}, "it is cut short, or shape, dtype or offset are others"),
        ({"shape": (13, 40, 56), "dtype": "i2"}, "is cut short"),
        ({"shape": (11, 40, 56), "dtype": "i2"}, "is longer than that"),
        ({"shape": (0, 40, 56), "dtype": "i2"}, "lengths of at least 1"),
        ({"shape": (-1, 40, 56), "dtype": "c8"}, "a movie holds integers or floats"),
        ({"shape": (-1, 40, 56), "dtype": "i2", "offset": -1}, "offset must be 0 to"),
    ],
)
def test_raw_values_must_be_described_exactly(
    options: dict, message: str, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """A description that doesn't fill the file is an error: a wrong width would shear every frame."""
    path = write_raw(tmp_path / "a.raw", frames)
    with pytest.raises(ValueError, match=message):
        open_movie(path, **options)


def test_raw_values_with_channels(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """The number of frames follows from the size."""
    path = write_raw(tmp_path / "a.raw", with_other_channel(frames))
    with open_movie(path, shape=(-1, 2, 40, 56), dtype="i2", axes="tcyx", channel=1) as movie:
        np.testing.assert_array_equal(movie[:], frames)


def test_settings_of_suite2p_run_nothing(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """``ops.npy`` is a pickle; what it would call is not called, and the sizes are read all the same."""

    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    path = write_suite2p(tmp_path, frames)
    settings = {"Ly": 40, "Lx": 56, "nframes": 12, "fs": 30.0, "trap": Trap()}
    np.save(tmp_path / "ops.npy", settings, allow_pickle=True)
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie[:], frames)
        assert movie.metadata["frame_rate"] == 30
    assert not (tmp_path / "sprung").exists()
    np.save(tmp_path / "ops.npy", settings | {"nframes": 13}, allow_pickle=True)
    with pytest.raises(ValueError, match="is cut short"):
        open_movie(path)


def test_fits_scaling_and_single_frames(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """uint16 is what astropy makes of it; an image is no movie, and several cubes are listed."""
    fits = pytest.importorskip("astropy.io.fits")
    counts = np.abs(frames).astype(np.uint16) + np.uint16(40000)
    fits.PrimaryHDU(counts).writeto(tmp_path / "a.fits")
    with open_movie(tmp_path / "a.fits") as movie:
        assert movie.dtype == np.uint16
        np.testing.assert_array_equal(movie[2:9:3, 1:5], counts[2:9:3, 1:5])
    fits.PrimaryHDU(counts[0]).writeto(tmp_path / "b.fits")
    with pytest.raises(ValueError, match="single image"):
        open_movie(tmp_path / "b.fits")
    cubes = [fits.PrimaryHDU(), fits.ImageHDU(counts, name="A"), fits.ImageHDU(counts[::-1], name="B")]
    fits.HDUList(cubes).writeto(tmp_path / "c.fits")
    with pytest.raises(ValueError, match=r"holds 2 movies: 1 A .* Say which: series=1"):
        open_movie(tmp_path / "c.fits")
    for series in ("b", 2):
        with open_movie(tmp_path / "c.fits", series=series) as movie:
            np.testing.assert_array_equal(movie[:], counts[::-1])


def test_every_recording_opens_or_says_why(recordings: Path) -> None:
    """Real files of nine instruments are movies, but for one single image and one file that holds two."""
    refused = {"a8280271.fits": "single image", "counts_u8.npz": "holds 2 movies"}
    for path in sorted(recordings.glob("*/*")):
        if path.suffix == ".md":
            continue
        if path.name in refused:
            with pytest.raises(ValueError, match=refused[path.name]):
                open_movie(path)
        else:
            with open_movie(path) as movie:
                assert movie[-1].shape == movie.shape[1:]
