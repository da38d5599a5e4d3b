"""Formats of microscopes that libraries read: the frames are the library's own, and none is made up.

Real files are found in packages that ship some, where these are installed, and in the folder that
``ANSCOMBE_VENDOR_FILES`` names. What has no file there is written by the library, or by the few bytes that
the format's description asks for.
"""

from __future__ import annotations

import importlib.util
import os
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anscombe_transform.movies import IncompleteRecordingError, Movie, open_movie
from anscombe_transform.movies.readers.microscopes.libraries import FORMATS

T, Y, X = 5, 24, 32


@pytest.fixture
def frames(rng: np.random.Generator) -> NDArray[np.uint16]:
    """A movie whose frames all differ."""
    return rng.integers(0, 4000, (T, Y, X)).astype(np.uint16)


# --- real files --------------------------------------------------------------------------------------------


def _sif(path: Path) -> NDArray[Any]:
    import sif_parser

    return sif_parser.np_open(str(path))[0]


def _mrc(path: Path) -> NDArray[Any]:
    import mrcfile

    with mrcfile.open(path) as file:
        return np.array(file.data)


def _dicom(path: Path) -> NDArray[Any]:
    import pydicom

    return pydicom.dcmread(path).pixel_array


def _ptu(path: Path) -> NDArray[Any]:
    import ptufile

    with ptufile.PtuFile(path) as file:
        return file.decode_image(channel=0, dtime=-1, dtype="uint32")[..., 0, 0]


def _ims(path: Path) -> NDArray[Any]:
    import h5py

    with h5py.File(path) as file:
        width, height, depth = (
            int(b"".join(file["DataSetInfo/Image"].attrs[axis]).decode()) for axis in "XYZ"
        )
        return file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data"][:depth, :height, :width]


# By suffix: what reads the whole file without this package, and how the file is opened as a movie.
OWN: dict[str, tuple[Callable[[Path], NDArray[Any]], dict[str, Any]]] = {
    ".sif": (_sif, {}),
    ".mrc": (_mrc, {"axes": "tyx"}),
    ".map": (_mrc, {"axes": "tyx"}),
    ".dcm": (_dicom, {}),
    ".ptu": (_ptu, {"channel": 0}),
    ".ims": (_ims, {"axes": "qctyx", "channel": 0}),
}
# Packages that ship files of a format, to be installed without what they need: pip install --no-deps NAME.
SHIPPED = {
    "echelle_spectra": ("*.sif", "*.SIF"),  # MIT
    "napari_flim_phasor_plotter": ("*.ptu",),  # BSD-3
    "pydicom": ("rtdose.dcm", "rtdose_rle.dcm", "rtdose_expb.dcm", "MR_small.dcm", "CT_small.dcm"),  # MIT
}


def _real_files() -> list[Path]:
    places = [Path(os.environ["ANSCOMBE_VENDOR_FILES"])] if "ANSCOMBE_VENDOR_FILES" in os.environ else []
    found = [file for place in places for file in place.rglob("*") if file.suffix.lower() in OWN]
    for package, patterns in SHIPPED.items():
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            found += [file for pattern in patterns for file in Path(place).rglob(pattern)]
    return sorted(found)


REAL = _real_files()


@pytest.mark.skipif(not REAL, reason="no real files: pip install --no-deps echelle-spectra, or pydicom")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_a_real_file_is_what_its_library_reads(path: Path) -> None:
    """A real file opens with the values of its own library, or is refused in a sentence."""
    form = next(form for form in FORMATS if path.suffix.lower() in form.suffixes)
    pytest.importorskip(form.library)
    read, options = OWN[path.suffix.lower()]
    try:
        movie = open_movie(path, **options)
    except ValueError as refused:
        # Single images, colours, reports and damaged files are no movies.
        pytest.skip(f"is refused: {refused}")
    wanted = read(path).reshape(movie.shape)
    np.testing.assert_array_equal(movie[:], wanted)
    np.testing.assert_array_equal(movie[-1, 1:, ::2], wanted[-1, 1:, ::2])
    assert movie.metadata["format"] == form.name
    movie.close()


# --- files that a library, or a few bytes, make ------------------------------------------------------------


def write_mrc(path: Path, frames: NDArray[np.uint16]) -> Path:
    """An image stack."""
    mrcfile = pytest.importorskip("mrcfile")
    with mrcfile.new(path) as file:
        file.set_data(frames)
        file.set_image_stack()
    return path


