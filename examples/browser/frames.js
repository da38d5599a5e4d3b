// Decoder of anscombe_frames for zarrita.js: integers only, exact. The format: docs/reference/anscombe_frames.md.

const NAME = "anscombe_frames";
const CODES = { uint8: Uint8Array, uint16: Uint16Array };
const FIRST_BYTE = 0xaf, STORED = 0, CODED = 1, CONSTANT = 2, ESCAPE = 15, CENTRE = 7;
const LANES = { 16: 32, 64: 128, 136: 16, 160: 64 };

const damaged = (what) => new Error(`${NAME}: the chunk is damaged, or a newer version wrote it: ${what}`);
const require = (fact, what) => {
  if (!fact) throw damaged(what);
};

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? 0xedb88320 ^ (byte >>> 1) : byte >>> 1;
  return byte >>> 0;
});
const crc32 = (crc, bytes) => ~bytes.reduce((c, byte) => CRC[(c ^ byte) & 255] ^ (c >>> 8), ~crc) >>> 0;

/** Frames, rows and columns of a shape; all axes but the last two of an image count frames, time first. */
function framesOf(shape, timeAxis) {
  const rest = timeAxis === null ? shape : shape.filter((_, axis) => axis !== timeAxis);
  const size = (lengths) => lengths.reduce((a, b) => a * b, 1);
  const times = timeAxis === null || !shape.length ? 1 : shape[timeAxis];
  return [times * size(rest.slice(0, -2)), rest.at(-2) ?? 1, rest.at(-1) ?? 1];
}

/** Bytes that are read one after the other. */
class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }
  take(count) {
    require(count >= 0 && this.at + count <= this.bytes.length, "it ends too early");
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }
  number(size) {
    return this.take(size).reduceRight((value, byte) => value * 256 + byte, 0);
  }
  signed(size) {
    return (this.number(size) << (32 - 8 * size)) >> (32 - 8 * size);
  }
}

/** Modulo 2^16, signed; and a level times a weight in units of 2^-15, rounded. */
const wrap = (value) => (value << 16) >> 16;
const times = (level, weight) => wrap((((level * weight) >> 14) + 1) >> 1);

/** A number of so many bits at a place of packed bits. */
function bitsAt(bytes, at, count) {
  let value = 0;
  for (let bit = 0; bit < count; bit++, at++) value += ((bytes[at >> 3] >> (at & 7)) & 1) * 2 ** bit;
  return value;
}

function readTable(reader, scale) {
  const used = reader.number(2), table = new Uint16Array(16);
  require((used & (used - 1)) !== 0, "a table of one symbol");
  for (let symbol = 0, left = scale; symbol < 16; symbol++) {
    if (!((used >> symbol) & 1)) continue;
    const last = used >> symbol === 1;
    let found = last ? left : reader.number(1);
    if (!last && found >= 192) found = (found - 192) * 256 + reader.number(1);
    require(found > 0 && (last || found < left), "a table's frequencies");
    table[symbol] = found;
    left -= found;
  }
  return table;
}

/** The entropy coder of a group: many states that take turns. */
class Source {
  constructor(bytes, head, tables) {
    this.bits = head.wide ? 10 : 8;
    this.size = head.wide ? 2 : 1;
    this.lowest = head.wide ? 65536 : 256;
    const reader = new Reader(bytes);
    this.states = Array.from({ length: head.lanes }, () => reader.number(2 * this.size));
    require(this.states.every((state) => state >= this.lowest), "a state");
    this.bytes = bytes;
    this.at = reader.at;
    this.slots = tables.map((table) => {
      const slots = new Uint32Array(1 << this.bits); // symbol, frequency and slot less start
      let slot = 0;
      table.forEach((frequency, symbol) => {
        for (let rest = 0; rest < frequency; rest++) slots[slot++] = symbol | (frequency << 4) | (rest << 15);
      });
      return slots;
    });
  }
  /** The symbol of item x of a row. */
  next(x, table) {
    const lane = x % this.states.length, state = this.states[lane];
    const entry = this.slots[table][state & ((1 << this.bits) - 1)];
    let moved = ((entry >> 4) & 2047) * Math.floor(state / (1 << this.bits)) + (entry >> 15);
    if (moved < this.lowest) {
      require(this.at + this.size <= this.bytes.length, "it lacks words");
      moved = moved * 256 ** this.size + this.bytes[this.at] + (this.size > 1 ? this.bytes[this.at + 1] * 256 : 0);
      this.at += this.size;
    }
    this.states[lane] = moved;
    return entry & 15;
  }
  end() {
    require(this.states.every((state) => state === this.lowest) && this.at === this.bytes.length, "its end");
  }
}

