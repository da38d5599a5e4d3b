"""Recordings of Prairie View, ThorImage and Scanbox: one movie each, and never a frame too few in silence."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from microscope_files import (
    tifffile,
    write_bruker,
    write_experiment,
    write_scanbox,
    write_thor_raw,
    write_thor_tiffs,
)
from numpy.typing import NDArray

from anscombe_transform.compression.batch import find_recordings, pair_names
from anscombe_transform.movies import IncompleteRecordingError, open_movie

T, Z, C, Y, X = 6, 3, 2, 16, 24


@pytest.fixture
def images(rng: np.random.Generator) -> NDArray[np.uint16]:
    """Images ``(time, z, channel, y, x)`` that all differ."""
    return rng.integers(0, 60000, (T, Z, C, Y, X)).astype(np.uint16)


Write = Callable[..., Path]
RECORDINGS: dict[str, Callable[[Path, NDArray[np.uint16]], Path]] = {
    "bruker": lambda folder, images: write_bruker(folder / "TSeries-001", images, volumes=True),
    "bruker both ways": lambda folder, images: write_bruker(
        folder / "TSeries-001", images, volumes=True, both_ways=True
    ),
    "bruker both ways without positions": lambda folder, images: write_bruker(
        folder / "TSeries-001", images, volumes=True, both_ways=True, positions=False
    ),
    "bruker stacks": lambda folder, images: write_bruker(
        folder / "TSeries-001", images, volumes=True, pages_per_file=2
    ),
    "thor raw": lambda folder, images: write_thor_raw(folder / "run", images, flyback=2),
    "thor raw all channels": lambda folder, images: write_thor_raw(folder / "run", images, all_channels=True),
    "thor tiffs": lambda folder, images: write_thor_tiffs(folder / "run", images),
    "scanbox": lambda folder, images: write_scanbox(folder / "run.sbx", images),
    "scanbox 3": lambda folder, images: write_scanbox(folder / "run.sbx", images, version=3),
}


@pytest.mark.parametrize("kind", RECORDINGS)
def test_every_channel_and_plane_is_read_as_written(
    kind: str, tmp_path: Path, images: NDArray[np.uint16]
) -> None:
    """Each channel and plane of a volume recording is the movie that was written."""
    source = RECORDINGS[kind](tmp_path, images)
    for plane in range(Z):
        for channel in range(C):
            with open_movie(source, channel=channel, plane=plane) as movie:
                np.testing.assert_array_equal(movie[:], images[:, plane, channel])
                np.testing.assert_array_equal(
                    movie[1:6:2, 3:9, 5::3], images[1:6:2, plane, channel, 3:9, 5::3]
                )
                assert (movie.channel, movie.plane) == (channel, plane)
    with pytest.raises(ValueError, match=r"Choose plane=0 to 2 and channel=0 to \d"):
        open_movie(source)


@pytest.mark.parametrize(
    "write",
    [
        lambda folder, images: write_bruker(folder / "run", images, cycles=2),
        lambda folder, images: write_bruker(folder / "run", images, pages_per_file=4),
        lambda folder, images: write_thor_raw(folder / "run", images),
        lambda folder, images: write_thor_tiffs(folder / "run", images),
        lambda folder, images: write_scanbox(folder / "run.sbx", images),
    ],
    ids=["bruker", "bruker stacks", "thor raw", "thor tiffs", "scanbox"],
)
def test_a_plain_recording_needs_no_options(write: Write, tmp_path: Path, images: NDArray[np.uint16]) -> None:
    """A recording of one channel and plane opens by the name of its folder, and tells rate and size."""
    movie = open_movie(write(tmp_path, images[:, :1, :1]))
    np.testing.assert_array_equal(movie[:], images[:, 0, 0])
    assert movie.metadata["format"].split()[0] in ("Bruker", "ThorImage", "Scanbox")


def test_metadata_are_those_of_the_description(tmp_path: Path, images: NDArray[np.uint16]) -> None:
    """Rate, pixel size, date and program are read from the description."""
    movie = open_movie(write_bruker(tmp_path / "b", images, volumes=True), channel="Ch2", plane=1)
    assert movie.metadata["frame_rate"] == pytest.approx(1 / (0.05 * Z))
    assert movie.metadata["pixel_size"] == {"x": 1.25, "y": 1.5}
    assert movie.metadata["acquired"] == "2024-05-17T13:07:42"
    assert movie.metadata["software"] == "Prairie View 5.5.64.600"
    movie = open_movie(write_thor_raw(tmp_path / "t", images, flyback=2), channel="ChanB", plane=1)
    assert movie.metadata["frame_rate"] == pytest.approx(30 / (Z + 2))
    assert movie.metadata["pixel_size"] == {"x": 0.8, "y": 0.8}
    assert movie.metadata["acquired"].startswith("2024-05-17T13:07:42")
    assert movie.metadata["thorimage"] == {"name": "run", "flyback_frames": 2, "frames_averaged": None}
    movie = open_movie(write_scanbox(tmp_path / "s.sbx", images), channel="red", plane=2)
    assert movie.metadata["frame_rate"] == pytest.approx(2 * 7930 / Y / Z)
    assert movie.metadata["scanbox"]["signal"] == "65535 - stored value"


def refused(source: Path, message: str, **options: Any) -> None:
    """Assert that a recording is refused as incomplete."""
    with pytest.raises(IncompleteRecordingError, match=message):
        open_movie(source, **options)


def test_a_missing_file_is_named_and_left_out_on_request(tmp_path: Path, images: NDArray[np.uint16]) -> None:
    """A TIFF that the description names and that isn't there is an error, or the movie is one frame short."""
    bruker = write_bruker(tmp_path / "b", images[:, :1])
    gone = "b_Cycle00001_Ch2_000003.ome.tif"
    (bruker / gone).unlink()
    refused(bruker, f"misses 1 of the 6 files .* first of them {gone}", channel=1)
    with open_movie(bruker, channel=1, partial=True) as movie:
        np.testing.assert_array_equal(movie[:], np.delete(images[:, 0, 1], 2, axis=0))
        assert gone in movie.metadata["partial"][0]
    np.testing.assert_array_equal(open_movie(bruker, channel=0)[:], images[:, 0, 0])
    thor = write_thor_tiffs(tmp_path / "t", images[:, :1])
    (thor / "ChanA_001_001_001_006.tif").unlink()
    refused(thor, "first of them ChanA_001_001_001_006.tif", channel=0)
    assert len(open_movie(thor, channel=0, partial=True)) == T - 1


