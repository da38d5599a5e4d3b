"""Additive sufficient statistics of a movie's noise.

For a space-time filter with weights w, Σw = 0, and residual r = Σ wⱼ xⱼ of samples with independent noise,

    E[r²] / Σw²  =  g · (Σ wⱼ² μⱼ / Σw² − x₀)  +  structure²                                (second moment)
    E[r³] / Σw³  =  ρ₃ g² · (Σ wⱼ³ μⱼ / Σw³ − z)                                            (third cumulant)

with g the gain, x₀ the mean at which the variance vanishes, z the zero level and ρ₃ = 1 for a detector that
answers every photon alike. `NoiseStatistics` adds up both sides for four filters that differ in how much
structure of the scene they cancel:

    t    [1, −2, 1] in time                     static structure
    ty   the same, and [1, −2, 1] along y       and slow changes along y: flicker, drift, activity
    tx   the same along x
    txy  along both

The movie is cut into segments of 24 frames, each into two halves, the field into tiles of 8 × 8 pixels, and a
tile's pixels into 4 classes by the mean of their four diagonal neighbours in the *other* half: an instrument
with noise independent of the residuals', and without a fixed offset of a pixel that the filters t, ty and tx
take in. One row of sums per (tile, half, class) is all that the estimate needs, so statistics of parts of a
movie, from chunks of a file or from workers of a cluster, are merged by putting their rows together.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from anscombe_transform import native
from anscombe_transform.calibration.sums.shared import SharedNoise
from anscombe_transform.native.arrays import Bools, Floats, Integers
from anscombe_transform.native.reference_noise import CLASSES as CLASSES
from anscombe_transform.native.reference_noise import COLUMNS, LEAST_HALVED
from anscombe_transform.native.reference_noise import TILE as TILE
from anscombe_transform.native.work import Threads

Filter = Literal["t", "ty", "tx", "txy"]

SEGMENT_FRAMES = 24

# Rows kept before neighbouring segments are added together: 130,000 rows of 21 numbers are 22 MB.
_MOST_ROWS = 130_000
_FEWEST_GROUPS = 2
_MOST_PLACES = 8192
# Memory for the copy of the part of a segment that is worked on, or for its rows.
_BAND_BYTES = 1 << 20
# Of the four classes of a tile.
_ROW_BYTES = CLASSES * len(COLUMNS) * 8
# Memory of a kind that a thread keeps for the next segment, at most.
_MOST_KEPT_BYTES = 32 << 20
# Segments in which shared noise is looked for.
_MOST_EXAMINED = 5
# Pixels along a side that tell how neighbouring frames differ.
_STEPPED = 64
# Frames from which on pixels that never change are blank, and not alike by chance.
_LEAST_STILL = 12


class MovieLike(Protocol):
    """Anything of shape (time, y, x) that slices along time: numpy, zarr, h5py, dask, `open_movie`."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def dtype(self) -> Any: ...  # noqa: D102
    def __getitem__(self, index: Any, /) -> Any: ...


@dataclass(frozen=True)
class Table:
    """Rows of sums (row, column), the columns by name, and the labels (row, 3) of each row.

    See `anscombe_transform.native.reference_noise.sum_noise` for the columns. `blank` are the tiles that a
    filter takes a blank pixel into, see `NoiseStatistics.blank_tiles`.
    """

    rows: Floats
    labels: Integers
    tiles: int
    blank: Bools

    def __len__(self) -> int:
        return len(self.rows)

    def _column(self, name: str) -> Floats:
        return self.rows[:, COLUMNS.index(name)]

    @property
    def n(self) -> Floats:
        """Residuals added into each row."""
        return self._column("n")

    def mean(self, name: str) -> Floats:
        """Mean of a column over the residuals of each row."""
        return self._column(name) / self.n

    def mean_of(self, name: Filter, x: Literal["x", "x3"] = "x") -> Floats:
        """Mean that belongs to the squares, or cubes, of a filter, without the diagonal neighbours.

        Those are the instrument, and the strongest filter takes them in: see `sum_noise`.
        """
        if name == "txy":
            return self.mean(f"{x}_ty") + self.mean(f"{x}_tx") - self.mean(f"{x}_t")
        return self.mean(f"{x}_{name}")

    def label(self, name: Literal["tile", "segment", "brightness"]) -> Integers:
        """Number of the tile, of the half segment or of the class of each row."""
        return self.labels[:, ("tile", "segment", "brightness").index(name)]


