"""The fitted prediction of the frame coder's preset ``compact``: what a model is, and how one is fitted.

A code is predicted from two running means of its pixel, fast and slow, from the same smoothed over 3 × 3
pixels, and from what the rows above show of a change of the whole frame. What is stored is the rank of the
code among all codes, in the order of how often they occur at that predicted level: at few photons codes are
neither symmetric nor smooth around their mean, and ranks are smaller than residuals.

The model is fitted once per array, on a sample of its codes, and kept in the metadata.
"""

from __future__ import annotations

import base64
import binascii
import functools
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import zstandard

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    AnyArray = npt.NDArray[Any]

LEVELS = 48
CONTEXTS = 4 * LEVELS + 4
_LARGEST_WEIGHT = 2048
_LARGEST_BIAS = 1 << 24
_LARGEST_RATE = 6
# A stored order is at most this long; the codes after it follow by their distance from the predicted level.
_LONGEST_ORDER = 64
_CLIP, _CLIP_FIRST = 4096, 32640


@dataclass(frozen=True, slots=True)
class FrameModel:
    """How codes are predicted; every field is checked on construction.

    Parameters
    ----------
    rates : (int, int)
        Shifts of the fast and the slow running mean, 1 to 6.
    temporal : tuple of 5 int
        Weights of the two means, of the two means smoothed in space, and a constant, in 1/256.
    above : tuple of 5 int
        Weights of the innovations above, from two columns left to two right, in 1/1024.
    first : tuple of 7 int
        The same in the first frame, then those of the next and the second next pixel on the left.
    decay : (int, int)
        Sixteenths of the innovations above that each row hands on, in the first frame and later: 0 to 15.
    mean : int
        Level that is predicted where nothing is known, 1/128 code.
    orders : tuple of bytes
        For each of 196 contexts the codes, less the whole level of the context, from the most frequent on.

    Raises
    ------
    ValueError, TypeError
        If a field breaks its rule.
    """

    rates: tuple[int, int]
    temporal: tuple[int, ...]
    above: tuple[int, ...]
    first: tuple[int, ...]
    decay: tuple[int, int]
    mean: int
    orders: tuple[bytes, ...]
    check: int = field(init=False, repr=False, compare=False)
    """One byte that tells this model from others: a chunk names the model that it was made with."""

    def __post_init__(self) -> None:
        w = _LARGEST_WEIGHT
        self._numbers("rates", 2, 1, _LARGEST_RATE)
        self._numbers("temporal", 5, -_LARGEST_BIAS, _LARGEST_BIAS)
        if any(abs(v) > w for v in self.temporal[:4]):
            raise ValueError(
                f"temporal must hold four weights from -{w} to {w} and a constant, got {self.temporal}"
            )
        self._numbers("above", 5, -w, w)
        self._numbers("first", 7, -w, w)
        for name in ("above", "first"):
            if (total := sum(map(abs, getattr(self, name)[:5]))) > w:
                raise ValueError(f"the first five weights of {name} must sum to at most {w}, got {total}")
        self._numbers("decay", 2, 0, 15)
        highest = 65535 << 7
        if isinstance(self.mean, bool) or not isinstance(self.mean, int) or not 0 <= self.mean <= highest:
            raise ValueError(f"mean must be an integer from 0 to {highest}, got {self.mean!r}")
        if len(self.orders) != CONTEXTS:
            raise ValueError(f"orders must hold {CONTEXTS} contexts, got {len(self.orders)}")
        for order in self.orders:
            if len(set(order)) != len(order):
                raise ValueError("orders must name a code at most once in each context")
        numbers = (*self.rates, *self.temporal, *self.above, *self.first, *self.decay, self.mean)
        data = np.array(numbers, "<i4").tobytes() + _order_bytes(self.orders)
        object.__setattr__(self, "check", zlib.crc32(data) & 0xFF)

    def _numbers(self, name: str, count: int, lowest: int, highest: int) -> None:
        """Check a field of integers, and make it a tuple."""
        try:
            values = tuple(getattr(self, name))
        except TypeError as error:
            raise TypeError(f"{name} must be {count} integers, got {getattr(self, name)!r}") from error
        whole = all(isinstance(v, int) and not isinstance(v, bool) for v in values)
        if len(values) != count or not whole or any(not lowest <= v <= highest for v in values):
            raise ValueError(f"{name} must be {count} integers from {lowest} to {highest}, got {values!r}")
        object.__setattr__(self, name, values)

    def __hash__(self) -> int:
        # Every chunk looks its tables up by its model, of which the orders are long.
        return hash((self.rates, self.temporal, self.above, self.first, self.mean, self.check))

    def to_json(self) -> dict[str, Any]:
        """The model as JSON types."""
        packed = zstandard.ZstdCompressor(level=19).compress(_order_bytes(self.orders))
        return {
            "rates": list(self.rates),
            "temporal": list(self.temporal),
            "above": list(self.above),
            "first": list(self.first),
            "decay": list(self.decay),
            "mean": self.mean,
            "orders": base64.b64encode(packed).decode(),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> FrameModel:
        """Read a stored model.

        Raises
        ------
        ValueError
            If a key is missing or unknown, or a field breaks its rule.
        """
        known = {"rates", "temporal", "above", "first", "decay", "mean", "orders"}
        if set(document) != known:
            raise ValueError(
                f"the frame coder's model must have the keys {sorted(known)}, got {sorted(document)}"
            )
        fields = dict(document)
        fields["orders"] = _read_orders(fields["orders"])
        return cls(**fields)


def _order_bytes(orders: tuple[bytes, ...]) -> bytes:
    return bytes(len(order) for order in orders) + b"".join(orders)


def _read_orders(text: Any) -> tuple[bytes, ...]:
    """The orders of their text in the metadata: base64 of a zstd frame."""
    limit = CONTEXTS * 256
    try:
        packed = base64.b64decode(text, validate=True)
        if zstandard.get_frame_parameters(packed).content_size > limit:
            raise ValueError("too long")
        data = zstandard.ZstdDecompressor().decompress(packed, max_output_size=limit)
    except (TypeError, ValueError, binascii.Error, zstandard.ZstdError) as error:
        raise ValueError(f"the orders of the frame coder's model cannot be read: {error}") from error
    lengths, at = data[:CONTEXTS], CONTEXTS
    if len(data) != CONTEXTS + sum(lengths):
        raise ValueError("the orders of the frame coder's model are damaged: their lengths do not add up")
    orders = []
    for length in lengths:
        orders.append(data[at : at + length])
        at += length
    return tuple(orders)


class Tables(NamedTuple):
    """A model as the kernels take it."""

    ranks: npt.NDArray[np.uint8]
    codes: npt.NDArray[np.uint8]
    numbers: dict[int, tuple[Any, ...]]


@functools.lru_cache(maxsize=16)
def tables(model: FrameModel) -> Tables:
    """Rank of every code and code of every rank, per context, and the numbers in either width."""
    codes = np.empty((CONTEXTS, 256), np.uint8)
    for context, order in enumerate(model.orders):
        whole = context >> 2
        stored = [(value + whole) & 0xFF for value in order]
        by_distance = np.argsort(np.abs(8 * np.arange(256) - 2 * context - 1), kind="stable")
        rest = by_distance[~np.isin(by_distance, stored)]
        codes[context] = np.concatenate([np.array(stored, np.int64), rest])
    ranks = np.argsort(codes, 1).astype(np.uint8)
    numbers = {}
    for itemsize, work in ((1, np.int32), (2, np.int64)):
        rates = np.array(model.rates, np.int64)
        weights = (np.array(values, work) for values in (model.temporal, model.above, model.first))
        mean = min(model.mean, (256**itemsize - 1) << 7)
        numbers[itemsize] = (rates, *weights, np.array(model.decay, np.int64), mean)
    return Tables(ranks.reshape(-1), codes.reshape(-1), numbers)


# --- fitting ------------------------------------------------------------------------------------------------

# Many small patches see more of a movie than a few large ones.
_PATCH_ROWS, _PATCH_COLUMNS, _PATCH_FRAMES = 32, 32, 48
_PATCHED = 1 << 20
_RATES = (2, 5)
_DECAYS = (8, 12, 14)
_DECAY_FIRST = 8
_RIDGE_TIME, _RIDGE_ABOVE, _RIDGE_FIRST = 1e-3, 3e-3, 1e-2
_FEWEST_SEEN = 16
_WORTHWHILE = 1e-3


def fit_model(frames: AnyArray) -> FrameModel:
    """Fit a model to codes (time, plane, y, x).

    Ridge regressions on patches from all over the sample: of a code on the running means, then of what is
    left on the innovations above; then counts of the codes at each predicted level.
    """
    patches = _patches(frames)
    means, codes = _running_means(patches)
    temporal = _fit_temporal(means, codes)
    level = _predicted(means, temporal)
    decay, above = _fit_above(codes, level)
    mean = int(np.rint(128 * patches.mean(dtype=np.float64)))
    starts = patches[:: max(1, len(patches) // 4)].astype(np.int32)
    first = _fit_first(starts, mean, _DECAY_FIRST)
    if codes.size:
        counts = _counted(codes, _sharpened(codes, level, above, decay, _CLIP))
    else:
        counts = _counted(starts, _sharpened_first(starts, mean, first, _DECAY_FIRST))
    return FrameModel(_RATES, temporal, above, first, (_DECAY_FIRST, decay), mean, _orders(counts))


def _patches(frames: AnyArray) -> AnyArray:
    """Small patches from all over the sample, one pixel wider all round: (time, patch, y, x)."""
    total, planes, height, width = frames.shape
    rows, columns = min(height, _PATCH_ROWS + 2), min(width, _PATCH_COLUMNS + 2)
    length = min(total, _PATCH_FRAMES)
    down, across = height // rows, width // columns
    places = down * across * planes
    wanted = max(1, _PATCHED // (length * rows * columns))
    count = min(wanted, places * max(1, total // length))
    found = np.empty((length, count, rows, columns), frames.dtype)
    for n in range(count):
        # Columns are staggered from row to row and starts in time spread evenly: few patches see much.
        k = n * places // count if count <= places else n % places
        plane, k = divmod(k, down * across)
        y, x = divmod(k, across)
        x = (x + y * (across // 2 + 1)) % across
        t = int((n * 0.6180339887) % 1 * (total - length + 1))
        y, x = y * rows, x * columns
        found[:, n] = frames[t : t + length, plane, y : y + rows, x : x + columns]
    return found


def _running_means(patches: AnyArray) -> tuple[AnyArray, AnyArray]:
    """The running means before every fourth frame (2, frame, patch, y, x), and the codes of these frames."""
    frames = len(patches)
    every = 4 if frames > 8 else 1
    kept = range(min(every, frames), frames, every)
    means = np.empty((2, len(kept), *patches.shape[1:]), np.int32)
    state = [patches[0].astype(np.int32) << 7 for _ in _RATES]
    for t in range(1, frames):
        if t in kept:
            for own, k in enumerate(range(2)):
                means[own, (t - kept.start) // every] = state[k]
        for mean, rate in zip(state, _RATES, strict=True):
            k = min(rate, t.bit_length())
            step = patches[t].astype(np.int32)
            step <<= 7
            step -= mean
            step += 1 << (k - 1)
            step >>= k
            mean += step
    return means, patches[kept.start :: every].astype(np.int32)


def _smoothed(image: AnyArray) -> AnyArray:
    """Sixteen times the 3 × 3 binomial mean over the last two axes, edges repeated."""
    padded = np.pad(image, [(0, 0)] * (image.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
    rows = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    smooth: AnyArray = rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]
    return smooth


def _solve(
    features: list[AnyArray], wanted: AnyArray, ridge: float, prior: list[float]
) -> npt.NDArray[np.float64]:
    """Ridge regression around prior weights."""
    columns = [np.ravel(f).astype(np.float32) for f in features]
    target = np.ravel(wanted).astype(np.float32)
    # Dot products one by one: the threads of a matrix product would wait for each other on a busy machine.
    right = np.array([np.dot(c, target) for c in columns]).astype(np.float64)
    gram = np.empty((len(columns), len(columns)))
    for i, one in enumerate(columns):
        for k in range(i + 1):
            gram[i, k] = gram[k, i] = np.dot(one, columns[k])
    # In the units of a variance, so that the ridge means the same for bright and dark movies.
    scale = ridge * max(target.size, 1)
    found = np.linalg.solve(gram + scale * np.eye(len(gram)), right + scale * np.asarray(prior))
    return np.asarray(found, np.float64)


def _taps(weights: AnyArray) -> tuple[int, ...]:
    """Weights of innovations in 1/1024, within what the decoder's arithmetic is made for."""
    kept = np.clip(np.rint(weights * 1024), -_LARGEST_WEIGHT, _LARGEST_WEIGHT)
    total = np.abs(kept[:5]).sum()
    if total > _LARGEST_WEIGHT:
        kept[:5] = np.trunc(kept[:5] * (_LARGEST_WEIGHT / total))
    return tuple(int(v) for v in kept)


def _fit_temporal(means: AnyArray, codes: AnyArray) -> tuple[int, ...]:
    if not codes.size:
        return (0, 0, 0, 256, 0)
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    if min(codes.shape[2:]) < 4:
        inner = (slice(None),) * 4
    center = float(codes.mean())
    features = [m[inner] / 128 - center for m in means]
    features += [_smoothed(m)[inner] / 2048 - center for m in means]
    wanted = codes[inner] - center
    constant = np.ones(wanted.shape)
    weights = _solve([*features, constant], wanted, _RIDGE_TIME, [0, 0, 0, 1, 0])
    whole = tuple(int(v) for v in np.clip(np.rint(weights[:4] * 256), -512, 512))
    # The constant takes up what rounding the others has cost.
    bias = center + weights[4] - sum(whole) / 256 * center
    return (*whole, int(np.clip(np.rint(bias * 256 * 128), -_LARGEST_BIAS, _LARGEST_BIAS)))


def _predicted(means: AnyArray, temporal: tuple[int, ...]) -> AnyArray:
    """Levels that the past predicts, as the kernels compute them, before clipping to the top code."""
    w0, w1, w2, w3, b = temporal
    wide = means.astype(np.int64)
    smooth = _smoothed((wide[0] * w2 + wide[1] * w3) >> 4)
    level: AnyArray = np.maximum((wide[0] * w0 + wide[1] * w1 + smooth + b) >> 8, 0)
    return level


def _innovations(codes: AnyArray, level: AnyArray, decay: int, clip: int) -> AnyArray:
    """Decaying sums of the innovations above each row, padded by two columns: (frame, patch, y, x + 4)."""
    own = np.clip((codes << 7) - level, -clip, clip)
    sums = np.zeros((*codes.shape[:-1], codes.shape[-1] + 4), np.int32)
    for y in range(1, codes.shape[2]):
        sums[:, :, y, 2:-2] = own[:, :, y - 1] + (sums[:, :, y - 1, 2:-2] * decay >> 4)
    sums[..., :2], sums[..., -2:] = sums[..., 2:3], sums[..., -3:-2]
    return sums


def _fit_above(codes: AnyArray, level: AnyArray) -> tuple[int, tuple[int, ...]]:
    """Decay and weights of the innovations above."""
    decay = _DECAYS[0]
    above: tuple[int, ...] = (0,) * 5
    if not codes.size or codes.shape[2] < 6 or codes.shape[3] < 6:
        return decay, above
    # Half of the frames are enough for five weights.
    codes, level = codes[::2], level[::2].astype(np.int32)
    inner = (slice(None), slice(None), slice(3, None), slice(2, -2))
    wanted = ((codes << 7) - level)[inner] / np.float32(128)
    # Where the rows above tell next to nothing, coding is faster without asking them.
    best = (1 - _WORTHWHILE) * float(np.square(wanted).mean())
    for tried in _DECAYS:
        sums = _innovations(codes, level, tried, _CLIP)
        features = [sums[:, :, 3:, 2 + k : sums.shape[3] - 6 + k] / np.float32(128) for k in range(5)]
        weights = _solve(features, wanted, _RIDGE_ABOVE, [0] * 5)
        left = wanted - sum(w * f for w, f in zip(weights, features, strict=True))
        error = float(np.square(left).mean())
        if error < best:
            best, decay, above = error, tried, _taps(weights)
    return decay, above


def _fit_first(starts: AnyArray, mean: int, decay: int) -> tuple[int, ...]:
    """Weights of the innovations above and on the left where nothing is known of the past."""
    if starts.shape[3] < 6 or starts.shape[2] < 2:
        return (0,) * 7
    level = np.full_like(starts, mean)
    sums = _innovations(starts, level, decay, _CLIP_FIRST)
    own = np.clip((starts << 7) - level, -_CLIP_FIRST, _CLIP_FIRST)
    top = min(3, starts.shape[2] - 1)
    width = starts.shape[3]
    features = [sums[:, :, top:, 2 + k : width - 2 + k] / 128 for k in range(5)]
    features += [own[:, :, top:, 2 - k : width - 2 - k] / 128 for k in (1, 2)]
    weights = _solve(features, own[:, :, top:, 2:-2] / 128, _RIDGE_FIRST, [0] * 7)
    return _taps(weights)


def _sharpened(codes: AnyArray, level: AnyArray, above: tuple[int, ...], decay: int, clip: int) -> AnyArray:
    """Levels with the innovations above."""
    sums = _innovations(codes, level, decay, clip)
    width = codes.shape[3]
    moved = sum(c * sums[..., k : k + width] for k, c in enumerate(above[:5]))
    sharp: AnyArray = np.maximum(level + ((moved + 512) >> 10), 0)
    return sharp


def _sharpened_first(starts: AnyArray, mean: int, first: tuple[int, ...], decay: int) -> AnyArray:
    """Levels of first frames."""
    level = np.full(starts.shape, mean, np.int64)
    own = np.clip((starts << 7) - level, -_CLIP_FIRST, _CLIP_FIRST)
    left = np.zeros_like(own)
    for k, weight in ((1, first[5]), (2, first[6])):
        left[..., k:] += weight * own[..., :-k]
    sharp: AnyArray = np.maximum(
        _sharpened(starts, level, first, decay, _CLIP_FIRST) + ((left + 512) >> 10), 0
    )
    return sharp


def _counted(codes: AnyArray, level: AnyArray) -> npt.NDArray[np.int64]:
    """How often each code occurs at each predicted level (context, code)."""
    skipped = 3 if codes.shape[2] > 6 else 0
    quarter = level[:, :, skipped:] >> 5
    base = np.maximum((quarter >> 2) - LEVELS, 0)
    context = quarter - 4 * base
    offset = codes[:, :, skipped:] - base
    inside = (offset >= 0) & (offset < 256)
    flat = (context[inside] << 8) + offset[inside]
    return np.bincount(flat.reshape(-1), minlength=CONTEXTS * 256).reshape(CONTEXTS, 256)


def _orders(counts: npt.NDArray[np.int64]) -> tuple[bytes, ...]:
    """Codes by how often they occur in each context, the nearer first where they tie.

    Neighbouring contexts, a quarter code apart, lend each other what they have seen.
    """
    padded = np.pad(counts, [(2, 2), (0, 0)], mode="edge")
    smooth = np.sum([w * padded[k : k + CONTEXTS] for k, w in enumerate((1, 4, 6, 4, 1))], axis=0)
    orders = []
    for context, row in enumerate(smooth):
        seen = np.flatnonzero(row >= _FEWEST_SEEN)
        distance = np.abs(8 * seen - 2 * context - 1)
        order = seen[np.lexsort((distance, -row[seen]))][:_LONGEST_ORDER]
        orders.append(bytes(int(v) for v in (order - (context >> 2)) & 0xFF))
    return tuple(orders)