def test_a_file_cut_short_is_named_before_anything_is_read(
    tmp_path: Path, images: NDArray[np.uint16]
) -> None:
    """A TIFF that is smaller than its pixels, or has fewer pages than the XML names, is an error."""
    bruker = write_bruker(tmp_path / "b", images[:, :1, :1])
    cut = bruker / "b_Cycle00001_Ch1_000004.ome.tif"
    cut.write_bytes(cut.read_bytes()[: Y * X])
    refused(bruker, f"1 files that are cut short, the first of them {cut.name}")
    with open_movie(bruker, partial=True) as movie:
        np.testing.assert_array_equal(movie[:], np.delete(images[:, 0, 0], 3, axis=0))
    stacks = write_bruker(tmp_path / "s", images[:, :1, :1], pages_per_file=4)
    write_bruker(tmp_path / "other" / "s", images[:5, :1, :1], pages_per_file=4)
    name = "s_Cycle00001_Ch1_000002.ome.tif"
    (stacks / name).write_bytes((tmp_path / "other" / "s" / name).read_bytes())
    refused(stacks, "holds 1 images, but s.xml names 2")
    assert len(open_movie(stacks, partial=True)) == 5


def test_files_that_the_description_does_not_name_are_no_secret(
    tmp_path: Path, images: NDArray[np.uint16]
) -> None:
    """TIFFs beyond those of the XML, and copies of them, are an error: frames would be lost."""
    bruker = write_bruker(tmp_path / "b", images[:, :1, :1])
    name = "b_Cycle00001_Ch1_000007.ome.tif"
    (bruker / name).write_bytes((bruker / name.replace("7", "1")).read_bytes())
    refused(bruker, f"1 TIFFs that b.xml does not name, the first of them {name}")
    assert len(open_movie(bruker, partial=True)) == T
    thor = write_thor_tiffs(tmp_path / "t", images[:, :1, :1])
    (thor / "ChanA_001_001_001_002(1).tif").write_bytes((thor / "ChanA_001_001_001_002.tif").read_bytes())
    refused(thor, r"ChanA_001_001_001_002\(1\).tif")


