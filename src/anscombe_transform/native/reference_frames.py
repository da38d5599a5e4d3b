"""The frame coder in plain numpy: the definition of the format ``anscombe_frames``, and a simple writer.

The decoder below is complete, and printed on the page of the format; `libanscombe` decodes the same chunks to
the same codes, a hundred times faster. The encoder here writes valid chunks with the plainest choices: a
running mean, and one table.
"""

from __future__ import annotations

# --- the decoder, as docs/reference/anscombe_frames.md has it ---
import zlib

import numpy as np


class DamagedChunk(ValueError):
    """Bytes that are not a chunk, or one of another shape.

    Examples
    --------
    >>> Bytes(b"ab").take(3)
    Traceback (most recent call last):
    ...
    anscombe_transform.native.reference_frames.DamagedChunk: the chunk ends too early
    """


class Bytes:
    """Bytes that are read one after the other."""

    def __init__(self, data):
        self.data, self.at = bytes(data), 0

    def take(self, count):
        if count < 0 or self.at + count > len(self.data):
            raise DamagedChunk("the chunk ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size, signed=False):
        return int.from_bytes(self.take(size), "little", signed=signed)


def require(fact):
    if not fact:
        raise DamagedChunk("the chunk is damaged")


def wrap(values):
    """Modulo 2^16, as numbers from -2^15 to 2^15 - 1."""
    return ((values + 32768) & 65535) - 32768


def times(levels, weight):
    """A level times a weight in units of 2^-15, rounded."""
    return wrap((((levels * weight) >> 14) + 1) >> 1)


def shifted(image, dy, dx):
    """The pixel dy rows below and dx columns to the right, beyond the edges the outermost one."""
    rows = np.clip(np.arange(image.shape[0]) + dy, 0, image.shape[0] - 1)
    columns = np.clip(np.arange(image.shape[1]) + dx, 0, image.shape[1] - 1)
    return image[np.ix_(rows, columns)]


NEIGHBOURS = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
SIDES = [(0, -1), (0, 1), (-1, 0), (1, 0)]
CORNERS = [(-1, -1), (-1, 1), (1, -1), (1, 1)]


class Symbols:
    """Symbols of a group, decoded from many states at a time."""

    def __init__(self, data, wide, lanes):
        self.bits, self.lowest, self.shift = (10, 1 << 16, 16) if wide else (8, 1 << 8, 8)
        size = 4 if wide else 2
        require(len(data) >= size * lanes and (len(data) - size * lanes) % (size // 2) == 0)
        self.states = np.frombuffer(data[: size * lanes], f"<u{size}").astype(np.int64)
        self.words = np.frombuffer(data[size * lanes :], f"<u{size // 2}").astype(np.int64)
        self.at = 0
        require((self.states >= self.lowest).all())

    def set_tables(self, tables):
        """Tables of frequencies; slot z of table c is at place (c << bits) + z."""
        frequencies = np.concatenate(tables)
        self.symbol = np.repeat(np.tile(np.arange(16), len(tables)), frequencies)
        self.frequency = np.repeat(frequencies, frequencies)
        starts = np.cumsum(frequencies) - frequencies
        self.rest = np.arange(len(self.symbol)) - np.repeat(starts, frequencies)

    def decode(self, contexts, item=0):
        """The symbols of one row, or of one of its items."""
        found = np.empty(len(contexts), np.int64)
        mask = (1 << self.bits) - 1
        for x in range(0, len(contexts), len(self.states)):
            part = contexts[x : x + len(self.states)]
            lanes = slice(item % len(self.states), item % len(self.states) + len(part))
            state = self.states[lanes]
            place = (part << self.bits) + (state & mask)
            found[x : x + len(part)] = self.symbol[place]
            state = self.frequency[place] * (state >> self.bits) + self.rest[place]
            low = np.flatnonzero(state < self.lowest)
            require(self.at + len(low) <= len(self.words))
            state[low] = (state[low] << self.shift) | self.words[self.at : self.at + len(low)]
            self.at += len(low)
            self.states[lanes] = state
        return found

    def end(self):
        require((self.states == self.lowest).all() and self.at == len(self.words))


def read_table(data, scale):
    used, left = data.number(2), scale
    table = np.zeros(16, np.int64)
    require(used & (used - 1))
    for symbol in range(16):
        if used >> symbol & 1:
            if used >> symbol == 1:
                table[symbol] = left
                break
            found = data.number(1)
            if found >= 192:
                found = (found - 192) * 256 + data.number(1)
            require(0 < found < left)
            table[symbol] = found
            left -= found
    return table


class Prediction:
    """How a frame is predicted; fields that a frame lacks are as in the frame before."""

    def __init__(self):
        self.gain = self.level = self.bias = self.change_gain = self.odd = 0
        self.row_gain = self.row_level = self.row_near = self.row_far = self.left_gain = self.left_level = 0
        self.weights, self.change = [0] * 8, [0] * 3

    def read(self, data):
        has = data.number(1)
        require(has < 64)
        if has & 1:
            self.gain = data.number(1) << 7
        if has & 2:
            self.weights = [data.number(1, True) << 8 for _ in range(8)]
            self.level, self.bias = data.number(2, True), data.number(2, True)
        if has & 4:
            self.change_gain = data.number(1) << 7
            self.change = [data.number(2, True) for _ in range(3)]
        if has & 8:
            self.row_gain, self.row_level = data.number(1) << 7, data.number(2, True)
            self.row_near, self.row_far = data.number(1, True) << 8, data.number(1, True) << 8
        if has & 16:
            self.odd = data.number(1, True) << 8
        if has & 32:
            self.left_gain, self.left_level = data.number(1) << 7, data.number(2, True)
        return self

    def past(self, level):
        """From the states, without change."""
        total = level + self.bias + times(level, self.level)
        for weight, (dy, dx) in zip(self.weights, NEIGHBOURS, strict=True):
            if weight:
                total = total + times(wrap(shifted(level, dy, dx) - level), weight)
        return wrap(total)

    def changed(self, change):
        sides = wrap(sum(shifted(change, *at) for at in SIDES))
        corners = wrap(sum(shifted(change, *at) for at in CORNERS))
        parts = zip((change, sides, corners), self.change, strict=True)
        return sum(times(values, weight) for values, weight in parts)

    def next_row(self, row, error):
        """The estimate of a row from the one before."""
        estimate = wrap(row + times(error, self.row_gain))
        total = estimate + times(estimate, self.row_level)
        around = np.pad(estimate, 2, mode="edge")
        for weight, distance in ((self.row_near, 1), (self.row_far, 2)):
            for start in (2 - distance, 2 + distance):
                total = total + times(wrap(around[start : start + len(row)] - estimate), weight)
        return wrap(total)


class Group:
    """Parameters common to the frames of a group."""

    def __init__(self, data, frames, pixels, head, tables):
        content = Bytes(data.take(data.number(4)))
        escapes, coded = content.number(4), content.number(4)
        require(escapes <= frames * pixels and coded <= len(content.data) - content.at)
        symbols = content.data[len(content.data) - coded :]
        content = Bytes(content.data[content.at : len(content.data) - coded])
        fresh = content.number(1)
        require(fresh == 1 or (fresh == 0 and tables))
        scale = 1024 if head["wide"] else 256
        if fresh:
            bands, phases = content.number(1), content.number(1)
            require(bands >= 1 and phases <= 2 and bands << phases <= 64)
            starts = [content.number(1) for _ in range(bands - 1)]
            require(all(a < b for a, b in zip([0, *starts], starts, strict=False)))
            found = [read_table(content, scale) for _ in range(bands << phases)]
            require(all(table[15] for table in found))
            tables = (phases, np.array(starts, np.int64), found)
        self.tables = tables
        self.phases, self.starts, found = tables
        lengths = read_table(content, scale) if escapes else np.array([scale - 1, 1] + [0] * 14)
        at = content.at
        for _ in range(frames):
            Prediction().read(content)
        self.parameters = Bytes(content.data[at : content.at])
        low = np.frombuffer(content.take((frames * pixels * head["low_bits"] + 7) // 8), np.uint8)
        self.low = numbers_of_bits(low, np.full(frames * pixels, head["low_bits"]))
        self.source = Symbols(symbols, head["wide"], head["lanes"])
        self.source.set_tables([*found, lengths])
        digits = np.maximum(self.source.decode(np.full(escapes, len(found))) - 1, -1)
        bits = np.frombuffer(content.take((int(np.maximum(digits, 0).sum()) + 7) // 8), np.uint8)
        values = numbers_of_bits(bits, np.maximum(digits, 0))
        values = np.where(digits < 0, 0, values + (1 << np.maximum(digits, 0)))
        require(content.at == len(content.data))
        # 0, 1, 2, 3, ... are 0, -1, 1, -2, ...
        self.escapes, self.escaped = np.where(values & 1, -(values >> 1) - 1, values >> 1), 0

    def codes(self, predicted, fraction, item=0):
        """The codes of one row, or of one of its items."""
        whole = predicted >> fraction
        bands = np.searchsorted(self.starts, whole, side="right")
        place = (predicted >> (fraction - self.phases)) & ((1 << self.phases) - 1)
        symbols = self.source.decode((bands << self.phases) + place, item)
        codes = whole + symbols - 7
        escaped = np.flatnonzero(symbols == 15)
        require(self.escaped + len(escaped) <= len(self.escapes))
        distances = self.escapes[self.escaped : self.escaped + len(escaped)]
        codes[escaped] = whole[escaped] + distances
        self.escaped += len(escaped)
        return codes & 65535

    def end(self):
        self.source.end()
        require(self.escaped == len(self.escapes))


def numbers_of_bits(data, lengths):
    """Numbers of so many bits each, from bytes with the lowest bit first."""
    bits = np.unpackbits(data, bitorder="little").astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    values = np.zeros(len(lengths), np.int64)
    for bit in range(int(lengths.max(initial=0))):
        has = lengths > bit
        values[has] |= bits[starts[has] + bit] << bit
    return values


def decode_frame(group, head, p, images, codes):
    """Decode into `codes`; `images` are the states of the frames before, or empty, and are moved on."""
    height, width = codes.shape
    fraction, first = head["fraction"], not images
    if first:
        past = base = np.zeros((height, width), np.int64)
    else:
        past = base = p.past(images["level"])
        if p.change_gain:
            base = wrap(past + p.changed(images["change"]))
    if not first and not p.row_gain and not p.odd and not p.left_gain:
        predicted = np.maximum(base, 0)
        for y in range(height):
            codes[y] = group.codes(predicted[y], fraction)
    else:
        predicted = np.empty((height, width), np.int64)
        row = np.zeros(width, np.int64)
        for y in range(height):
            if first and y == 0:
                # The first row of a movie, each code from the one on its left.
                level = head["start"] << fraction
                for x in range(width):
                    row[x] = level
                    codes[0, x : x + 1] = group.codes(row[x : x + 1], fraction)
                    level = wrap(level + times(wrap((int(codes[0, x]) << fraction) - level), 1 << 14))
                predicted[0] = row
            elif p.left_gain:
                left = 0
                for x in range(width):
                    row[x] = wrap(row[x] + left)
                    predicted[y, x] = max(wrap(int(base[y, x] + row[x])), 0)
                    codes[y, x : x + 1] = group.codes(predicted[y, x : x + 1], fraction, x)
                    error = wrap((int(codes[y, x]) << fraction) - int(predicted[y, x]))
                    left = wrap(left + times(error, p.left_gain))
                    left = wrap(left + times(left, p.left_level))
            else:
                predicted[y] = np.maximum(wrap(base[y] + row), 0)
                if p.odd:
                    codes[y, ::2] = group.codes(predicted[y, ::2], fraction)
                    errors = np.zeros(width // 2 + 1, np.int64)
                    errors[: (width + 1) // 2] = wrap((codes[y, ::2] << fraction) - predicted[y, ::2])
                    share = times(wrap(errors[: width // 2] + errors[1 : width // 2 + 1]), p.odd)
                    row[1::2] = wrap(row[1::2] + share)
                    predicted[y, 1::2] = np.maximum(wrap(predicted[y, 1::2] + share), 0)
                    codes[y, 1::2] = group.codes(predicted[y, 1::2], fraction)
                else:
                    codes[y] = group.codes(predicted[y], fraction)
            row = p.next_row(row, wrap((codes[y] << fraction) - predicted[y]))
    error = wrap((codes << fraction) - predicted)
    if p.change_gain and not first:
        images["change"] = wrap(predicted - past + times(error, p.change_gain))
        images["level"] = np.maximum(wrap(past + times(error, p.gain)), 0)
    else:
        images.setdefault("change", np.zeros((height, width), np.int64))
        images["level"] = np.maximum(wrap(predicted + times(error, p.gain)), 0)


def decode_chunk(data, frames, height, width, dtype):
    """Codes (frames, height, width) of a chunk; dtype is uint8 or uint16."""
    dtype, data = np.dtype(dtype), bytes(data)
    shape = np.array([frames, height, width, dtype.itemsize], "<u4").tobytes()
    require(
        len(data) >= 6 and zlib.crc32(shape, zlib.crc32(data[:-4])) == int.from_bytes(data[-4:], "little")
    )
    require(data[0] == 0xAF and data[1] <= 2)
    if data[1] == 0:
        require(len(data) == 6 + frames * height * width * dtype.itemsize)
        return np.frombuffer(data[2:-4], dtype.newbyteorder("<")).astype(dtype).reshape(frames, height, width)
    content = Bytes(data[2:-4])
    if data[1] == 2:
        code = content.number(2)
        require(len(data) == 8 and code < 1 << 8 * dtype.itemsize)
        return np.full((frames, height, width), code, dtype)
    folded, coding = content.number(1), content.number(1)
    head = {"wide": coding >> 7, "lanes": (coding & 127) << 1}
    head |= {"low_bits": content.number(1), "fraction": content.number(1), "lowest": content.number(2)}
    lag = content.number(2)
    head["start"], in_group = content.number(2), content.number(4)
    require(folded <= 1 and coding in (16, 64, 136, 160) and head["low_bits"] < 16)
    require(2 <= head["fraction"] <= 7 and head["start"] < 1 << (15 - head["fraction"]))
    if folded:
        frames, height, width, unfolded = 1, frames, height * width, (frames, height, width)
    else:
        unfolded = (frames, height, width)
    require(1 <= lag <= frames and 1 <= in_group <= frames)
    result = np.empty((frames, height, width), np.int64)
    images, tables, p = [{} for _ in range(lag)], None, Prediction()
    for start in range(0, frames, in_group):
        count = min(in_group, frames - start)
        group = Group(content, count, height * width, head, tables)
        tables = group.tables
        for t in range(start, start + count):
            decode_frame(group, head, p.read(group.parameters), images[t % lag], result[t])
        group.end()
        part = result[start : start + count]
        part[...] = (part << head["low_bits"] | group.low.reshape(part.shape)) + head["lowest"]
    require(content.at == len(content.data))
    return (result & ((1 << 8 * dtype.itemsize) - 1)).astype(dtype).reshape(unfolded)


# --- end of the decoder ---


class _Recorder:
    """Stands in for `Group` while frames are predicted: gives the codes, and keeps their symbols."""

    def __init__(self, codes):
        self.left, self.rows, self.escapes = codes.reshape(-1), [], []

    def codes(self, predicted, fraction, item=0):
        found, self.left = self.left[: len(predicted)], self.left[len(predicted) :]
        distance = found - (predicted >> fraction)
        escaped = abs(distance) > 7
        self.rows.append(np.where(escaped, 15, distance + 7))
        self.escapes += distance[escaped].tolist()
        return found


def _frequencies(symbols):
    """Frequencies that sum to 2^8, at least 1 for every symbol."""
    counts = np.bincount(symbols, minlength=16) + 1
    table = np.maximum(counts * 256 // counts.sum(), 1)
    while table.sum() != 256:
        table[np.argmax(table)] += np.sign(256 - table.sum())
    return table


def _pack_symbols(rows, lanes):
    """Rows of (symbols, table), from the last one back."""
    states, out = np.full(lanes, 256), []
    for symbols, table in reversed(rows):
        starts = np.cumsum(table) - table
        for x in range((len(symbols) - 1) // lanes * lanes, -1, -lanes):
            part = symbols[x : x + lanes]
            state, frequency = states[: len(part)], table[part]
            high = state >= frequency << 8
            out.append((state[high] & 255).astype(np.uint8).tobytes())
            state = np.where(high, state >> 8, state)
            states[: len(part)] = (state // frequency << 8) + state % frequency + starts[part]
    return states.astype("<u2").tobytes() + b"".join(reversed(out))


def _bits_of(values, lengths):
    pairs = zip(values, lengths, strict=True)
    bits = [value >> bit & 1 for value, length in pairs for bit in range(length)]
    return np.packbits(np.array(bits, np.uint8), bitorder="little").tobytes()


def _finish(body, shape, itemsize):
    sizes = np.array([*shape, itemsize], "<u4").tobytes()
    return body + zlib.crc32(sizes, zlib.crc32(body)).to_bytes(4, "little")


def encode_chunk(codes, planes=1):
    """A chunk of codes (frames, height, width): a running mean, one table for all, one group."""
    codes, shape = np.ascontiguousarray(codes), codes.shape
    stored = _finish(
        b"\xaf\x00" + codes.astype(codes.dtype.newbyteorder("<")).tobytes(), shape, codes.itemsize
    )
    if not codes.size:
        return stored
    lowest, lag = int(codes.min()), min(planes, shape[0], 65535)
    span = int(codes.max()) - lowest
    if span == 0:
        return _finish(b"\xaf\x02" + lowest.to_bytes(2, "little"), shape, codes.itemsize)
    low_bits = max(0, span.bit_length() - 13)
    fraction = min(7, 15 - (span >> low_bits).bit_length())
    low = (codes.astype(np.int64) - lowest).reshape(-1)
    high = (low >> low_bits).reshape(shape)
    head = {"fraction": fraction, "start": int(high.reshape(-1)[0])}
    group, parameters, images = _Recorder(high), b"", [{} for _ in range(lag)]
    for t, frame in enumerate(high):
        p = Prediction()
        p.gain = max(256 // (t // lag + 2), 8) << 7
        p.row_level, p.row_gain = (0, 128 << 7) if t < lag else (-32768, 0)
        p.row_near = 20 << 8 if t < lag else 0
        row = (p.row_gain >> 7).to_bytes(1, "little") + p.row_level.to_bytes(2, "little", signed=True)
        parameters += bytes([9, p.gain >> 7]) + row + bytes([p.row_near >> 8, 0])
        decode_frame(group, head, p, images[t % lag], np.empty(frame.shape, np.int64))
    table = _frequencies(np.concatenate(group.rows))
    values = [2 * d if d >= 0 else -2 * d - 1 for d in group.escapes]
    lengths = np.array([value.bit_length() for value in values], np.int64)
    escapes = [(lengths, _frequencies(lengths))] if values else []
    symbols = _pack_symbols(escapes + [(row, table) for row in group.rows], 32)

    def table_bytes(frequencies):
        short = [bytes([f]) if f < 192 else bytes([192, f]) for f in frequencies[:-1].tolist()]
        return b"\xff\xff" + b"".join(short)

    content = b"\x01\x01\x00" + table_bytes(table) + b"".join(table_bytes(t) for _, t in escapes) + parameters
    content += _bits_of((low & ((1 << low_bits) - 1)).tolist(), [low_bits] * low.size)
    content += _bits_of(values, np.maximum(lengths - 1, 0).tolist())
    content = len(values).to_bytes(4, "little") + len(symbols).to_bytes(4, "little") + content + symbols
    body = b"\xaf\x01\x00" + bytes([16, low_bits, fraction])
    for number, size in ((lowest, 2), (lag, 2), (head["start"], 2), (shape[0], 4), (len(content), 4)):
        body += number.to_bytes(size, "little")
    coded = _finish(body + content, shape, codes.itemsize)
    return min(coded, stored, key=len)
