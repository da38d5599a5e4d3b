"""Every format gives the same numbers as numpy, in parts, and what is not a movie is refused."""

from __future__ import annotations

import logging
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from movie_files import (
    FILES,
    KINDS,
    ONE_FILE,
    ZARR_3,
    h5py,
    tifffile,
    write_hdf5,
    write_movie,
    write_npy,
    write_npz,
    write_pages,
    write_single_page_imagej,
    write_tiff,
    write_zarr,
    zarr,
)
from numpy.typing import NDArray

from anscombe_transform.movies import Movie, open_movie

SHAPE = (12, 40, 56)


INDICES = [
    (slice(None),),
    (0,),
    (-1, slice(None), 3),
    (slice(2, 9, 3), slice(None, None, -1), slice(5, 20)),
    (slice(None, None, -1), 4, 5),
    (..., slice(3, 50, 7)),
    (slice(5, 5),),
    (slice(100, None), slice(2, 4)),
    (slice(None), slice(7, 7)),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_gives_the_same_numbers_as_numpy(kind: str, tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Whatever the format and the slice, a movie gives what numpy gives of the array that was written."""
    source, options = write_movie(kind, tmp_path, frames)
    with open_movie(source, **options) as movie:
        assert movie.shape == SHAPE
        assert movie.dtype == np.dtype(np.int16)
        assert movie.dtype.isnative
        assert movie.nbytes == frames.nbytes
        assert str(tmp_path) in movie.source
        for index in INDICES:
            read = movie[index]
            assert type(read) is np.ndarray
            assert read.dtype == np.int16
            np.testing.assert_array_equal(read, frames[index])
        np.testing.assert_array_equal(np.asarray(movie), frames)


def test_a_movie_is_read_in_blocks(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Blocks follow each other without gap or overlap, and the last one is shorter."""
    with open_movie(FILES["tiff pages"](tmp_path, frames)) as movie:
        blocks = list(movie.blocks(5))
        assert [len(block) for block in blocks] == [5, 5, 2]
        np.testing.assert_array_equal(np.concatenate(blocks), frames)
        np.testing.assert_array_equal(movie.frames(3, 7), frames[3:7])
        with pytest.raises(IndexError, match=r"frames 8 to 13 .* 12 frames"):
            movie.frames(8, 13)
        with pytest.raises(ValueError, match="frames_per_block must be at least 1, got 0"):
            list(movie.blocks(0))


@pytest.mark.parametrize("kind", ["numpy", "big-endian", "dask", "xarray", "zarr", "h5py"])
def test_an_array_is_a_movie(kind: str, tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Arrays of the usual libraries are sliced without being loaded whole, and stay open."""
    if kind == "dask":
        array = pytest.importorskip("dask.array").from_array(frames, chunks=(4, 20, 20))
    elif kind == "xarray":
        array = pytest.importorskip("xarray").DataArray(frames, dims=("time", "y", "x"))
    elif kind == "zarr":
        array = zarr.open(str(write_zarr(tmp_path / "a.zarr", frames, 2)), mode="r")
    elif kind == "h5py":
        array = h5py.File(write_hdf5(tmp_path / "a.h5", frames), "r")["acquisition/movie"]
    else:
        array = frames.astype(">i2") if kind == "big-endian" else frames
    with open_movie(array) as movie:
        for index in INDICES:
            read = movie[index]
            assert type(read) is np.ndarray
            assert read.dtype == np.int16
            np.testing.assert_array_equal(read, frames[index])
    np.testing.assert_array_equal(np.asarray(array[3:5]), frames[3:5])


def test_a_movie_of_a_movie_leaves_the_first_one_open(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Whoever opens a movie that was handed to him can close it without closing the owner's file."""
    with open_movie(FILES["hdf5"](tmp_path, frames)) as owner:
        with open_movie(owner) as guest:
            assert guest.source == owner.source
        np.testing.assert_array_equal(owner[2], frames[2])
    with pytest.raises(ValueError, match="has been closed"):
        owner[2]
    assert "closed Movie" in repr(owner)


def test_a_large_file_is_never_loaded_whole(tmp_path: Path) -> None:
    """Reading a TIFF, an npy or a stored npz block by block takes the memory of a block, not of the file."""
    frames = np.zeros((256, 128, 128), np.uint16)
    paths = [
        write_tiff(tmp_path / "a.tif", frames),
        write_pages(tmp_path / "b.tif", frames, compression="zlib"),
        write_npy(tmp_path / "a.npy", frames),
        write_npz(tmp_path / "a.npz", frames),
    ]
    for path in paths:
        tracemalloc.start()
        with open_movie(path) as movie:
            for block in movie.blocks(16):
                del block
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < frames.nbytes // 2, path


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (12, "index 12 is outside axis t of 12"),
        ((0, -41), "index -41 is outside axis y of 40"),
        ((0, 0, 0, 0), "3 axes .* got 4"),
        ((..., 0, ...), "one ellipsis"),
        ([1, 2], "got list"),
        (True, "got bool"),
        (None, "got NoneType"),
    ],
)
def test_an_index_that_means_nothing_is_an_error(
    index: object, message: str, frames: NDArray[np.int16]
) -> None:
    """Indices outside the movie and kinds of index that formats read differently are refused."""
    with pytest.raises(IndexError, match=message):
        open_movie(frames)[index]


# --- what is not a movie --------------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A file that isn't there is a FileNotFoundError with its path."""
    with pytest.raises(FileNotFoundError, match=r"no such file: .*absent.tif"):
        open_movie(tmp_path / "absent.tif")


def test_an_unknown_suffix_lists_the_known(tmp_path: Path) -> None:
    """A file of another kind is refused with the list of formats."""
    (tmp_path / "movie.xyz").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"suffix '\.xyz'; known are TIFF .*HDF5.*\.npy"):
        open_movie(tmp_path / "movie.xyz")
    with pytest.raises(ValueError, match="is a folder, but not one written by Zarr"):
        open_movie(tmp_path)


