"""TIFFs are read as their chain of pages says, whatever headers and shortcuts announce."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from movie_files import tifffile, write_pages, write_scanimage, write_single_page_imagej
from numpy.typing import NDArray

from anscombe_transform.movies import IncompleteRecordingError, open_movie
from anscombe_transform.movies.readers.tiff.chain import check_frame_numbers, read_chain

SHAPE = (24, 20, 30)
PLAIN = {"metadata": None, "photometric": "minisblack", "contiguous": False}


@pytest.fixture
def frames(rng: np.random.Generator) -> NDArray[np.int16]:
    """A movie with negative values, whose frames all differ."""
    return rng.integers(-50, 3000, SHAPE).astype(np.int16)


def write_each(
    path: Path, frames: NDArray[Any], descriptions: list[str], *, bigtiff: bool = False, **options: Any
) -> Path:
    """Pages one after the other, each with a description of its own."""
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as writer:
        for frame, text in zip(frames, descriptions, strict=True):
            writer.write(frame, description=text, **PLAIN, **options)
    return path


def assert_movie(source: Any, frames: NDArray[Any], **options: Any) -> None:
    """The movie holds exactly these frames, read whole and in parts."""
    with open_movie(source, **options) as movie:
        assert movie.shape == frames.shape
        np.testing.assert_array_equal(movie[:], frames)
        np.testing.assert_array_equal(movie[1::3, 2:9, ::4], frames[1::3, 2:9, ::4])


# --- the chain of pages ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("longer", [0, 5, 23])
@pytest.mark.parametrize("trailing", [0, 100, 5000])
def test_pages_need_not_lie_at_even_distances(
    longer: int, trailing: int, bigtiff: bool, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """A page of ScanImage with a longer header, the last page, and bytes behind it shift no frame."""
    texts = [
        f"frameNumbers = {n + 1}\nscanimage.SI.hChannels.channelSave = 1\n" + "x" * 300 * (n == longer)
        for n in range(len(frames))
    ]
    path = write_each(tmp_path / "a.tif", frames, texts, bigtiff=bigtiff)
    with path.open("ab") as file:
        file.write(bytes(trailing))
    assert_movie(path, frames)


@pytest.mark.parametrize("description", ["", "frameNumbers = 1\nscanimage.SI.hChannels.channelSave = 1\n"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_file_cut_short_opens_on_request(
    description: str, bigtiff: bool, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """The frames before the cut are there with `partial`; without it the cut is an error."""
    path = write_each(tmp_path / "a.tif", frames, [description] * len(frames), bigtiff=bigtiff)
    content = path.read_bytes()
    for cut in (4000, 1300, 10):
        path.write_bytes(content[:-cut])
        with pytest.raises(IncompleteRecordingError, match=r"cut short: .*partial=True \(--partial\)"):
            open_movie(path)
        whole = len(read_chain(path).pages)
        assert 18 <= whole < len(frames)
        with open_movie(path, partial=True) as movie:
            np.testing.assert_array_equal(movie[:], frames[:whole])
            assert "cut short" in movie.metadata["partial"][0]


def next_link(path: Path, page: int) -> int:
    """Where a classic little-endian TIFF keeps the place of the page after this one."""
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[page].offset
    content = path.read_bytes()
    return offset + 2 + 12 * struct.unpack_from("<H", content, offset)[0]


def test_a_page_that_is_not_linked_is_found(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """A writer that stopped before it linked a page leaves it behind the end of the chain."""
    path = write_each(tmp_path / "a.tif", frames, ["one text for all pages"] * len(frames))
    content = bytearray(path.read_bytes())
    link = next_link(path, 20)
    content[link : link + 4] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(IncompleteRecordingError, match=r"page 21 lies at byte \d+, but page 20 doesn't lead"):
        open_movie(path)
    assert_movie(path, frames[:21], partial=True)


def test_a_chain_that_runs_in_a_circle_is_damaged(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """A page that leads back to an earlier one would give frames for ever."""
    path = write_pages(tmp_path / "a.tif", frames)
    content = bytearray(path.read_bytes())
    link = next_link(path, 9)
    with tifffile.TiffFile(path) as tiff:
        content[link : link + 4] = struct.pack("<I", tiff.pages[4].offset)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="page 10 is page 4 again"):
        open_movie(path)


def test_parts_of_an_image_that_were_never_written_are_found(
    tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """Strips without a place are zeros to a library; they are no data."""
    path = write_pages(tmp_path / "a.tif", frames, rowsperstrip=5)
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages[7].tags["StripOffsets"]
    with path.open("r+b") as file:
        file.seek(tag.valueoffset + 4)
        file.write(bytes(4))
    with pytest.raises(IncompleteRecordingError, match="page 7 has parts that were never written"):
        open_movie(path)
    assert_movie(path, frames[:7], partial=True)


@pytest.mark.parametrize("other", [(24, 20, np.uint16), (24, 30, np.int16), (20, 24, np.int16)])
def test_an_image_of_another_kind_among_the_frames_is_named(
    other: tuple[int, int, type], tmp_path: Path, rng: np.random.Generator
) -> None:
    """A page that differs in size or type is neither left out in silence nor read as a frame."""
    frames = rng.integers(0, 3000, (10, 24, 20)).astype(np.int16)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for number, frame in enumerate(frames):
            if number == 6:
                writer.write(np.zeros(other[:2], other[2]), **PLAIN)
            writer.write(frame, **PLAIN)
    with pytest.raises(ValueError, match=r"different kinds: image 6 .*series=0"):
        open_movie(tmp_path / "a.tif")
    assert_movie(tmp_path / "a.tif", frames, series=0)


# --- headers that count -----------------------------------------------------------------------------------


def edit_description(path: Path, old: str, new: str) -> None:
    """Change the text in a file without moving anything."""
    content = path.read_bytes()
    assert content.count(old.encode()) == 1
    path.write_bytes(content.replace(old.encode(), new.encode().ljust(len(old.encode()))))


@pytest.mark.parametrize("single_page", [False, True])
def test_an_imagej_header_that_announces_too_many(
    single_page: bool, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """A header of more images than there are is a recording that isn't whole."""
    counts = np.abs(frames).astype(np.uint16)
    path = tmp_path / "a.tif"
    if single_page:
        write_single_page_imagej(path, counts)
    else:
        tifffile.imwrite(path, counts, imagej=True, metadata={"axes": "TYX"})
    edit_description(path, "images=24\nframes=24", "images=99\nframes=99")
    with pytest.raises(IncompleteRecordingError, match=r"announces 99 images .* there are 24"):
        open_movie(path)
    assert_movie(path, counts, partial=True)


