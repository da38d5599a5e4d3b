"""Writers of recordings as Prairie View, ThorImage and Scanbox lay them out, apart from the readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray

tifffile = pytest.importorskip("tifffile")


def write_bruker(
    folder: Path,
    images: NDArray[np.uint16],
    *,
    volumes: bool = False,
    both_ways: bool = False,
    positions: bool = True,
    cycles: int = 1,
    pages_per_file: int = 1,
) -> Path:
    """Write images ``(time, z, channel, y, x)``; with `both_ways` every other volume backwards."""
    folder.mkdir(parents=True, exist_ok=True)
    name = folder.name
    moments, planes, channels = images.shape[:3]
    kind = "TSeries ZSeries Element" if volumes else "TSeries Brightness Over Time Element"
    groups = [[(t, z) for z in range(planes)] for t in range(moments)]
    if both_ways:
        groups = [group[::-1] if number % 2 else group for number, group in enumerate(groups)]
    if not volumes:
        flat = [place for group in groups for place in group]
        groups = [[flat[i] for i in part] for part in np.array_split(np.arange(len(flat)), cycles)]
    xml = [
        '<?xml version="1.0" encoding="utf-8"?>',
        '<PVScan version="5.5.64.600" date="5/17/2024 1:07:42 PM" notes="">',
        '<SystemIDs SystemID="1234"><SystemID SystemID="1234" Description="" /></SystemIDs>',
        '<PVStateShard><PVStateValue key="bitDepth" value="13" />'
        '<PVStateValue key="framePeriod" value="0.05" />'
        '<PVStateValue key="micronsPerPixel"><IndexedValue index="XAxis" value="1.25" />'
        '<IndexedValue index="YAxis" value="1.5" /></PVStateValue></PVStateShard>',
    ]
    stacks: dict[str, list[NDArray[np.uint16]]] = {}
    moment = 0
    for cycle, group in enumerate(groups, 1):
        xml.append(
            f'<Sequence type="{kind}" cycle="{cycle}" time="13:07:42" bidirectionalZ="{both_ways}">'
            "<PVStateShard />"
        )
        for index, (t, z) in enumerate(group, 1):
            xml.append(
                f'<Frame relativeTime="{moment * 0.05}" absoluteTime="{2 + moment * 0.05}" index="{index}">'
            )
            moment += 1
            for channel in range(channels):
                part, page = divmod(index - 1, pages_per_file)
                file = f"{name}_Cycle{cycle:05d}_Ch{channel + 1}_{part + 1:06d}.ome.tif"
                stacks.setdefault(file, []).append(images[t, z, channel])
                xml.append(
                    f'<File channel="{channel + 1}" channelName="Ch{channel + 1}" page="{page + 1}" '
                    f'filename="{file}" />'
                )
            xml.append('<ExtraParameters lastGoodFrame="0" /><PVStateShard>')
            if positions:
                xml.append(
                    '<PVStateValue key="positionCurrent"><SubindexedValues index="ZAxis">'
                    f'<SubindexedValue subindex="0" value="{10 * z}" /></SubindexedValues></PVStateValue>'
                )
            xml.append("</PVStateShard></Frame>")
        xml.append("</Sequence>")
    (folder / f"{name}.xml").write_text("\n".join([*xml, "</PVScan>"]), encoding="utf-8")
    (folder / f"{name}_VRecording.xml").write_text("<VRecSessionEntry />", encoding="utf-8")
    for file, pages in stacks.items():
        with tifffile.TiffWriter(folder / file) as writer:
            for page in pages:
                writer.write(page, metadata=None, contiguous=False, photometric="minisblack")
    return folder


def write_experiment(folder: Path, **elements: dict[str, Any]) -> Path:
    """Write an ``Experiment.xml``; a double underscore stands for an element inside another."""
    folder.mkdir(parents=True, exist_ok=True)
    inner: dict[str, list[str]] = {}
    for name, attributes in elements.items():
        outer, _, child = name.partition("__")
        if child:
            entries = attributes if isinstance(attributes, list) else [attributes]
            inner.setdefault(outer, []).extend(f"<{child} {_written(entry)} />" for entry in entries)
        else:
            inner.setdefault(outer, []).insert(0, _written(attributes))
    body = []
    for name, parts in inner.items():
        own = "" if parts[0].startswith("<") else parts.pop(0)
        body.append(f"<{name} {own}>{''.join(parts)}</{name}>")
    text = f'<?xml version="1.0"?>\n<ThorImageExperiment>{"".join(body)}</ThorImageExperiment>'
    (folder / "Experiment.xml").write_text(text, encoding="utf-8")
    return folder


def _written(attributes: dict[str, Any]) -> str:
    return " ".join(f'{name}="{value}"' for name, value in attributes.items())


def write_thor_raw(
    folder: Path,
    images: NDArray[np.uint16],
    *,
    flyback: int = 0,
    all_channels: bool = False,
    announced: int | None = None,
) -> Path:
    """Write a stream of images ``(time, z, channel, y, x)``; frames of the way back are 9."""
    moments, planes, channels = images.shape[:3]
    size = images.shape[3:]
    frames = [frame for volume in images for frame in [*volume, *([np.full_like(volume[0], 9)] * flyback)]]
    write_experiment(
        folder,
        Name={"name": "run"},
        Date={"date": "05/17/2024 13:07:42", "uTime": "1715951262"},
        Software={"version": "4.1.2020.7281"},
        CaptureMode={"mode": 1},
        ExperimentStatus={"value": "Complete"},
        Modality={"primaryDetectorType": 1},
        LSM={
            "pixelX": size[1],
            "pixelY": size[0],
            "channel": 2**channels - 1,
            "frameRate": 30.0,
            "pixelSizeUM": 0.8,
            "averageMode": 0,
            "averageNum": 4,
        },
        Streaming={
            "enable": 1,
            "frames": len(frames) if announced is None else announced,
            "rawData": 1,
            "zFastEnable": int(planes > 1),
            "flybackFrames": flyback,
        },
        ZStage={"steps": planes, "enable": int(planes > 1)},
        Timelapse={"timepoints": moments},
        Wavelengths__Wavelength=[{"name": f"Chan{'ABCD'[i]}"} for i in range(channels)],
        Wavelengths__ChannelEnable={"Set": 2**channels - 1},
        RawData={"onlyEnabledChannels": int(not all_channels)},
    )
    with (folder / "Image_0001_0001.raw").open("wb") as file:
        for frame in frames:
            rest = 4 - channels if all_channels else 0
            file.write(np.concatenate([frame, np.zeros((rest, *size), "u2")]).astype("<u2").tobytes())
    return folder


def write_thor_tiffs(folder: Path, images: NDArray[np.uint16]) -> Path:
    """Write a time lapse of images ``(time, z, channel, y, x)``, a TIFF for each."""
    moments, planes, channels = images.shape[:3]
    write_experiment(
        folder,
        CaptureMode={"mode": 0},
        LSM={"pixelX": images.shape[4], "pixelY": images.shape[3], "channel": 2**channels - 1},
        ZStage={"steps": planes, "enable": int(planes > 1)},
        Timelapse={"timepoints": moments},
        Wavelengths__Wavelength=[{"name": f"Chan{'ABCD'[i]}"} for i in range(channels)],
    )
    for t, z, c in np.ndindex(images.shape[:3]):
        tifffile.imwrite(
            folder / f"Chan{'ABCD'[c]}_001_001_{z + 1:03d}_{t + 1:03d}.tif", images[t, z, c], metadata=None
        )
    tifffile.imwrite(folder / "ChanA_Preview.tif", images[0, 0, 0], metadata=None)
    return folder


def write_scanbox(path: Path, images: NDArray[np.uint16], *, version: int = 2, **info: Any) -> Path:
    """Write images ``(time, z, channel, y, x)`` upside down, the channels pixel by pixel."""
    moments, planes, channels, height, width = images.shape
    stored = 65535 - images.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
    path.write_bytes(stored.astype("<u2").tobytes())
    described: dict[str, Any] = {
        "scanbox_version": version,
        "resfreq": 7930.0,
        "sz": np.array([height, width]),
        "recordsPerBuffer": height // 2,
        "scanmode": 0,
        "config": {"lines": float(height), "frames": moments * planes, "magnification": 2},
        "objective": "Nikon_16x_08w",
        "volscan": int(planes > 1),
        "otwave": np.arange(planes) if planes > 1 else np.array([]),
    }
    described |= {"chan": {"nchan": channels}} if version == 3 else {"channels": 1 if channels == 2 else 2}
    scipy.io.savemat(path.with_suffix(".mat"), {"info": described | info})
    return path