@pytest.mark.parametrize("suffix", [".tif", ".h5", ".npy", ".npz"])
def test_a_file_of_rubbish_is_one_clear_error(suffix: str, tmp_path: Path) -> None:
    """Bytes that are not of the format give a ValueError with the file's name."""
    path = tmp_path / f"rubbish{suffix}"
    for content in (b"", b"this is no movie" * 100):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot read .*rubbish"):
            open_movie(path)


@pytest.mark.parametrize("kind", ["tif", "npy", "array"])
def test_a_single_image_is_refused(kind: str, tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """One image has no time axis, and the error says so."""
    source: object = frames[0]
    if kind == "tif":
        source = write_tiff(tmp_path / "a.tif", frames[0])
    elif kind == "npy":
        source = write_npy(tmp_path / "a.npy", frames[0])
    with pytest.raises(ValueError, match=r"single image of shape \(40, 56\), which has no time axis"):
        open_movie(source)


def test_more_axes_are_refused_with_a_way_to_select(frames: NDArray[np.int16]) -> None:
    """Four axes are an error that shows how to take one channel."""
    with pytest.raises(ValueError, match=r'4 axes.*axes="tcyx", channel=0'):
        open_movie(frames.reshape(6, 2, 40, 56))


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (np.zeros((3, 4, 4), complex), ValueError, "complex128; a movie holds integers or floats"),
        (np.zeros((3, 4, 4), bool), ValueError, "bool; a movie holds"),
        (np.zeros((3, 0, 4)), ValueError, "holds no values"),
        (np.ma.masked_less(np.zeros((3, 4, 4)), 1), ValueError, "mask would be lost"),
        ([[[1, 2]]], TypeError, "got list"),
        (7, TypeError, "got int"),
    ],
)
def test_an_array_that_is_no_movie_is_refused(source: object, error: type[Exception], message: str) -> None:
    """Values without a noise law, empty arrays, masks and non-arrays are errors."""
    with pytest.raises(error, match=message):
        open_movie(source)