def test_an_xml_that_was_not_finished_is_said_to_be(tmp_path: Path, images: NDArray[np.uint16]) -> None:
    """What an XML names until it ends can be opened, on request."""
    bruker = write_bruker(tmp_path / "b", images[:, :1, :1])
    xml = bruker / "b.xml"
    text = xml.read_text()
    xml.write_text(text[: text.index('index="5"') + 20])
    refused(bruker, "was not finished")
    assert len(open_movie(bruker, partial=True)) == 4


def test_a_volume_that_was_stopped_lacks_planes_in_the_end(
    tmp_path: Path, images: NDArray[np.uint16]
) -> None:
    """Planes that the last volume lacks are reported; the others are read."""
    for both_ways, positions in ((False, True), (True, True), (True, False)):
        folder = write_bruker(
            tmp_path / f"b{both_ways}{positions}", images[:, :, :1], volumes=True, both_ways=both_ways,
            positions=positions,
        )  # fmt: skip
        xml = folder / f"{folder.name}.xml"
        text = xml.read_text()
        last = text.rindex("<Frame ")
        removed = text[last : text.rindex("</Frame>") + 8]
        file = re.search(r'filename="([^"]+)"', removed)
        assert file is not None
        (folder / file[1]).unlink()
        xml.write_text(text.replace(removed, ""))
        # The sixth volume runs back: its last image is that of the first plane.
        short = 0 if both_ways else 2
        for plane in range(Z):
            if plane == short:
                refused(folder, "stopped early", plane=plane)
            movie = open_movie(folder, plane=plane, partial=plane == short)
            np.testing.assert_array_equal(movie[:], images[: T - (plane == short), plane, 0])


@pytest.mark.parametrize("kind", ["thor", "scanbox"])
def test_raw_values_cut_short_are_an_error(kind: str, tmp_path: Path, images: NDArray[np.uint16]) -> None:
    """Fewer frames than announced, and bytes of a frame that isn't whole, are reported."""
    movie = images[:, :1, :1]
    if kind == "thor":
        source = write_thor_raw(tmp_path / "run", movie)
        values = source / "Image_0001_0001.raw"
    else:
        source = values = write_scanbox(tmp_path / "run.sbx", movie)
    content = values.read_bytes()
    values.write_bytes(content[: 4 * Y * X * 2])
    refused(source, "stopped early")
    values.write_bytes(content[: 4 * Y * X * 2 + 7])
    partial = open_movie(source, partial=True)
    np.testing.assert_array_equal(partial[:], movie[:4, 0, 0])
    assert any("within a frame" in finding for finding in partial.metadata["partial"])


def test_which_channels_a_thor_file_holds_is_not_guessed(tmp_path: Path, images: NDArray[np.uint16]) -> None:
    """Of two channels and a size that fits neither two nor four of them, the way out is named."""
    folder = write_thor_raw(tmp_path / "run", images[:, :1])
    values = folder / "Image_0001_0001.raw"
    values.write_bytes(values.read_bytes()[: 5 * C * Y * X * 2])
    with pytest.raises(IncompleteRecordingError, match=r"shape=\(-1, 2, 16, 24\)"):
        open_movie(folder, channel=0)
    movie = open_movie(values, shape=(-1, 2, Y, X), dtype="<u2", axes="tcyx", channel=1)
    np.testing.assert_array_equal(movie[:], images[:5, 0, 1])
    values.write_bytes(bytes(7 * C * Y * X * 2))
    with pytest.raises(ValueError, match="holds other channels or frames"):
        open_movie(folder, channel=0, partial=True)