const NOTHING = { gain: 0, weights: Array(8).fill(0), level: 0, bias: 0, changeGain: 0, change: [0, 0, 0] };
Object.assign(NOTHING, { rowGain: 0, rowLevel: 0, rowNear: 0, rowFar: 0, odd: 0, leftGain: 0, leftLevel: 0 });

/** A frame's parameters; what it does not say is as in the frame before. */
function readPrediction(reader, before) {
  const has = reader.number(1), p = { ...before };
  require(has < 64, "a frame's parameters");
  const gain = () => reader.number(1) << 7, weight = () => reader.signed(1) << 8;
  if (has & 1) p.gain = gain();
  if (has & 2) {
    p.weights = Array.from({ length: 8 }, weight);
    p.level = reader.signed(2);
    p.bias = reader.signed(2);
  }
  if (has & 4) {
    p.changeGain = gain();
    p.change = Array.from({ length: 3 }, () => reader.signed(2));
  }
  if (has & 8) [p.rowGain, p.rowLevel, p.rowNear, p.rowFar] = [gain(), reader.signed(2), weight(), weight()];
  if (has & 16) p.odd = weight();
  if (has & 32) [p.leftGain, p.leftLevel] = [gain(), reader.signed(2)];
  return p;
}

/** What the frames of a group have in common. */
function openGroup(content, frames, pixels, head, before) {
  const group = new Reader(content.take(content.number(4)));
  const escapes = group.number(4), coded = group.number(4);
  require(escapes <= frames * pixels && coded <= group.bytes.length - group.at, "a group's sizes");
  const words = group.bytes.subarray(group.bytes.length - coded);
  const reader = new Reader(group.bytes.subarray(group.at, group.bytes.length - coded));
  const scale = head.wide ? 1024 : 256, fresh = reader.number(1);
  require(fresh === 1 || (fresh === 0 && before), "its tables");
  let model = before;
  if (fresh) {
    const bands = reader.number(1), phases = reader.number(1);
    require(bands >= 1 && phases <= 2 && bands << phases <= 64, "its contexts");
    const starts = [...reader.take(bands - 1)];
    require(starts.every((start, i) => start > (i ? starts[i - 1] : 0)), "its bands");
    const tables = Array.from({ length: bands << phases }, () => readTable(reader, scale));
    require(tables.every((table) => table[ESCAPE] > 0), "a table without escapes");
    model = { phases, starts, tables };
  }
  const lengths = escapes ? readTable(reader, scale) : Uint16Array.of(scale - 1, 1);
  const predictions = [];
  for (let i = 0, p = head.prediction; i < frames; i++) predictions.push((p = head.prediction = readPrediction(reader, p)));
  const low = reader.take(Math.ceil((frames * pixels * head.lowBits) / 8));
  const source = new Source(words, head, [...model.tables, lengths]);
  const distances = new Int32Array(escapes);
  const bits = reader.take(reader.bytes.length - reader.at);
  let at = 0;
  for (let i = 0; i < escapes; i++) {
    const digits = source.next(i, model.tables.length), more = Math.max(digits - 1, 0);
    require(at + more <= 8 * bits.length, "it lacks bits");
    const value = digits ? 2 ** more + bitsAt(bits, at, more) : 0;
    at += more;
    distances[i] = value & 1 ? -(value >> 1) - 1 : value >> 1;
  }
  require((at + 7) >> 3 === bits.length, "bits left");
  return { model, predictions, low, source, distances, escaped: 0 };
}

/** The code of item x of a row, from its prediction. */
function codeOf(group, fraction, x, predicted) {
  const { phases, starts } = group.model, whole = predicted >> fraction;
  let band = 0;
  while (band < starts.length && starts[band] <= whole) band++;
  const phase = (predicted >> (fraction - phases)) & ((1 << phases) - 1);
  const symbol = group.source.next(x, (band << phases) + phase);
  if (symbol !== ESCAPE) return (whole + symbol - CENTRE) & 65535;
  require(group.escaped < group.distances.length, "it lacks escapes");
  return (whole + group.distances[group.escaped++]) & 65535;
}