def write_ptu(path: Path, frames: NDArray[np.uint16]) -> Path:
    """Photons in one bin of the delay."""
    ptufile = pytest.importorskip("ptufile")
    counts = (frames % 4).astype("uint8")[:, :, :, None, None]
    ptufile.imwrite(path, counts, 25e-9, 1e-9, 2e-5)
    return path


def write_dicom(path: Path, frames: NDArray[np.uint16]) -> Path:
    """A multi-frame image of one sample."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7.3"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    file.NumberOfFrames, file.Rows, file.Columns = frames.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = 16
    file.HighBit, file.PixelRepresentation = 15, 0
    file.FrameTime = "40"
    file.PixelData = frames.astype("<u2").tobytes()
    pydicom.dcmwrite(path, file, enforce_file_format=True)
    return path


def write_sif(path: Path, frames: NDArray[np.uint16]) -> Path:
    """The lines of a header of version 65559, each where the reader looks for it, and float32 frames."""
    count, height, width = frames.shape
    numbers = " ".join(["0"] * 16)
    lines = [
        b"Andor Technology Multi-Channel File\n65538 1\n",
        b"65559 0 0 1 1540956289 -70.0 " + b" " * 10 + b"0 0.05 0.1 0.1 1 \0 0.1 1e-06 0 1 300.0 0 0 0.0 ",
        numbers.encode() + b" 0 rest\n",
        b"DU897_BV\n",
        f"{width} {height} 5\n".encode() + b"a.sif \n65538 4\nuser\n65538 " + b" " * 8 + b"0 0\n",
    ]
    body = b"".join(lines)
    body += b"x\n" * 8 + b"0 none\n65539 \n" + b"0 1 0 0\n" * 2 + b"0\n422\n13\n13\n"
    for text in (b"Pixel number", b"Counts", b"Pixel number"):
        body += str(len(text)).encode() + b"\n" + text
    body += (
        f"65541 1 {height} {width} 1 {count} 1 {count * width * height} {width * height} "
        f"65538 1 {height} {width} 1 1 1\n".encode()
    )
    path.write_bytes(body + b"0\n" * (count + 1) + frames.astype("<f4").tobytes())
    return path


def write_spe(path: Path, frames: NDArray[np.uint16], *, version: float = 2.5, footer: int = 0) -> Path:
    """A header of 4100 bytes; in version 3 metadata behind each frame, and an XML that says so."""
    header = bytearray(4100)
    struct.pack_into("<H", header, 42, X)
    struct.pack_into("<h", header, 108, 3)
    struct.pack_into("<H", header, 656, Y)
    struct.pack_into("<i", header, 1446, len(frames))
    struct.pack_into("<f", header, 1992, version)
    body = b"".join(frame.astype("<u2").tobytes() + b"\7" * footer for frame in frames)
    xml = b""
    if version >= 3:
        struct.pack_into("<Q", header, 678, 4100 + len(body))
        xml = (
            '<SpeFormat version="3.0" xmlns="http://www.princetoninstruments.com/spe/2009"><DataFormat>'
            f'<DataBlock type="Frame" count="{len(frames)}" stride="{Y * X * 2 + footer}" size="{Y * X * 2}">'
            f'<DataBlock type="Region" count="1" width="{X}" height="{Y}" size="{Y * X * 2}" '
            f'stride="{Y * X * 2}" /></DataBlock></DataFormat></SpeFormat>'
        ).encode()
    path.write_bytes(bytes(header) + body + xml)
    return path


def write_ims(path: Path, frames: NDArray[np.uint16]) -> Path:
    """Time points of one plane, padded to whole chunks, as Imaris pads them."""
    h5py = pytest.importorskip("h5py")

    def letters(text: str) -> NDArray[np.bytes_]:
        return np.array([letter.encode() for letter in text])

    with h5py.File(path, "w") as file:
        image = file.create_group("DataSetInfo/Image")
        for axis, length in (("X", X), ("Y", Y), ("Z", 1)):
            image.attrs[axis] = letters(str(length))
        for axis, end in (
            ("Min0", "0"),
            ("Max0", str(X / 2)),
            ("Min1", "0"),
            ("Max1", str(Y / 4)),
        ):
            image.attrs[f"Ext{axis}"] = letters(end)
        file.create_group("DataSetInfo/TimeInfo").attrs["FileTimePoints"] = letters(str(len(frames)))
        file.create_group("DataSetInfo/Channel 0").attrs["Name"] = letters("GCaMP")
        for time, frame in enumerate(frames):
            padded = np.zeros((2, Y + 8, X + 8), "u2")
            padded[0, :Y, :X] = frame
            file[f"DataSet/ResolutionLevel 0/TimePoint {time}/Channel 0/Data"] = padded
    return path


def write_lif(path: Path, frames: NDArray[np.uint16]) -> Path:
    """An XML in UTF-16 and one block of memory."""
    count = len(frames)
    channel = 'DataType="0" ChannelTag="0" Resolution="16" NameOfMeasuredQuantity="" Min="0" Max="1" Unit=""'
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="run" UniqueID="a"><Data><Image>'
        f'<ImageDescription><Channels><ChannelDescription {channel} LUTName="Gray" IsLUTInverted="0" '
        'BytesInc="0" BitInc="0" /></Channels><Dimensions>'
    )
    for number, length, extent, unit, step in (
        (1, X, 1e-5, "m", 2),
        (2, Y, 1e-5, "m", 2 * X),
        (4, count, 4, "s", 2 * X * Y),
    ):
        xml += (
            f'<DimensionDescription DimID="{number}" NumberOfElements="{length}" Origin="0" '
            f'Length="{extent}" Unit="{unit}" BytesInc="{step}" BitInc="0" />'
        )
    xml += (
        "</Dimensions></ImageDescription></Image></Data>"
        f'<Memory Size="{frames.nbytes}" MemoryBlockID="MemBlock_1" /><Children /></Element>'
        "</LMSDataContainerHeader>"
    )
    text, name = xml.encode("utf-16-le"), "MemBlock_1".encode("utf-16-le")
    header = struct.pack("<IIBI", 0x70, 5 + len(text), 0x2A, len(text) // 2) + text
    block = struct.pack("<IIBQBI", 0x70, 14 + len(name), 0x2A, frames.nbytes, 0x2A, len(name) // 2) + name
    path.write_bytes(header + block + frames.astype("<u2").tobytes())
    return path


def _segment(kind: bytes, content: bytes) -> bytes:
    padded = content + b"\0" * (-len(content) % 32)
    return struct.pack("<16sqq", kind, len(padded), len(padded)) + padded


def write_czi(
    path: Path, frames: NDArray[np.uint16], leave_out: int | None = None, per_phase: int | None = None
) -> Path:
    """A file header, a sub-block for each frame, and their directory; phases (H) of some frames each."""

    def entry(time: int, at: int) -> bytes:
        dimensions = b"".join(
            struct.pack("<4siifi", axis, start, size, 0.0, size)
            for axis, start, size in (
                (b"X", 0, X),
                (b"Y", 0, Y),
                (b"C", 0, 1),
                (b"T", time % (per_phase or len(frames)), 1),
                (b"H", time // (per_phase or len(frames)), 1),
            )
        )
        return struct.pack("<2siqiiBB4si", b"DV", 1, at, 0, 0, 0, 0, b"", 5) + dimensions

    def header(directory: int) -> bytes:
        content = struct.pack("<iiii16s16siqqiq", 1, 0, 0, 0, b"a" * 16, b"b" * 16, 0, directory, 0, 0, 0)
        return _segment(b"ZISRAWFILE", content + b"\0" * (512 - len(content)))

    blocks, entries = b"", []
    start = len(header(0))
    for time, frame in enumerate(frames):
        if time == leave_out:
            continue
        at = start + len(blocks)
        entries.append(entry(time, at))
        pixels = frame.astype("<u2").tobytes()
        head = struct.pack("<iiq", 0, 0, len(pixels)) + entries[-1]
        blocks += _segment(b"ZISRAWSUBBLOCK", head + b"\0" * (256 - len(head)) + pixels)
    directory = struct.pack("<i124x", len(entries)) + b"".join(entries)
    path.write_bytes(header(start + len(blocks)) + blocks + _segment(b"ZISRAWDIRECTORY", directory))
    return path


def write_oif(path: Path, frames: NDArray[np.uint16]) -> Path:
    """A text of settings in UTF-16 beside a folder of TIFFs."""
    tifffile = pytest.importorskip("tifffile")
    axes = [("X", X), ("Y", Y), ("C", 1), ("T", len(frames)), ("Z", 1), ("A", 0), ("B", 0), ("P", 0)]
    text = '[Version Info]\nFileVersion="2.0.0.0"\n[ProfileSaveInfo]\nName="run"\nVersion="2"\n'
    text += '[Axis Parameter Common]\nAxisCount=8\nAxisOrder="XYT"\n'
    for number, (code, size) in enumerate(axes):
        text += f'[Axis {number} Parameters Common]\nAxisCode="{code}"\nMaxSize={size}\n'
    text += "[Reference Image Parameter]\nValidBitCounts=12\n"
    path.write_bytes(b"\xff\xfe" + text.replace("\n", "\r\n").encode("utf-16-le"))
    folder = path.with_name(path.name + ".files")
    folder.mkdir()
    for time, frame in enumerate(frames, 1):
        tifffile.imwrite(folder / f"s_C001T{time:03d}.tif", frame, metadata=None)
    return path


Write = Callable[[Path, NDArray[np.uint16]], Path]
WRITERS: dict[str, Write] = {
    ".mrc": write_mrc,
    ".ptu": write_ptu,
    ".dcm": write_dicom,
    ".sif": write_sif,
    ".spe": write_spe,
    ".ims": write_ims,
    ".lif": write_lif,
    ".czi": write_czi,
    ".oif": write_oif,
}


def _open_written(suffix: str, folder: Path, frames: NDArray[np.uint16]) -> tuple[Movie, NDArray[Any]]:
    for form in FORMATS:
        if suffix in form.suffixes:
            pytest.importorskip(form.library)
    path = WRITERS[suffix](folder / f"run{suffix}", frames)
    wanted = frames % 4 if suffix == ".ptu" else frames
    return open_movie(path), wanted


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_written_file_is_the_movie(suffix: str, tmp_path: Path, frames: NDArray[np.uint16]) -> None:
    """Every format gives the frames that were written, whole and in parts."""
    movie, wanted = _open_written(suffix, tmp_path, frames)
    with movie:
        assert movie.shape == (T, Y, X)
        np.testing.assert_array_equal(movie[:], wanted)
        np.testing.assert_array_equal(movie[1:4:2, 3:, 5:9], wanted[1:4:2, 3:, 5:9])
        np.testing.assert_array_equal(movie[-1], wanted[-1])


@pytest.mark.parametrize("suffix", [s for s in WRITERS if s not in (".spe", ".oif", ".ims", ".lif", ".dcm")])
def test_the_first_bytes_decide(suffix: str, tmp_path: Path, frames: NDArray[np.uint16]) -> None:
    """A file without its suffix is what its first bytes say."""
    movie, wanted = _open_written(suffix, tmp_path, frames)
    movie.close()
    renamed = (tmp_path / f"run{suffix}").rename(tmp_path / "recording")
    np.testing.assert_array_equal(open_movie(renamed)[:], wanted)


@pytest.mark.parametrize("suffix", [s for s in WRITERS if s not in (".ptu", ".oif", ".ims")])
def test_a_file_cut_short_is_an_error(suffix: str, tmp_path: Path, frames: NDArray[np.uint16]) -> None:
    """A file that ends before its last frame is refused when it is opened or, at the latest, read."""
    movie, _ = _open_written(suffix, tmp_path, frames)
    movie.close()
    path = tmp_path / f"run{suffix}"
    # Directories and footers lie behind the frames of some formats.
    path.write_bytes(path.read_bytes()[: -X * Y * 3])
    with pytest.raises(ValueError, match="run"):
        open_movie(path)[:]


def test_frames_that_were_never_written_are_not_made_up(tmp_path: Path, frames: NDArray[np.uint16]) -> None:
    """Libraries fill with zeros what a file announces and lacks; here it is refused, or left out."""
    pytest.importorskip("czifile")
    pytest.importorskip("oiffile")
    czi = write_czi(tmp_path / "a.czi", frames, leave_out=2)
    oif = write_oif(tmp_path / "a.oif", frames)
    (tmp_path / "a.oif.files" / "s_C001T003.tif").unlink()
    for path in (czi, oif):
        with pytest.raises(IncompleteRecordingError, match="misses 1 of the 5 frames"):
            open_movie(path)
        with open_movie(path, partial=True) as movie:
            np.testing.assert_array_equal(movie[:], np.delete(frames, 2, axis=0))
            assert "misses 1" in movie.metadata["partial"][0]
    (tmp_path / "a.oif.files" / "s_C001T005.tif").unlink()
    with pytest.raises(IncompleteRecordingError, match=r"images along t and holds 4|misses 2 of the 5"):
        open_movie(oif)


class _Nikon:
    """As ``nd2.ND2File``: two positions and two channels, of which one frame was never written."""

    def __init__(self, path: Path) -> None:
        del path
        self.sizes = {"T": T, "P": 2, "C": 2, "Y": Y, "X": X}
        self.dtype = np.dtype("uint16")
        self.metadata = SimpleNamespace(
            channels=[SimpleNamespace(channel=SimpleNamespace(name=name)) for name in ("GFP", "RFP")]
        )
        self._rdr = SimpleNamespace(_frame_offsets={n: 8 for n in range(2 * T) if n != 5})
        self.text_info = {"date": "5/17/2024"}
        self.experiment = [SimpleNamespace(type="TimeLoop", parameters=SimpleNamespace(periodMs=50.0))]

    def read_frame(self, number: int) -> NDArray[np.uint16]:
        """Values that tell position, time and channel; zeros of a frame that was never written."""
        written = number in self._rdr._frame_offsets
        return written * np.stack([np.full((Y, X), 100 * c + number + 1, "uint16") for c in range(2)])

    def voxel_size(self) -> SimpleNamespace:
        """In micrometres."""
        return SimpleNamespace(x=0.5, y=0.25, z=1.0)

    def close(self) -> None:
        """Nothing is open."""


def test_nd2_positions_are_asked_about_and_lost_frames_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a Nikon file one position is chosen; a frame that the library would fill with zeros is left out."""
    nd2 = pytest.importorskip("nd2")
    monkeypatch.setattr(nd2, "ND2File", _Nikon)
    path = tmp_path / "a.nd2"
    path.write_bytes(b"\xda\xce\xbe\n" + bytes(1000))
    with pytest.raises(ValueError, match=r"2 images: position 0, position 1\. Say which: series=0"):
        open_movie(path, channel="RFP")
    movie = open_movie(path, channel="RFP", series=0)
    assert movie[:, 0, 0].tolist() == [100 + 2 * t + 1 for t in range(T)]
    assert movie.metadata["frame_rate"] == 20
    assert movie.metadata["pixel_size"] == {"y": 0.25, "x": 0.5}
    with pytest.raises(IncompleteRecordingError, match=r"misses 1 of the 5 frames .* first is 2"):
        open_movie(path, channel=0, series=1)
    partial = open_movie(f"{path}::1", channel=0, partial=True)
    assert partial[:, 0, 0].tolist() == [2 * t + 2 for t in range(T) if t != 2]