def test_several_recordings_in_one_folder_are_asked_about(tmp_path: Path, images: NDArray[np.uint16]) -> None:
    """Raw files of several triggers, and several .sbx, are several movies."""
    folder = write_thor_raw(tmp_path / "run", images[:, :1, :1])
    second = folder / "Image_0001_0002.raw"
    second.write_bytes((folder / "Image_0001_0001.raw").read_bytes()[::-1])
    with pytest.raises(ValueError, match=r'holds 2 recordings: .*Say which: series="Image_0001_0001.raw"'):
        open_movie(folder)
    by_series = open_movie(folder, series="Image_0001_0002.raw")
    np.testing.assert_array_equal(by_series[:], open_movie(second)[:])
    (tmp_path / "s").mkdir()
    write_scanbox(tmp_path / "s" / "a.sbx", images)
    write_scanbox(tmp_path / "s" / "b.sbx", images)
    with pytest.raises(ValueError, match=r"2 recordings: a\.sbx, b\.sbx"):
        open_movie(tmp_path / "s")


def test_cycles_of_several_kinds_are_asked_about(tmp_path: Path, images: NDArray[np.uint16]) -> None:
    """A single plane and volumes in one XML are two movies; series names a cycle."""
    folder = write_bruker(tmp_path / "b", images[:, :1, :1], cycles=2)
    xml = folder / "b.xml"
    text = xml.read_text()
    xml.write_text(text.replace("Brightness Over Time", "ZSeries", 1))
    with pytest.raises(ValueError, match="cycles of different kinds"):
        open_movie(folder)
    np.testing.assert_array_equal(open_movie(folder, series=2)[:], images[3:, 0, 0])
    np.testing.assert_array_equal(open_movie(f"{folder}::2")[:], images[3:, 0, 0])
    with pytest.raises(ValueError, match="no cycle 7"):
        open_movie(folder, series=7)


def test_a_scanbox_file_without_its_description_is_not_guessed(
    tmp_path: Path, images: NDArray[np.uint16]
) -> None:
    """Without the .mat, with one that contradicts itself, or with channels unknown, the file is refused."""
    path = write_scanbox(tmp_path / "a.sbx", images)
    path.with_suffix(".mat").unlink()
    with pytest.raises(ValueError, match=r"needs a\.mat beside it"):
        open_movie(path)
    with pytest.raises(ValueError, match="contradicts itself"):
        open_movie(write_scanbox(path, images, recordsPerBuffer=200))
    with pytest.raises(ValueError, match="which channels were recorded"):
        open_movie(write_scanbox(path, images, channels=7))


def test_a_thor_stream_of_tiff_is_held_against_the_experiment(
    tmp_path: Path, images: NDArray[np.uint16]
) -> None:
    """A stream that was stored as one TIFF opens, and is counted."""
    folder = write_experiment(
        tmp_path / "run",
        CaptureMode={"mode": 1},
        LSM={"pixelX": X, "pixelY": Y, "channel": 1, "frameRate": 30},
        Streaming={"frames": T, "rawData": 2},
    )
    tifffile.imwrite(folder / "Image_001_001.tif", images[:, 0, 0], photometric="minisblack")
    np.testing.assert_array_equal(open_movie(folder)[:], images[:, 0, 0])
    tifffile.imwrite(folder / "Image_001_001.tif", images[:-1, 0, 0], photometric="minisblack")
    refused(folder, "holds 5 frames, but Experiment.xml announces 6")