class NoiseStatistics:
    """Sums over a movie from which its noise is read; they add up over parts of the movie.

    Parameters
    ----------
    frame_shape : (int, int)
        Height and width of the frames, at least 10 × 10 pixels.
    segment_frames : int
        Frames of a segment, ≥ 2. Segment k is made of frames ``k · segment_frames`` and on. From 6 frames on,
        a segment is cut into two halves, and in each a pixel is sorted by its neighbours in the other;
        a shorter one is used whole.
    floor, ceiling : float
        Values at which the detector was cut off; samples there are counted. Infinite: none.
    step : float
        Common step of all values, ≥ 0; 0: none.
    mask : ndarray of bool, shape (y, x), optional
        True where pixels may be used. Tiles that a pixel of False lies in, or next to, are left out.
    threads : int
        Parts of a frame worked on at once, ≥ 1. The sums do not depend on it.

    Examples
    --------
    >>> from anscombe_transform.simulation import simulate_movie
    >>> movie, truth = simulate_movie((32, 64, 64), rng=0)
    >>> first, second = NoiseStatistics((64, 64)), NoiseStatistics((64, 64))
    >>> first.update(movie[:20], start=0)
    >>> second.update(movie[20:], start=20)
    >>> first.merge(second).frames
    32
    """

    def __init__(
        self,
        frame_shape: tuple[int, int],
        *,
        segment_frames: int = SEGMENT_FRAMES,
        floor: float = -np.inf,
        ceiling: float = np.inf,
        step: float = 0.0,
        mask: Bools | None = None,
        threads: int = 1,
    ) -> None:
        height, width = frame_shape
        if min(height, width) < TILE + 2:
            raise ValueError(
                f"frames must be at least 10 × 10 pixels to be calibrated, got {height} × {width}"
            )
        if segment_frames < 2:
            raise ValueError(f"segment_frames must be >= 2, got {segment_frames}")
        self.frame_shape = (int(height), int(width))
        self.segment_frames = int(segment_frames)
        if threads < 1:
            raise ValueError(f"threads must be >= 1, got {threads}")
        self.floor, self.ceiling, self.step = float(floor), float(ceiling), float(step)
        self.threads = int(threads)
        tile_rows, self._place_columns = (height - 2) // TILE, (width - 2) // TILE
        # Of a very large field, tiles that lie above one another are joined into one place.
        self._joined = -(-tile_rows * self._place_columns // _MOST_PLACES)
        self._place_rows = -(-tile_rows // self._joined)
        self.tiles = self._place_rows * self._place_columns
        self._wanted = None if mask is None else _whole_tiles(mask, self.frame_shape)
        self._mask = mask
        # Segments in which noise that pixels or frames share is looked for; None: the fewer, the later.
        self._examined: frozenset[int] | None = None
        self.shared = SharedNoise(self.frame_shape)
        # Pixels that had one value in all frames of each segment.
        self._still = np.ones(self.frame_shape, bool)
        self.duplicates = 0
        self.not_finite = 0
        # Mean squared difference of frames one and two apart, added up over the segments.
        self.steps = np.zeros(2)
        self._level = 0
        self._finished: set[int] = set()
        # Rows (place row, half, place column, class, column) of each group of 2^level neighbouring segments,
        # by number.
        self._groups: dict[int, Floats] = {}
        # Those whose rows nobody else holds, so that more can be added in place.
        self._own: set[int] = set()
        self._pending: dict[int, dict[int, NDArray[Any]]] = {}

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles; of a very large field, of tiles joined along y."""
        return self._place_rows, self._place_columns

    @property
    def halved(self) -> bool:
        """Whether segments are cut into two halves."""
        return self.segment_frames >= LEAST_HALVED

    @property
    def _halves(self) -> int:
        return 2 if self.halved else 1

    @property
    def order(self) -> Literal[1, 2]:
        """Order of the difference in time: 2 for [1, −2, 1], 1 for [1, −1]."""
        return 2 if self.segment_frames >= 3 else 1

    @property
    def frames(self) -> int:
        """Frames taken in, those that wait for the rest of their segment included."""
        waiting = sum(len(part) for part in self._pending.values())
        return len(self._finished) * self.segment_frames + waiting

    @property
    def segments(self) -> int:
        """Complete segments."""
        return len(self._finished)

    def update(self, block: NDArray[Any], start: int) -> None:
        """Add consecutive frames.

        Parameters
        ----------
        block : ndarray, shape (time, y, x)
            Frames of any integer or float dtype. Segments that they begin or end wait until the rest of
            their frames arrives, here or by `merge`.
        start : int
            Number in the movie of the block's first frame.

        Raises
        ------
        ValueError
            The frames have another shape, or were added before.
        """
        block = np.asarray(block)
        if block.ndim != 3 or block.shape[1:] != self.frame_shape:
            height, width = self.frame_shape
            raise ValueError(f"block must have shape (time, {height}, {width}), got {block.shape}")
        length = self.segment_frames
        for segment in range(start // length, (start + len(block) - 1) // length + 1):
            first = max(start, segment * length)
            last = min(start + len(block), (segment + 1) * length)
            if segment in self._finished:
                raise ValueError(f"frames {first}..{last - 1} belong to a segment that was added before")
            part = block[first - start : last - start]
            if last - first == length:
                self._add_segment(segment, part)
            else:
                self._add_pending(segment, {first + i: frame.copy() for i, frame in enumerate(part)})

    def without_frames(self) -> NoiseStatistics:
        """Return empty statistics of the same settings, for another part of the movie."""
        other = NoiseStatistics(
            self.frame_shape,
            segment_frames=self.segment_frames,
            floor=self.floor,
            ceiling=self.ceiling,
            step=self.step,
        )
        other._wanted, other._level = self._wanted, self._level
        other._mask, other._examined = self._mask, self._examined
        return other

    def expect(self, segments: Iterable[int]) -> None:
        """Say which segments will be added, while there are none yet.

        Rows that would be added together in the end are so from the beginning, in every part that
        `without_frames` begins, which saves memory. The sums are the same. Shared noise, which takes
        longer to look for than the sums, is looked for in a few of them.
        """
        wanted = sorted(segments)
        few = np.linspace(0, len(wanted) - 1, min(len(wanted), _MOST_EXAMINED)).round().astype(int)
        self._examined = frozenset(wanted[k] for k in few.tolist())
        while self._exceeded_by(len({segment >> self._level for segment in wanted})):
            self._level += 1

    def __getstate__(self) -> dict[str, Any]:
        # What arrives in another process may lie in memory that is not to be written to.
        return self.__dict__ | {"_own": set()}

    def merge(self, other: NoiseStatistics) -> NoiseStatistics:
        """Add the statistics of another part of the same movie, and return self.

        Raises
        ------
        ValueError
            The other statistics were collected with other settings, or from the same frames.
        """
        for name in ("frame_shape", "segment_frames", "floor", "ceiling", "step"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise ValueError(f"cannot merge statistics of {name}={theirs!r} into ones of {name}={mine!r}")
        if not _same(self._wanted, other._wanted):
            raise ValueError("cannot merge statistics of another mask")
        both = self._finished & (other._finished | set(other._pending)) | other._finished & set(self._pending)
        if both:
            raise ValueError(f"both hold frames of segments {sorted(both)[:5]}: nothing may count twice")
        self._finished |= other._finished
        finer, coarser = sorted((self, other), key=lambda part: part._level)
        groups, shift = finer._groups, coarser._level - finer._level
        self._groups = dict(coarser._groups)
        own, self._own = self._own, self._own if coarser is self else set()
        for group in sorted(groups):
            self._add_to_group(group >> shift, groups[group], own=finer is self and group in own)
        # From now on some of its rows are ours as well.
        other._own = set()
        self.shared.merge(other.shared)
        self._still = self._still & other._still
        self.duplicates += other.duplicates
        self.not_finite += other.not_finite
        self.steps = self.steps + other.steps
        self._level = max(self._level, other._level)
        for segment, frames in other._pending.items():
            self._add_pending(segment, frames)
        self._coarsen()
        return self

    def table(self) -> Table:
        """Collect the rows, in an order that does not depend on the order in which they came."""
        shape = (len(self._groups), self._halves, *self.grid, CLASSES)
        rows = np.zeros((*shape, len(COLUMNS)))
        for number, group in enumerate(sorted(self._groups)):
            rows[number] = self._groups[group].swapaxes(0, 1)
        which_group, half, row, column, brightness = np.indices(shape, sparse=True)
        labels = np.empty((*shape, 3), np.intp)
        labels[..., 0] = row * self._place_columns + column
        labels[..., 1] = which_group * self._halves + half
        labels[..., 2] = brightness
        filled = rows[..., 0] > 0
        # All rows as a view, where none is empty: there are many.
        which = slice(None) if filled.all() else filled.ravel()
        flat, labels = rows.reshape(-1, len(COLUMNS))[which], labels.reshape(-1, 3)[which]
        return Table(flat, labels, self.tiles, self.blank_tiles())

    def blank_tiles(self) -> Bools:
        """Tiles with unchanging pixels in the reach of their filters: masked, padded, dead.

        Where photons are few, dark pixels may not change, here and there. Blank are areas of 3 × 3 of them,
        and those connected.
        """
        if self.segments * self.segment_frames < _LEAST_STILL or not self._still.any():
            return np.zeros(self.tiles, bool)
        from scipy.ndimage import binary_erosion, binary_propagation

        together = np.ones((3, 3), bool)
        core = binary_erosion(self._still, together, border_value=1)
        blank = binary_propagation(core, together, mask=self._still)
        touched = ~_tiles_within(~blank)
        if self._joined > 1:
            touched = np.logical_or.reduceat(touched, np.arange(0, len(touched), self._joined), axis=0)
        return np.asarray(touched.ravel(), bool)

    def _add_pending(self, segment: int, frames: dict[int, NDArray[Any]]) -> None:
        waiting = self._pending.setdefault(segment, {})
        twice = waiting.keys() & frames.keys()
        if twice:
            raise ValueError(f"frames {sorted(twice)[:5]} were added before: nothing may count twice")
        waiting.update(frames)
        if len(waiting) == self.segment_frames:
            del self._pending[segment]
            self._add_segment(segment, np.stack([waiting[k] for k in sorted(waiting)]))

    def _add_segment(self, segment: int, frames: NDArray[Any]) -> None:
        self._finished.add(segment)
        repeats = [_equal(a, b) for a, b in zip(frames[1:], frames[:-1], strict=True)]
        distinct = ~np.array([False, *repeats])
        # A lost frame, stored as zeros, would be a jump of the whole field.
        distinct &= ~np.array([_blank(frame) for frame in frames])
        self.duplicates += int(np.count_nonzero(~distinct))
        least = LEAST_HALVED if self.halved else self.order + 1
        if np.count_nonzero(distinct) < least:
            return
        frames = frames if distinct.all() else frames[distinct]
        self.steps = self.steps + _steps(frames)
        # Of unknown length, a movie is looked at in its segments 0, 1, 2, 4, 8 and so on.
        power_of_two = segment & (segment - 1) == 0
        if power_of_two if self._examined is None else segment in self._examined:
            self.shared.add(frames, self._mask)
        _leave_still(frames, self._still)
        pedestal = _pedestal(frames)
        firsts = self._bands(frames)
        shape = (self._place_rows, self._halves, self._place_columns, CLASSES, len(COLUMNS))
        new = segment >> self._level not in self._groups
        rows = np.empty(shape) if new else _memory_for("rows", shape, np.float64)
        if self.threads > 1 and len(firsts) > 1:
            # Each band is worked out as it is without threads, so their number changes nothing.
            with Threads(self.threads) as threads:
                bands = [threads.begin(self._fill, rows, first, frames, pedestal) for first in firsts]
                found = [band.result() for band in bands]
        else:
            found = [self._fill(rows, first, frames, pedestal) for first in firsts]
        self.not_finite += sum(found)
        self._add_to_group(segment >> self._level, rows, own=new)
        self._coarsen()

    def _bands(self, frames: NDArray[Any]) -> range:
        """First place row of each band of the field that is worked on at a time, to bound the memory."""
        copied = 0 if _is_ready(frames) else frames[:, 0].nbytes * TILE
        table = self._halves * self._place_columns * _ROW_BYTES
        per_place_row = self._joined * max(copied, table)
        return range(0, self._place_rows, max(1, _BAND_BYTES // per_place_row))

    def _fill(self, out: Floats, first: int, frames: NDArray[Any], pedestal: float) -> int:
        """Fill rows (place row, half, place column, class, column) of one segment, a band from `first` on.

        Returns how many samples of the band are not finite.
        """
        places = slice(first, min(first + self._bands(frames).step, self._place_rows))
        first_tile_row = places.start * self._joined
        tile_rows = min(places.stop * self._joined, (self.frame_shape[0] - 2) // TILE) - first_tile_row
        tiles, pixels = slice(first_tile_row, first_tile_row + tile_rows), slice(first_tile_row * TILE, None)
        band = frames[:, pixels][:, : tile_rows * TILE + 2]
        not_finite = 0
        if frames.dtype.kind == "f" and not np.isfinite(band.sum(dtype=np.float64)):
            not_finite = int(np.count_nonzero(~np.isfinite(band[:, 1:-1])))
        movie, top = frames, pixels.start
        if not _is_ready(frames):
            movie, top = np.require(band, _native_type(frames.dtype), ["C", "A"]), 0
        # Rows of tiles that are joined into places are worked out elsewhere.
        found = out[places]
        if self._joined > 1:
            found = _memory_for("table", (tile_rows, *out.shape[1:]), np.float64)
        native.warn_if_slow()
        scratch = _memory_for("scratch", (native.core.noise_scratch(len(frames)),), np.uint8)
        native.core.sum_noise(
            movie, *movie.shape, top, tile_rows, pedestal, self.floor, self.ceiling, scratch, found
        )
        if self._wanted is not None:
            found.swapaxes(1, 2)[~self._wanted[tiles]] = 0
        if pedestal:
            for number, name in enumerate(COLUMNS):
                if name in ("q", "own") or name.startswith("x"):
                    found[..., number] += pedestal * found[..., 0]
        if self._joined > 1:
            np.add.reduceat(found, np.arange(0, tile_rows, self._joined), axis=0, out=out[places])
        return not_finite

    def _coarsen(self) -> None:
        """Add the rows of neighbouring segments together until they fit the memory set aside for them.

        How far depends only on which segments were seen, so that the result does not depend on their order.
        """
        while self._exceeded_by(len(self._groups)):
            self._level += 1
            finer, self._groups = self._groups, {}
            own, self._own = self._own, set()
            for group in sorted(finer):
                self._add_to_group(group >> 1, finer[group], own=group in own)

    def _exceeded_by(self, groups: int) -> bool:
        """Whether so many groups are more than the memory set aside for them."""
        return groups > _FEWEST_GROUPS and groups * self.tiles * CLASSES * self._halves > _MOST_ROWS

    def _add_to_group(self, group: int, rows: Floats, *, own: bool) -> None:
        """Add rows to those of a group; `own` says that they may become the group's, to be added to later."""
        if group not in self._groups:
            self._groups[group] = rows
            if own:
                self._own.add(group)
        elif group in self._own:
            self._groups[group] += rows
        else:
            self._groups[group] = self._groups[group] + rows
            self._own.add(group)


def _whole_tiles(mask: Bools, shape: tuple[int, int]) -> Bools:
    """Tiles (row, column) with all pixels wanted, and all neighbours that a filter reaches."""
    if mask.dtype != np.bool_ or mask.shape != shape:
        raise ValueError(
            f"mask must be boolean, True where pixels may be used, of the frames' shape {shape}, "
            f"got {mask.dtype} of shape {mask.shape}"
        )
    whole = _tiles_within(mask)
    if not whole.any():
        raise ValueError(
            "mask leaves no tile to calibrate: it takes 10 × 10 neighbouring pixels that may be used"
        )
    return whole


def _tiles_within(mask: Bools) -> Bools:
    """Tiles (row, column) with all pixels True, and all neighbours that a filter reaches."""
    rows, columns = ((side - 2) // TILE for side in mask.shape)
    whole = np.ones((rows, columns), bool)
    for dy, dx in product((0, 1, 2), repeat=2):
        part = mask[dy : dy + rows * TILE, dx : dx + columns * TILE]
        whole &= part.reshape(rows, TILE, columns, TILE).all(axis=(1, 3))
    return whole


def _same(a: Bools | None, b: Bools | None) -> bool:
    return (a is None) == (b is None) and (a is None or b is None or np.array_equal(a, b))


_memory = threading.local()


def _memory_for(name: str, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
    """Memory of a thread that is used again: fetched anew each time, it would cost a fifth of the time.

    More than a little is fetched anew all the same, and given back.
    """
    size = math.prod(shape)
    if size * np.dtype(dtype).itemsize > _MOST_KEPT_BYTES:
        return np.empty(shape, dtype)
    found: NDArray[Any] | None = getattr(_memory, name, None)
    if found is None or len(found) < size:
        found = np.zeros(size, dtype)
        setattr(_memory, name, found)
    return found[:size].reshape(shape)


def _equal(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two frames are equal; most differ in their first row."""
    return np.array_equal(a[0], b[0]) and np.array_equal(a, b)


def _blank(frame: NDArray[Any]) -> bool:
    """Whether a frame holds one value only, or nothing but NaN."""
    first = frame[0, 0]
    if first == first and not (frame[0] == first).all():
        return False
    return bool((frame == first).all() if first == first else np.isnan(frame).all())


def _leave_still(frames: NDArray[Any], still: Bools) -> None:
    """Set `still` to False where a pixel has more than one value in the frames."""
    first, last = frames[0], len(frames) - 1
    same = _memory_for("same", still.shape, np.bool_)
    # Whole frames are compared faster than pixels here and there, of which few are then left.
    for k in sorted({last, last // 2, last // 4, 3 * last // 4}):
        still &= np.equal(first, frames[k], out=same)
    where = np.flatnonzero(still)
    value = np.take(first, where)
    for frame in frames[1:last]:
        if not where.size:
            break
        kept = np.take(frame, where) == value
        where, value = where[kept], value[kept]
    still[...] = False
    np.put(still, where, True)


def _steps(frames: NDArray[Any]) -> Floats:
    """Mean squared difference of frames one and two apart, on one pixel of every 5 × 5 or more."""
    if len(frames) < 4:
        return np.zeros(2)
    apart = max(5, min(frames.shape[1:]) // _STEPPED)
    every = frames[:, ::apart, ::apart]
    kind = np.float32 if _is_words(frames) else np.float64
    few, step = (_memory_for(name, every.shape, kind) for name in (f"few of {kind}", f"step of {kind}"))
    few[...] = every
    found = np.zeros(2)
    for k in (1, 2):
        difference = np.subtract(few[k:], few[:-k], out=step[k:])
        found[k - 1] = np.mean(np.square(difference, out=difference), dtype=np.float64)
    return found if np.isfinite(found).all() else np.zeros(2)


def _pedestal(frames: NDArray[Any]) -> float:
    """Level to be taken off before float32, which would round wide integers and doubles far from zero."""
    if _is_words(frames):
        return 0.0
    middle = frames[len(frames) // 2].astype(np.float64)
    finite = middle[np.isfinite(middle)]
    return float(np.rint(np.median(finite))) if finite.size else 0.0


def _is_words(frames: NDArray[Any]) -> bool:
    """Whether frames hold integers that fit 16 bits."""
    return frames.dtype.kind in "iu" and frames.dtype.itemsize <= 2


def _is_ready(frames: NDArray[Any]) -> bool:
    """Whether the native core can read frames where they lie."""
    same = frames.dtype == _native_type(frames.dtype) and frames.dtype.isnative
    return bool(same and frames.flags.c_contiguous and frames.flags.aligned)


def _native_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which the native core reads values: of native byte order, floats of 32 or 64 bits."""
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        return np.dtype(np.float32 if dtype.itemsize < 4 else np.float64)
    return dtype.newbyteorder("=")