def test_axes_without_an_option_are_chosen_in_the_name(tmp_path: Path, frames: NDArray[np.uint16]) -> None:
    """An axis that is neither time, channel nor plane takes an index after the name."""
    pytest.importorskip("czifile")
    path = write_czi(tmp_path / "a.czi", frames[:4], per_phase=2)
    with pytest.raises(ValueError, match="::H=0"):
        open_movie(path)
    np.testing.assert_array_equal(open_movie(f"{path}::H=1")[:], frames[2:4])


def test_an_imaris_file_without_a_time_point_is_incomplete(
    tmp_path: Path, frames: NDArray[np.uint16]
) -> None:
    """A time point that is announced and absent is missing, not the end."""
    h5py = pytest.importorskip("h5py")
    path = write_ims(tmp_path / "a.ims", frames)
    with h5py.File(path, "a") as file:
        del file["DataSet/ResolutionLevel 0/TimePoint 1"]
    with pytest.raises(IncompleteRecordingError, match="misses 1 of the 5 frames"):
        open_movie(path)
    movie = open_movie(path, partial=True)
    np.testing.assert_array_equal(movie[:], np.delete(frames, 1, axis=0))
    assert movie.metadata["pixel_size"] == {"y": 0.25, "x": 0.5}
    assert movie.metadata["channel_names"] == ["GCaMP"]