def test_a_folder_of_one_recording_is_one_array(tmp_path: Path, images: NDArray[np.uint16]) -> None:
    """Commands that take folders make one array of each recording, whatever its number of files."""
    night = tmp_path / "night"
    bruker = write_bruker(night / "TSeries-001", images[:, :1, :1])
    (bruker / "References").mkdir()
    tifffile.imwrite(bruker / "References" / "field.tif", images[0, 0, 0])
    thor = write_thor_raw(night / "thor", images[:, :1, :1])
    scanbox = write_scanbox(night / "m_000_001.sbx", images[:, :1, :1])
    found = find_recordings(night)
    assert sorted(found) == sorted([bruker, thor, scanbox])
    names = {store.name for _, store in pair_names([night], tmp_path / "out", ".zarr", [])}
    assert names == {"TSeries-001.zarr", "thor.zarr", "m_000_001.zarr"}
    # Another recording below it is one more.
    np.save(bruker / "extra.npy", images[:, 0, 0])
    assert sorted(find_recordings(bruker)) == sorted([bruker, bruker / "extra.npy"])
    names = {store.name for _, store in pair_names([bruker], tmp_path / "out", ".zarr", [])}
    assert names == {"TSeries-001.zarr", "extra.zarr"}


def test_an_old_experiment_that_says_little_is_read_by_its_size(
    tmp_path: Path, images: NDArray[np.uint16]
) -> None:
    """Without capture mode and channel mask, the names of the channels and the size of the file decide."""
    folder = write_experiment(
        tmp_path / "run",
        LSM={"pixelX": X, "pixelY": Y, "frameRate": 30},
        Streaming={"frames": T, "zFastEnable": 0, "flybackFrames": 1},
        ZStage={"steps": 5},
        Wavelengths__Wavelength=[{"name": "ChanA"}, {"name": "ChanB"}],
    )
    (folder / "Image_0001_0001.raw").write_bytes(images[:, 0].tobytes())
    np.testing.assert_array_equal(open_movie(folder, channel=1)[:], images[:, 0, 1])


def test_a_folder_of_scanbox_with_other_recordings_is_asked_about(
    tmp_path: Path, images: NDArray[np.uint16]
) -> None:
    """An .sbx beside a TIFF is not the whole folder; its .mat stands for it."""
    path = write_scanbox(tmp_path / "a.sbx", images[:, :1, :1])
    np.testing.assert_array_equal(open_movie(path.with_suffix(".mat"))[:], images[:, 0, 0])
    np.testing.assert_array_equal(open_movie(tmp_path)[:], images[:, 0, 0])
    tifffile.imwrite(tmp_path / "b.tif", images[:, 0, 0], photometric="minisblack")
    with pytest.raises(ValueError, match=r"holds a\.sbx and b\.tif"):
        open_movie(tmp_path)


def test_bruker_tiffs_with_ome_xml_are_read_by_the_prairie_xml(
    tmp_path: Path, images: NDArray[np.uint16]
) -> None:
    """The OME-XML of the first file, and the references in the others, change nothing."""
    folder = write_bruker(tmp_path / "b", images[:, :1])
    names = sorted(file.name for file in folder.glob("*.tif"))
    for name in names:
        reference = f'<BinaryOnly MetadataFile="{names[0]}" UUID="urn:uuid:1" />'
        text = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2013-06">{reference}</OME>'
        pixels = tifffile.imread(folder / name, is_ome=False)
        tifffile.imwrite(folder / name, pixels, description=text, metadata=None, photometric="minisblack")
    for channel in range(C):
        np.testing.assert_array_equal(open_movie(folder, channel=channel)[:], images[:, 0, channel])


def test_the_xml_itself_opens_the_recording(tmp_path: Path, images: NDArray[np.uint16]) -> None:
    """The description stands for the recording as its folder does; a foreign XML is none."""
    bruker = write_bruker(tmp_path / "b", images[:, :1, :1])
    np.testing.assert_array_equal(open_movie(bruker / "b.xml")[:], images[:, 0, 0])
    thor = write_thor_raw(tmp_path / "t", images[:, :1, :1])
    np.testing.assert_array_equal(open_movie(thor / "Experiment.xml")[:], images[:, 0, 0])
    with pytest.raises(ValueError, match="cannot tell what"):
        open_movie(bruker / "b_VRecording.xml")