/** What earlier frames say of a frame: without change, and with it. */
function fromPast(image, p, height, width) {
  const past = new Int16Array(height * width), base = new Int16Array(height * width);
  const { level, change } = image;
  for (let y = 0, i = 0; y < height; y++) {
    const up = y ? -width : 0, down = y + 1 < height ? width : 0;
    for (let x = 0; x < width; x++, i++) {
      const left = x ? -1 : 0, right = x + 1 < width ? 1 : 0, m = level[i];
      const around = [up + left, up, up + right, left, right, down + left, down, down + right];
      let sum = m + p.bias + times(m, p.level);
      for (let k = 0; k < 8; k++) sum += times(wrap(level[i + around[k]] - m), p.weights[k]);
      past[i] = base[i] = sum;
      if (!p.changeGain) continue;
      const [nw, n, ne, w, e, sw, s, se] = around.map((step) => change[i + step]);
      base[i] += times(change[i], p.change[0]) + times(wrap(n + s + w + e), p.change[1]) + times(wrap(nw + ne + sw + se), p.change[2]);
    }
  }
  return { past, base };
}

/** What a row and its errors say of the next one, in place. */
function nextRow(row, error, p) {
  const last = row.length - 1, g = row.map((value, x) => value + times(error[x], p.rowGain));
  for (let x = 0; x <= last; x++) {
    const at = (place) => times(wrap(g[Math.min(Math.max(place, 0), last)] - g[x]), Math.abs(place - x) > 1 ? p.rowFar : p.rowNear);
    row[x] = g[x] + times(g[x], p.rowLevel) + at(x - 1) + at(x + 1) + at(x - 2) + at(x + 2);
  }
}

/** Decode a frame; `image` holds the states of the frames before, if there are, and is moved on. */
function decodeFrame(group, head, p, image, height, width) {
  const { fraction } = head, size = height * width, first = !image.level;
  const zeros = () => new Int16Array(size);
  const { past, base } = first ? { past: zeros(), base: zeros() } : fromPast(image, p, height, width);
  const byRows = first || p.rowGain !== 0 || p.odd !== 0 || p.leftGain !== 0;
  const codes = new Uint16Array(size), predicted = new Int16Array(size), error = new Int16Array(width), row = new Int16Array(width);
  const code = (x, item, i) => {
    codes[i] = codeOf(group, fraction, item, predicted[i]);
    error[x] = (codes[i] << fraction) - predicted[i];
  };
  for (let y = 0, start = 0; y < height; y++, start += width) {
    if (first && y === 0) {
      for (let x = 0; x < width; x++) {
        predicted[x] = row[x] = x ? row[x - 1] + times(error[x - 1], 1 << 14) : head.start << fraction;
        code(x, 0, x);
      }
    } else if (p.leftGain) {
      for (let x = 0, left = 0; x < width; x++) {
        row[x] += left;
        predicted[start + x] = Math.max(0, wrap(base[start + x] + row[x]));
        code(x, x, start + x);
        left = wrap(left + times(error[x], p.leftGain));
        left = wrap(left + times(left, p.leftLevel));
      }
    } else {
      const step = byRows && p.odd ? 2 : 1;
      for (let x = 0; x < width; x++) predicted[start + x] = Math.max(0, wrap(base[start + x] + row[x]));
      for (let x = 0; x < width; x += step) code(x, x / step, start + x);
      for (let x = 1; x < width && step === 2; x += 2) {
        const share = times(wrap(error[x - 1] + (x + 1 < width ? error[x + 1] : 0)), p.odd);
        row[x] += share;
        predicted[start + x] = Math.max(0, wrap(predicted[start + x] + share));
        code(x, x >> 1, start + x);
      }
    }
    if (byRows) nextRow(row, error, p);
  }
  const level = zeros(), moving = p.changeGain !== 0 && !first, change = moving ? zeros() : (image.change ?? zeros());
  for (let i = 0; i < size; i++) {
    const miss = wrap((codes[i] << fraction) - predicted[i]);
    if (moving) change[i] = predicted[i] - past[i] + times(miss, p.changeGain);
    level[i] = Math.max(0, wrap((moving ? past[i] : predicted[i]) + times(miss, p.gain)));
  }
  Object.assign(image, { level, change });
  return codes;
}

function decodeCoded(content, q, frames, height, width) {
  const folded = content.number(1), coding = content.number(1);
  const head = { wide: coding >> 7, lanes: LANES[coding], prediction: NOTHING };
  [head.lowBits, head.fraction, head.lowest] = [content.number(1), content.number(1), content.number(2)];
  const lag = content.number(2);
  head.start = content.number(2);
  const inGroup = content.number(4);
  if (folded) [frames, height, width] = [1, frames, height * width];
  const sound = folded <= 1 && head.lanes && head.lowBits < 16 && head.fraction >= 2 && head.fraction <= 7;
  require(sound && head.start < 1 << (15 - head.fraction), "its head");
  require(lag >= 1 && lag <= frames && inGroup >= 1 && inGroup <= frames, "its head");
  const images = Array.from({ length: lag }, () => ({})), pixels = height * width;
  for (let start = 0, model; start < frames; start += inGroup) {
    const count = Math.min(inGroup, frames - start);
    const group = openGroup(content, count, pixels, head, model);
    model = group.model;
    for (let i = 0; i < count; i++) {
      const codes = decodeFrame(group, head, group.predictions[i], images[(start + i) % lag], height, width);
      for (let k = 0, at = i * pixels; k < pixels; k++, at++) {
        const low = head.lowBits ? bitsAt(group.low, at * head.lowBits, head.lowBits) : 0;
        q[start * pixels + at] = codes[k] * 2 ** head.lowBits + low + head.lowest; // modulo the range of its type
      }
    }
    group.source.end();
    require(group.escaped === group.distances.length, "escapes left");
  }
  require(content.at === content.bytes.length, "bytes left");
}