@pytest.mark.parametrize("single_page", [False, True])
@pytest.mark.parametrize("hyperstack", [False, True])
def test_an_imagej_header_that_announces_too_few(
    single_page: bool, hyperstack: bool, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """No image is left out: with one axis all are counted, with several the caller has to say how."""
    counts = np.abs(frames).astype(np.uint16)
    path = tmp_path / "a.tif"
    stack = counts.reshape(12, 2, *SHAPE[1:]) if hyperstack else counts
    axes = {"axes": "TCYX" if hyperstack else "TYX"}
    tifffile.imwrite(path, stack, imagej=True, metadata=axes)
    if single_page:
        link = next_link(path, 0)
        with tifffile.TiffFile(path) as tiff:
            end = tiff.pages[0].dataoffsets[0] + counts.nbytes
        content = bytearray(path.read_bytes()[:end])
        content[link : link + 4] = bytes(4)
        path.write_bytes(content)
    if hyperstack:
        edit_description(path, "images=24\nchannels=2\nframes=12", "images=10\nchannels=2\nframes=05")
    else:
        edit_description(path, "images=24\nframes=24", "images=10\nframes=10")
    if hyperstack or single_page:
        with pytest.raises(IncompleteRecordingError, match=r'there are 24.*shape=\(-1, 20, 30\), axes="tyx"'):
            open_movie(path, **({"channel": 0} if hyperstack else {}))
    else:
        with open_movie(path) as movie:
            np.testing.assert_array_equal(movie[:], counts)
            assert "announces 10 images, and 24 are there" in movie.metadata["partial"][0]
    assert_movie(path, counts, shape=(-1, 20, 30), axes="tyx")


@pytest.mark.parametrize("order", ["czt", "ztc", "tcz"])
def test_a_large_imagej_hyperstack_is_taken_apart(
    order: str, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """Above 4 GB ImageJ writes one page, behind which channels, planes and frames follow each other."""
    lengths = {"t": 4, "z": 3, "c": 2}
    counts = np.abs(frames).astype(np.uint16)
    path = write_single_page_imagej(tmp_path / "a.tif", counts)
    text = f"images=24\nchannels=2\nslices=3\nframes=4\nhyperstack=true\norder={order}\n"
    page = tifffile.TiffFile(path).pages[0]
    content = bytearray(path.read_bytes())
    place = page.tags["ImageDescription"].valueoffset
    length = page.tags["ImageDescription"].count
    new = f"ImageJ=1.5\n{text}".encode()
    where = len(content)
    content += new + b"\0"
    tag = page.tags["ImageDescription"].offset
    content[tag + 4 : tag + 12] = struct.pack("<II", len(new) + 1, where)
    assert (place, length) != (where, len(new) + 1)
    path.write_bytes(content)
    stack = counts.reshape(*(lengths[axis] for axis in order[::-1]), *SHAPE[1:])
    index = tuple({"z": 1, "c": 1}.get(axis, slice(None)) for axis in order[::-1])
    assert_movie(path, stack[index], channel=1, plane=1)


def test_the_header_of_tifffile_is_held_against_the_pages(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """A shape of more images than there are is a cut; images that no shape counts are not left out."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, frames, photometric="minisblack")
    edit_description(path, '"shape": [24, 20, 30]', '"shape": [48, 20, 30]')
    with pytest.raises(IncompleteRecordingError, match="announces 48 images"):
        open_movie(path)
    assert_movie(path, frames, partial=True)
    with tifffile.TiffWriter(path) as writer:
        writer.write(frames[:10], photometric="minisblack", compression="zlib")
        for frame in frames[10:]:
            writer.write(frame, compression="zlib", description=json.dumps({"shape": [20, 30]}), **PLAIN)
    with pytest.raises(IncompleteRecordingError, match=r"14 others .*series=0, .*shape=\(-1, 20, 30\)"):
        open_movie(path)
    assert_movie(path, frames[:10], series=0)
    assert_movie(path, frames, shape=(-1, 20, 30), axes="tyx")


def ome_text(frames: int, files: list[str] | None = None, **sizes: int) -> str:
    """An OME-XML description of frames in one file, or of one frame in each of several."""
    data = "".join(
        f'<TiffData IFD="0" PlaneCount="1" FirstT="{t}"><UUID FileName="{name}">urn:uuid:{t:032}</UUID>'
        "</TiffData>"
        for t, name in enumerate(files or [])
    )
    size = {"SizeX": 30, "SizeY": 20, "SizeC": 1, "SizeZ": 1, "SizeT": frames} | sizes
    told = " ".join(f'{name}="{value}"' for name, value in size.items())
    return (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:'
        f'{0:032}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="int16" {told}>'
        f'<Channel ID="Channel:0:0"/>{data or "<TiffData/>"}</Pixels></Image></OME>'
    )


@pytest.mark.parametrize("channels", [1, 2])
def test_an_ome_tiff_that_stopped_early_opens_on_request(
    channels: int, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """The XML of a recording is written beforehand; what was recorded is fewer frames."""
    text = ome_text(100 // channels, SizeC=channels)
    path = write_each(tmp_path / "a.ome.tif", frames, [text, *[""] * (len(frames) - 1)])
    options = {"channel": 1} if channels == 2 else {}
    with pytest.raises(IncompleteRecordingError, match=r"misses frame 24: .* or it was stopped"):
        open_movie(path, **options)
    assert_movie(path, frames[channels - 1 :: channels], partial=True, **options)


def test_an_ome_tiff_with_more_images_than_it_says(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Images that the XML leaves out are not left out in silence."""
    text = ome_text(10).replace("<TiffData/>", '<TiffData IFD="0" PlaneCount="10"/>')
    path = write_each(tmp_path / "a.ome.tif", frames, [text, *[""] * (len(frames) - 1)])
    with pytest.raises(IncompleteRecordingError, match="leaves 14 of 24 images out"):
        open_movie(path)
    assert_movie(path, frames, shape=(-1, 20, 30), axes="tyx")


@pytest.mark.parametrize("lost", [5, 23])
def test_an_ome_set_that_lost_a_file_opens_on_request(
    lost: int, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """By the folder, a pattern or any file a lost one is missed; a list is taken as it is."""
    names = [f"a_T{t:03}.ome.tif" for t in range(len(frames))]
    for t, (name, frame) in enumerate(zip(names, frames, strict=True)):
        text = ome_text(len(frames), names).replace(f"{0:032}", f"{t:032}", 1)
        write_each(tmp_path / name, frame[None], [text])
    assert_movie(tmp_path, frames)
    assert_movie(tmp_path / names[3], frames)
    (tmp_path / names[lost]).unlink()
    kept = np.delete(frames, lost, axis=0)
    for source in (tmp_path, tmp_path / names[0], f"{tmp_path}/a_T*.ome.tif"):
        with pytest.raises(IncompleteRecordingError, match=r"miss"):
            open_movie(source)
        assert_movie(source, kept, partial=True)
    assert_movie(sorted(tmp_path.iterdir()), kept)


# --- ScanImage --------------------------------------------------------------------------------------------

VOLUME = {"SI__hChannels__channelSave": "1", "SI__hFastZ__enable": "true"}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("planes", [1, 3])
def test_the_phase_of_a_cycle_is_carried_over_files(
    channels: int, planes: int, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """Files that end within a volume or between two channels shift no plane and no channel."""
    settings = {"SI__hFastZ__enable": "true"} if planes > 1 else {}
    settings |= {"SI__hFastZ__numFramesPerVolume": str(planes)}
    settings["SI__hChannels__channelSave"] = "[1;2]" if channels == 2 else "1"
    for number, (start, stop) in enumerate([(0, 7), (7, 11), (11, 20), (20, 24)], 1):
        path = tmp_path / f"x_{number:05}.tif"
        write_scanimage(path, frames[start:stop], before=start, **settings)
    for channel in range(channels):
        for plane in range(planes):
            wanted = frames[channel::channels][plane::planes]
            assert_movie(
                tmp_path,
                wanted,
                **({"channel": channel} if channels > 1 else {}),
                **({"plane": plane} if planes > 1 else {}),
            )


def test_interleaving_that_no_header_tells_runs_on_over_files(
    tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """The option `shape` counts the images of all files of a sequence together."""
    for number, (start, stop) in enumerate([(0, 7), (7, 11), (11, 24)], 1):
        write_pages(tmp_path / f"x_{number}.tif", frames[start:stop])
    for channel in (0, 1):
        assert_movie(tmp_path, frames[channel::2], shape=(-1, 2, 20, 30), axes="tcyx", channel=channel)


def write_acquisition(folder: Path, frames: NDArray[np.int16], **settings: str) -> None:
    """Three files of one ScanImage acquisition of one channel."""
    for number in range(3):
        part = frames[number * 8 : number * 8 + 8]
        options = {"SI__hChannels__channelSave": "1"} | settings
        write_scanimage(folder / f"x_{number + 1:05}.tif", part, before=number * 8, **options)


@pytest.mark.parametrize("lost", [1, 2])
def test_frames_that_the_numbers_miss_are_told(lost: int, tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Of three files the second is missed by the frame numbers; the third can't be."""
    write_acquisition(tmp_path, frames)
    assert_movie(tmp_path, frames)
    (tmp_path / f"x_{lost + 1:05}.tif").unlink()
    kept = np.delete(frames, np.s_[lost * 8 : lost * 8 + 8], axis=0)
    if lost == 1:
        for source in (tmp_path, sorted(tmp_path.iterdir())):
            with pytest.raises(IncompleteRecordingError, match=r"misses (number 2|frames: .* from 8 to 17)"):
                open_movie(source)
    assert_movie(tmp_path, kept, partial=True)


def test_planes_behind_a_gap_are_not_guessed(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Where images were lost within a volume nothing says which plane comes next."""
    write_acquisition(tmp_path, frames, SI__hFastZ__enable="true", SI__hFastZ__numFramesPerVolume="3")
    (tmp_path / "x_00002.tif").unlink()
    with pytest.raises(IncompleteRecordingError, match=r"Which plane .* is not known"):
        open_movie(sorted(tmp_path.iterdir()), plane=0, partial=True)


def test_images_out_of_the_order_of_time_are_refused(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """Where the writer numbers no frames, their times still tell that files are in another order."""
    for number, start in enumerate((0, 16, 8)):
        with tifffile.TiffWriter(tmp_path / f"x_{number + 1:05}.tif") as writer:
            for i in range(start, start + 8):
                text = f"frameTimestamps_sec = {i / 30:.9f}\nSI.hChannels.channelSave = 1\n" + " " * 40
                writer.write(frames[i], contiguous=False, metadata=None, description=text)
    files = sorted(tmp_path.iterdir())
    assert_movie([files[0], files[2], files[1]], frames)
    with pytest.raises(IncompleteRecordingError, match=r"image 15 was taken at 0\.766667 s and image 16 at"):
        open_movie(tmp_path)


@pytest.mark.parametrize(
    ("numbers", "cycle", "gap"),
    [
        ([1, 2, 3, 4, 5, 6], 1, False),
        ([1, 1, 2, 2, 3, 3], 2, False),
        ([1, 1, 1, 1], 1, False),
        ([1, 2, 3, 7, 8, 9, 13, 14, 15], 3, False),  # frames of the flyback were not saved
        ([1, 2, 3, 7, 8, 9, 16, 17, 18, 22, 23, 24], 3, True),
        ([10, 20, 30, 40], 1, False),  # averages of ten
        ([1, 2, 3, 5, 6], 1, True),
        ([1, 2, 3, 1, 2, 3], 1, True),
        ([1, 1, 2, 3, 3, 4], 2, True),
        ([None, 2, 9], 1, False),
    ],
)
def test_gaps_in_frame_numbers(numbers: list[int | None], cycle: int, gap: bool) -> None:
    """A gap is a step that differs from those at the same place of other cycles."""
    assert bool(check_frame_numbers(numbers, cycle)) == gap


def test_flyback_frames_are_no_planes(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """A volume of three slices and one frame of flyback has three planes; the fourth can't be chosen."""
    settings = VOLUME | {"SI__hStackManager__numSlices": "3", "SI__hFastZ__numFramesPerVolume": "4"}
    path = write_scanimage(tmp_path / "a.tif", frames, **settings)
    for plane in range(3):
        assert_movie(path, frames[plane::4], plane=plane)
    with pytest.raises(ValueError, match=r"plane=3 is out of range: .* has 3"):
        open_movie(path, plane=3)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_stack_that_dwells_at_each_slice_is_repeated(
    channels: int, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """A plane of a slow stack holds its frames of every volume."""
    settings = {
        "SI__hChannels__channelSave": "[1;2]" if channels == 2 else "1",
        "SI__hStackManager__numSlices": "3",
        "SI__hStackManager__framesPerSlice": "2",
    }
    path = write_scanimage(tmp_path / "a.tif", frames, **settings)
    volumes = frames.reshape(-1, 3, 2, channels, 20, 30)
    for plane in range(3):
        wanted = volumes[:, plane, :, -1].reshape(-1, 20, 30)
        assert_movie(path, wanted, plane=plane, **({"channel": 1} if channels == 2 else {}))
    with pytest.raises(ValueError, match=r"Choose .*plane=0 to 2"):
        open_movie(path)


OLD = {
    "3.8": (
        "state.configName='x'\rstate.software.version=3.8\rstate.acq.numberOfChannelsSave={channels}\r"
        "state.acq.numberOfZSlices={slices}\rstate.acq.numberOfFrames={frames}\rstate.acq.frameRate=3.5\r"
    ),
    "4": (
        "Frame Number = 1\nscanimage.SI4.acqNumFrames = {frames}\nscanimage.SI4.channelsSave = {list}\n"
        "scanimage.SI4.stackNumSlices = {slices}\nscanimage.SI4.fastZEnable = false\n"
        "scanimage.SI4.scanFrameRate = 3.5\n"
    ),
    "4 fast": (
        "scanimage.SI4.acqNumFrames = 8\nscanimage.SI4.channelsSave = {list}\n"
        "scanimage.SI4.stackNumSlices = {slices}\nscanimage.SI4.fastZEnable = true\n"
    ),
    "5.0": (
        "scanimage.SI5.acqNumFrames = {frames}\nscanimage.SI5.channelsSave = {list}\n"
        "scanimage.SI5.stackNumSlices = {slices}\n"
    ),
}


@pytest.mark.parametrize("version", OLD)
@pytest.mark.parametrize(("channels", "slices"), [(1, 1), (2, 1), (1, 3), (2, 3)])
def test_headers_of_old_scanimage_tell_channels_and_planes(
    version: str, channels: int, slices: int, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """Channels vary fastest, then frames of a slice or slices of a fast stack; both have to be chosen."""
    told = {"channels": channels, "slices": slices, "frames": 4, "list": "[1;2]" if channels == 2 else "[1]"}
    path = write_each(tmp_path / "a.tif", frames, [OLD[version].format(**told)] * len(frames))
    fast = "fast" in version
    stack = frames.reshape(
        *((-1, slices) if fast else (-1, slices, 4 if slices > 1 else 1)), channels, 20, 30
    )
    options: dict[str, int] = {}
    if channels > 1:
        with pytest.raises(ValueError, match="channel=0 to 1"):
            open_movie(path)
        options["channel"] = 1
    if slices > 1:
        with pytest.raises(ValueError, match="plane=0 to 2"):
            open_movie(path)
        options["plane"] = 2
    wanted = stack[:, -1, ..., -1, :, :].reshape(-1, 20, 30)
    assert_movie(path, wanted, **options)


def test_files_of_another_interleaving_do_not_belong(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """A file of two channels among those of one shifts everything behind it."""
    write_acquisition(tmp_path, frames)
    write_scanimage(tmp_path / "x_00002.tif", frames[8:16], before=16)
    with pytest.raises(ValueError, match=r"x_00002\.tif does not belong to"):
        open_movie(tmp_path)