def test_spe_of_version_3_has_metadata_between_frames(tmp_path: Path, frames: NDArray[np.uint16]) -> None:
    """The XML of version 3 says how far frames lie apart."""
    path = write_spe(tmp_path / "a.spe", frames, version=3.0, footer=24)
    np.testing.assert_array_equal(open_movie(path)[:], frames)
    old = write_spe(tmp_path / "b.spe", frames)
    old.write_bytes(old.read_bytes()[:-7])
    with pytest.raises(IncompleteRecordingError, match="cut short"):
        open_movie(old)
    np.testing.assert_array_equal(open_movie(old, partial=True)[:], frames[:-1])


def test_a_library_that_is_absent_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its library, a format says which one and how to install it."""
    import sys

    monkeypatch.setitem(sys.modules, "nd2", None)
    path = tmp_path / "a.nd2"
    path.write_bytes(b"\xda\xce\xbe\n" + bytes(1000))
    with pytest.raises(ModuleNotFoundError, match=r'nd2.*"anscombe-transform\[formats\]"'):
        open_movie(path)
    (tmp_path / "a.oir").write_bytes(b"OLYMPUSRAWFORMAT" + bytes(100))
    with pytest.raises(ValueError, match=r"bioio and its plug-in for \.oir"):
        open_movie(tmp_path / "a.oir")