def test_an_option_that_means_nothing_is_refused(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """A name inside a file, beside an array or a file that holds one array, is a mistake."""
    with pytest.raises(ValueError, match=r"dataset='movie' means nothing for numpy.ndarray; .*axes, channel"):
        open_movie(frames, dataset="movie")
    path = write_npy(tmp_path / "a.npy", frames)
    with pytest.raises(ValueError, match=r"dataset='movie' means nothing for .*a\.npy"):
        open_movie(f"{path}::movie")
    with pytest.raises(ValueError, match="open as a movie already"):
        open_movie(open_movie(frames), channel=0)


# --- files that hold several things ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["h5", "npz", "zarr"])
def test_one_of_several_movies_is_chosen_by_name(
    kind: str, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """With several movies in a file the error lists them, and ``file::name`` or ``dataset=`` takes one."""
    path = tmp_path / f"two.{kind}"
    content = {"green": frames, "red": frames[::-1], "mean": frames.mean(axis=0)}
    if kind == "h5":
        with h5py.File(path, "w") as file:
            for name, values in content.items():
                file[name] = values
    elif kind == "npz":
        np.savez(path, **content)
    else:
        group = zarr.open_group(str(path), mode="w")
        for name, values in content.items():
            if ZARR_3:
                group.create_array(name, data=values)
            else:
                group.create_dataset(name, data=values)
    with pytest.raises(ValueError, match=r"holds 2 movies: .*green \(12, 40, 56\).*red .*Say which.*two.*::"):
        open_movie(path)
    with open_movie(f"{path}::red") as movie:
        np.testing.assert_array_equal(movie[:], frames[::-1])
        assert movie.source.endswith("red")
    with open_movie(path, dataset="/green") as movie:
        np.testing.assert_array_equal(movie[:], frames)
    with pytest.raises(ValueError, match=r"has no .* 'blue'; it holds .*green"):
        open_movie(path, dataset="blue")
    with pytest.raises(ValueError, match="single image"):
        open_movie(path, dataset="mean")


def test_a_file_without_a_movie_lists_what_it_holds(tmp_path: Path) -> None:
    """An HDF5 file of spectra is refused with the shapes of what is in it."""
    path = tmp_path / "spectra.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.zeros((3, 3))
        file["b"] = np.zeros(7)
    with pytest.raises(ValueError, match=r"no dataset with the three axes .*/a \(3, 3\), /b \(7,\)"):
        open_movie(path)


@pytest.mark.parametrize("order", ["TCYX", "CTYX", "TZCYX"])
def test_a_channel_of_a_tiff_is_selected_by_its_axis(
    order: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    """``file.tif::C=1`` takes one channel frame by frame, whatever the order of the axes."""
    lengths = {"T": 6, "C": 2, "Z": 3, "Y": 20, "X": 30}
    values = rng.integers(0, 999, [lengths[axis] for axis in order]).astype(np.uint16)
    selection, index = "C=1", [slice(None) if axis != "C" else 1 for axis in order]
    if "Z" in order:
        selection, index = "Z=2,C=1", [{"Z": 2, "C": 1}.get(axis, slice(None)) for axis in order]
    contiguous, pages = {}, {"compression": "zlib"}
    for options in (contiguous, pages):
        path = write_tiff(tmp_path / "a.ome.tif", values, ome=True, metadata={"axes": order}, **options)
        with pytest.raises(ValueError, match=r"has the axes .*c 2.*channel=0 to 1"):
            open_movie(path)
        with open_movie(f"{path}::{selection}") as movie:
            assert movie.shape == (6, 20, 30)
            np.testing.assert_array_equal(movie[:], values[tuple(index)])
            np.testing.assert_array_equal(movie[1:6:2, 3:9], values[tuple(index)][1:6:2, 3:9])
    with pytest.raises(ValueError, match="C=2 is out of range"):
        open_movie(f"{path}::C=2")
    with pytest.raises(ValueError, match="Q selects nothing"):
        open_movie(f"{path}::Q=1")
    with pytest.raises(ValueError, match="cannot understand the selection 'green'"):
        open_movie(f"{path}::green")


def test_a_channel_of_compressed_volumes_is_selected(tmp_path: Path, rng: np.random.Generator) -> None:
    """A file whose pages are volumes gives the frames along either axis."""
    values = rng.integers(0, 999, (2, 6, 32, 48)).astype(np.uint16)
    options = {"compression": "zlib", "tile": (6, 16, 16), "volumetric": True}
    path = write_tiff(tmp_path / "a.tif", values, metadata={"axes": "CZYX"}, **options)
    for selection, index in (("C=0,Z=:", np.s_[0]), ("C=1,Z=:", np.s_[1]), ("C=:,Z=4", np.s_[:, 4])):
        with open_movie(f"{path}::{selection}") as movie:
            np.testing.assert_array_equal(movie[:], values[index])


def test_channels_are_not_taken_for_frames(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Three channels of an ImageJ image are not a movie, unless the caller says that they are frames."""
    image = frames[:3].astype(np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image, imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(ValueError, match=r'channels of one image.*axes="tyx"'):
        open_movie(path)
    for source, options in ((path, {"axes": "tyx"}), (f"{path}::C=:", {})):
        with open_movie(source, **options) as movie:
            np.testing.assert_array_equal(movie[:], image)


def test_more_channels_than_imagej_has_are_frames(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """A stack whose writer named no axes opens as a movie, though its file calls the frames channels."""
    counts = frames.astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", counts, imagej=True)
    with open_movie(tmp_path / "a.tif") as movie:
        np.testing.assert_array_equal(movie[:], counts)


def test_colour_is_refused(tmp_path: Path) -> None:
    """An RGB TIFF is no movie."""
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 20, 30, 3), np.uint8), photometric="rgb")
    with pytest.raises(ValueError, match="colour or interleaved samples"):
        open_movie(tmp_path / "a.tif")


def test_a_series_of_a_tiff_is_chosen_by_number(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Of several image series the only movie is found, and two movies must be told apart."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(frames, photometric="minisblack")
        writer.write(frames[0, :8, :8], photometric="minisblack")
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie[:], frames)
    with tifffile.TiffWriter(path) as writer:
        writer.write(frames, photometric="minisblack")
        writer.write(frames[:, :8, :8], photometric="minisblack")
    with pytest.raises(ValueError, match=r"holds 2 movies: 0 \(12, 40, 56\), 1 \(12, 8, 8\)"):
        open_movie(path)
    with open_movie(f"{path}::1") as movie:
        np.testing.assert_array_equal(movie[:], frames[:, :8, :8])


# --- damage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ONE_FILE)
def test_a_file_cut_short_is_an_error_or_whole(
    kind: str, tmp_path: Path, frames: NDArray[np.int16], rng: np.random.Generator
) -> None:
    """However much of a file's end is missing, no frame is wrong or absent without an error."""
    path, options = write_movie(kind, tmp_path, frames)
    content = path.read_bytes()
    for cut in [*rng.integers(0, len(content), 12), len(content) // 2, len(content) - 1]:
        path.write_bytes(content[:cut])
        try:
            with open_movie(path, **options) as movie:
                read = movie[:]
        except ValueError as error:
            assert path.name in str(error)  # noqa: PT017  # either way is right, so pytest.raises can't be used
        else:
            np.testing.assert_array_equal(read, frames)


def test_a_one_page_imagej_stack_cut_short_is_an_error(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """A large ImageJ stack has one page for all frames; it opens whole, and is refused when cut."""
    path = write_single_page_imagej(tmp_path / "a.tif", np.abs(frames))
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie[:], np.abs(frames))
    path.write_bytes(path.read_bytes()[: frames.nbytes // 2])
    with pytest.raises(ValueError, match=r"a\.tif announces 12 images .* but there are 5: it is cut short"):
        open_movie(path)
    with open_movie(path, partial=True) as movie:
        np.testing.assert_array_equal(movie[:], np.abs(frames)[:5])


def test_a_truncation_is_found_on_opening(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Uncompressed frames that are missing at the end are an error before anything is read."""
    path = write_npy(tmp_path / "a.npy", frames)
    path.write_bytes(path.read_bytes()[: -3 * frames[0].nbytes])
    with pytest.raises(ValueError, match=r"is cut short: it announces 12 frames, .* holds 9 whole frames"):
        open_movie(path)


def test_a_truncated_tiff_is_found_without_the_log_of_tifffile(
    tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """A page that is announced and missing is an error, also where the log of tifffile is switched off."""
    path = write_pages(tmp_path / "a.tif", frames)
    with tifffile.TiffFile(path) as tiff:
        end = tiff.pages[7].offset
    path.write_bytes(path.read_bytes()[:end])
    logger = logging.getLogger("tifffile")
    logger.disabled = True
    try:
        with pytest.raises(ValueError, match="cut short: page 7 is announced at byte"):
            open_movie(path)
    finally:
        logger.disabled = False


def test_a_file_that_shrinks_while_open_is_an_error(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """A file cut while it is being read gives an error that names the frames, not a crash."""
    path = write_npy(tmp_path / "a.npy", frames)
    with open_movie(path) as movie:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 100)
        np.testing.assert_array_equal(movie[:11], frames[:11])
        with pytest.raises(ValueError, match=r"frames 11 to 11 of .*a\.npy: .* ends 100 bytes too early"):
            movie[11]


def test_a_damaged_zarr_chunk_is_an_error_with_its_frames(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """A chunk whose bytes are damaged gives an error that names file and frames."""
    path = write_zarr(tmp_path / "a.zarr", frames, 2)
    for chunk in path.glob("*.*.*"):
        chunk.write_bytes(b"rubbish")
    with open_movie(path) as movie, pytest.raises(ValueError, match=r"cannot read frames 5 to 5 of .*a.zarr"):
        movie[5]


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    """A .npy of Python objects is refused without being unpickled."""
    np.save(tmp_path / "a.npy", np.array([[[None]]], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        open_movie(tmp_path / "a.npy")


def test_a_missing_library_says_how_to_install_it(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Without tifffile or h5py the error is the pip command that mends it."""
    tiff, hdf5 = FILES["tiff pages"](tmp_path, frames), FILES["hdf5"](tmp_path, frames)
    code = (
        "import sys; sys.modules['tifffile'] = sys.modules['h5py'] = None\n"
        "from anscombe_transform.movies import open_movie\n"
        f"for path in {[str(tiff), str(hdf5)]!r}:\n"
        "    try: open_movie(path)\n"
        "    except ImportError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.count('pip install "anscombe-transform[io]"') == 2


def test_a_missing_decoder_says_how_to_install_it(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """A TIFF that only imagecodecs can decode gives the pip command where imagecodecs is missing."""
    path = FILES["tiff lzw"](tmp_path, frames)
    code = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "from anscombe_transform.movies import open_movie\n"
        f"try: open_movie({str(path)!r})[0]\n"
        "except ValueError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "imagecodecs" in result.stdout
    assert 'pip install "anscombe-transform[io]"' in result.stdout


def test_movies_are_sliced_from_several_threads(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Threads that read one movie at once each get their own frames."""
    from concurrent.futures import ThreadPoolExecutor

    for kind in ("tiff contiguous", "tiff zlib", "hdf5 compressed", "npy", "zarr 2"):
        folder = tmp_path / kind.replace(" ", "_")
        folder.mkdir()
        with open_movie(FILES[kind](folder, frames)) as movie, ThreadPoolExecutor(4) as pool:
            wanted = list(range(len(frames))) * 8
            for number, frame in zip(wanted, pool.map(movie.__getitem__, wanted), strict=True):
                np.testing.assert_array_equal(frame, frames[number])


def test_the_type_is_what_users_annotate(frames: NDArray[np.int16]) -> None:
    """`open_movie` gives a `Movie` whose printed form tells shape, dtype and source."""
    movie = open_movie(frames)
    assert isinstance(movie, Movie)
    assert repr(movie) == "<Movie (12, 40, 56) int16 from numpy.ndarray>"
    assert (movie.ndim, len(movie), movie.size) == (3, 12, frames.size)