/** The codes of a chunk, in the order of its shape. */
function decodeChunk(bytes, { shape, dtype, timeAxis }) {
  const [frames, height, width] = framesOf(shape, timeAxis);
  const q = new CODES[dtype](frames * height * width), size = q.BYTES_PER_ELEMENT;
  require(bytes.length >= 6, "it is too short");
  const end = bytes.length - 4, check = new Reader(bytes.subarray(end)).number(4);
  const sizes = new Uint8Array(16);
  [frames, height, width, size].forEach((n, i) => new DataView(sizes.buffer).setUint32(4 * i, n, true));
  require(crc32(crc32(0, bytes.subarray(0, end)), sizes) === check, "its checksum");
  require(bytes[0] === FIRST_BYTE, "its first byte");
  const content = new Reader(bytes.subarray(2, end));
  if (bytes[1] === STORED) {
    require(content.bytes.length === size * q.length, "its size");
    for (let i = 0; i < q.length; i++) q[i] = content.bytes[size * i] + (size > 1 ? content.bytes[2 * i + 1] * 256 : 0);
  } else if (bytes[1] === CONSTANT) {
    require(content.bytes.length === 2 && (size > 1 || content.bytes[1] === 0), "its size");
    q.fill(content.number(2));
  } else {
    require(bytes[1] === CODED, "its method");
    decodeCoded(content, q, frames, height, width);
  }
  return placeTime(q, shape, timeAxis);
}

/** Codes with time first to the order of the shape. */
function placeTime(q, shape, axis) {
  if (!axis) return q;
  const out = new q.constructor(q.length), size = (lengths) => lengths.reduce((a, b) => a * b, 1);
  const before = size(shape.slice(0, axis)), time = shape[axis], after = size(shape.slice(axis + 1));
  for (let t = 0, from = 0; t < time; t++)
    for (let b = 0; b < before; b++, from += after) out.set(q.subarray(from, from + after), (b * time + t) * after);
  return out;
}

class FrameCodec {
  constructor(configuration, meta) {
    const { preset, time_axis: timeAxis, chunk_shape: shape, dtype, ...unknown } = configuration;
    if (Object.keys(unknown).length || !preset)
      throw new Error(`${NAME}: unknown keys ${Object.keys(unknown)}; a newer version may have written them`);
    // Zarr V2 has a compressor of bytes, whose configuration says of which shape and type; V3 a serializer.
    this.kind = shape ? "bytes_to_bytes" : "array_to_bytes";
    const [, order, size] = dtype?.match(/^([<>|=]?)u([12])$/) ?? [];
    this.big = order === ">";
    const named = size ? `uint${8 * size}` : dtype;
    this.chunk = { shape: shape ?? meta.shape, dtype: shape ? named : meta.dataType, timeAxis };
    if (!(this.chunk.dtype in CODES)) throw new Error(`${NAME}: cannot hold codes of ${this.chunk.dtype}`);
  }

  async decode(bytes) {
    const data = decodeChunk(bytes, this.chunk);
    const { shape } = this.chunk;
    if (this.kind === "array_to_bytes") {
      const stride = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
      return { data, shape, stride };
    }
    const out = new Uint8Array(data.length * data.BYTES_PER_ELEMENT);
    const view = new DataView(out.buffer);
    if (data.BYTES_PER_ELEMENT === 1) out.set(data);
    else data.forEach((code, i) => view.setUint16(2 * i, code, !this.big));
    return out;
  }

  encode() {
    throw new Error("frames.js only reads");
  }
}

/** Teach zarrita's codec registry the frame coder: serializer of Zarr V3, compressor of V2. */
export function registerFrames(registry) {
  const codec = { fromConfig: (configuration, meta) => new FrameCodec(configuration, meta) };
  // zarrita looks for the ids of Zarr V2 behind a prefix of its own.
  for (const name of [NAME, `numcodecs.${NAME}`]) registry.set(name, () => codec);
}
