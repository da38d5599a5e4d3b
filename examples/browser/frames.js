// Decoder of anscombe-frames-v1, preset fast, for zarrita.js: integers only, exact.
// A chunk is a header of four bytes and a zstd frame of residuals, one by one or in pairs; the format: docs/reference/anscombe-frames-v1.md.

const NAME = "anscombe-frames-v1";
const CODES = { uint8: Uint8Array, uint16: Uint16Array };
const VERSION = 0xf1, STORED = 0, RUNNING = 1, LINEAR = 3, PAIRS = 0x10, IN_PLANES = 1, GAPS = 0x10;
const LARGEST_RATE = 5, ESCAPE = 13, MOST_SETS = 16;
const BIAS = { [STORED]: 0, [RUNNING]: 6 };

const damaged = (what) => new Error(`${NAME}: the chunk is damaged, or a newer version wrote it: ${what}`);

/** The shape as (time, plane, y, x), with time first where it is another axis. */
function framesOf(shape, timeAxis) {
  if (!shape.length) return [1, 1, 1, 1];
  const rest = timeAxis === null ? shape : shape.filter((_, axis) => axis !== timeAxis);
  const size = (lengths) => lengths.reduce((a, b) => a * b, 1);
  return [timeAxis === null ? 1 : shape[timeAxis], size(rest.slice(0, -2)), rest.at(-2) ?? 1, rest.at(-1) ?? 1];
}

/** Residuals of the first frame's planes to codes, in place: (NW + 2 N + NE + 2) >> 2; N at the sides; W in row 0. */
function restoreFirst(q, planes, height, width) {
  for (let start = 0; start < planes * height * width; start += height * width) {
    for (let x = 1; x < width; x++) q[start + x] += q[start + x - 1];
    for (let y = 1, row = start + width; y < height; y++, row += width) {
      const above = row - width;
      q[row] += q[above];
      for (let x = 1; x < width - 1; x++)
        q[row + x] += (q[above + x - 1] + 2 * q[above + x] + q[above + x + 1] + 2) >> 2;
      if (width > 1) q[row + width - 1] += q[above + width - 1];
    }
  }
}

/** Residuals to codes, in place: every pixel's running mean, in 1/128 code, predicts its next code. */
function restoreRunning(q, [frames, planes, height, width], rate) {
  restoreFirst(q, planes, height, width);
  const size = planes * height * width;
  const mean = Int32Array.from(q.subarray(0, size), (code) => code << 7);
  for (let t = 1; t < frames; t++) {
    const shift = Math.min(rate, 32 - Math.clz32(t)); // a plain mean of the first frames, then an exponential one
    const half = 1 << (shift - 1);
    for (let i = 0, at = t * size; i < size; i++, at++) {
      const m = mean[i];
      q[at] += (m + 64) >> 7; // the typed array takes it modulo its range
      mean[i] = m + (((q[at] << 7) - m + half) >> shift);
    }
  }
}

/** Two planes of bytes, all low ones before all high ones; of residuals the low byte is signed. */
function join(bytes, out, signed) {
  const n = out.length;
  for (let i = 0; i < n; i++) out[i] = (signed ? (bytes[i] << 24) >> 24 : bytes[i]) + (bytes[n + i] << 8);
}

/** Codes or residuals of pairs: two digits of four bits in a byte, and behind all of them what stands for each ESCAPE. */
function unpair(bytes, bias, size) {
  const out = new Uint8Array(size);
  let next = (out.length + 1) >> 1;
  if (bytes.length < next) throw damaged("it lacks pairs");
  if (out.length % 2 && bytes[next - 1] > 15) throw damaged("a pair has a digit too many");
  for (let i = 0; i < out.length; i++) {
    let symbol = i % 2 ? bytes[i >> 1] >> 4 : bytes[i >> 1] & 15;
    if (symbol >= ESCAPE) {
      if (symbol > ESCAPE || next >= bytes.length || bytes[next] > 255 - ESCAPE) throw damaged("a pair or escape");
      symbol = ESCAPE + bytes[next++];
    }
    out[i] = symbol - bias; // the typed array takes it modulo its range
  }
  if (next !== bytes.length) throw damaged(`it holds ${bytes.length} bytes of ${next}`);
  return out;
}

/** Numbers in front of the symbols of a linear prediction, little-endian. */
class Head {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }
  take(size) {
    this.at += size;
    if (this.at > this.bytes.length) throw damaged("it ends within its prediction");
    return this.bytes.subarray(this.at - size, this.at);
  }
  number(size) {
    return this.take(size).reduceRight((value, byte) => value * 256 + byte, 0);
  }
  signed(size) {
    const shift = 32 - 8 * size;
    return (this.number(size) << shift) >> shift;
  }
  weight() {
    const value = this.signed(1);
    return value === -128 ? this.signed(2) : value;
  }
}

/** The weights of a frame, in 1/4096: level in 1/8 code, constant, those of differences and those of means. */
function readWeights(head, first, codes) {
  const bits = head.number(3);
  const level = bits & 0xfffff, shift = 12 - (bits >> 20);
  const constant = first ? 0 : head.signed(4);
  const all = Array.from({ length: first ? 12 : 16 }, () => head.weight() * 2 ** shift);
  const total = all.reduce((sum, weight) => sum + Math.abs(weight), 0);
  if (level >= 8 * codes || shift < 0 || total > 1 << 15 || Math.abs(constant) > 1 << 29) throw damaged("its weights");
  return { level, constant, taps: all.slice(0, 12), own: first ? [0, 0, 0, 0] : all.slice(12) };
}

/** The codes that a chunk has, from the smallest on. */
function readCodes(head, top) {
  const low = head.number(2), span = head.number(2);
  const bits = head.take((span >> 3) + 1);
  const codes = [];
  for (let i = 0; i < 8 * bits.length; i++) if ((bits[i >> 3] >> (i & 7)) & 1) codes.push(low + i);
  if (codes[0] !== low || codes.at(-1) !== low + span || low + span > top) throw damaged("the codes it names");
  return codes;
}

/** A chunk stored under a linear prediction of neighbours and means, whose weights it brings, to codes. */
function restoreLinear(content, q, [frames, planes, height, width], parameter, paired) {
  const wide = q.BYTES_PER_ELEMENT === 2;
  const stack = frames === 1 ? planes : frames, images = frames === 1 ? 1 : planes;
  const head = new Head(content);
  const count = head.number(1), sets = [];
  if (count < 1 || count > Math.min(stack, MOST_SETS)) throw damaged(`${count} sets of weights`);
  while (sets.length < count) sets.push(readWeights(head, !sets.length, wide ? 65536 : 256));
  const codes = parameter & GAPS ? readCodes(head, wide ? 65535 : 255) : null;
  const more = wide ? new Head(head.take(head.number(4))) : null;
  const body = content.subarray(head.at);
  const bytes = paired ? unpair(body, 0, q.length) : body;
  if (bytes.length !== q.length) throw damaged(`it holds ${bytes.length} bytes of ${q.length}`);
  for (let i = 0; i < q.length; i++) {
    let symbol = bytes[i];
    if (wide && symbol >= 224) {
      const low = more.number(1);
      symbol = 224 + low + 256 * (symbol === 255 ? more.number(1) : symbol - 224);
    }
    if (symbol > (wide ? 65535 : 255)) throw damaged("a symbol");
    q[i] = symbol & 1 ? -(symbol + 1) >> 1 : symbol >> 1; // a residual, modulo the range of the array
  }
  if (wide && more.at !== more.bytes.length) throw damaged("it has bytes too many");
  const rate = parameter & 15, size = images * height * width;
  const mean = new Int32Array(size);
  for (let t = 0; t < stack; t++) {
    const set = sets[Math.min(t, count - 1)];
    const frame = q.subarray(t * size, (t + 1) * size);
    for (let i = 0; i < images; i++) {
      const [from, to] = [i * height * width, (i + 1) * height * width];
      const means = t ? mean.slice(from, to).map((e) => (e + 8) >> 4) : new Int32Array(to - from).fill(set.level);
      restoreImage(frame.subarray(from, to), means, height, width, set, !t);
    }
    const shift = t ? Math.min(rate, 32 - Math.clz32(t)) : 0;
    for (let i = 0; i < size; i++)
      mean[i] = shift ? mean[i] + (((frame[i] << 7) - mean[i] + (1 << (shift - 1))) >> shift) : frame[i] << 7;
  }
  if (codes)
    for (let i = 0; i < q.length; i++) {
      if (q[i] >= codes.length) throw damaged("a code beyond those that it names");
      q[i] = codes[q[i]];
    }
}

const limited = (v) => Math.max(-32767, Math.min(32767, v));
const ALONE = [4096, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/** Residuals of one image to codes, in place. */
function restoreImage(q, means, height, width, { level, constant, taps, own }, first) {
  // Differences of the row and of the three above it, newest first, each with three more at either end.
  let rows = Array.from({ length: 4 }, () => new Int32Array(width + 6));
  const at = (y, x) => means[Math.max(0, Math.min(height - 1, y)) * width + Math.max(0, Math.min(width - 1, x))];
  for (let y = 0; y < height; y++) {
    const [d1, d2, d3, d] = rows;
    d.fill(d1[3], 0, 3);
    const c = first && !y ? ALONE : taps;
    for (let x = 0, i = y * width; x < width; x++, i++) {
      const m = means[i];
      let sum = 0;
      if (!first) {
        const corners = at(y - 1, x - 1) + at(y - 1, x + 1) + at(y + 1, x - 1) + at(y + 1, x + 1);
        sum = own[0] * limited(m - level) + own[1] * limited(at(y, x - 1) + at(y, x + 1) - 2 * m) + constant;
        sum += own[2] * limited(at(y - 1, x) + at(y + 1, x) - 2 * m) + own[3] * limited(corners - 4 * m);
      }
      sum += c[0] * d[x + 2] + c[1] * d[x + 1] + c[2] * d[x] + c[3] * d1[x + 3] + c[4] * d1[x + 2];
      sum += c[5] * d1[x + 4] + c[6] * d1[x + 1] + c[7] * d1[x + 5] + c[8] * d2[x + 3];
      sum += c[9] * d2[x + 2] + c[10] * d2[x + 4] + c[11] * d3[x + 3];
      q[i] += (m + ((sum + 2048) >> 12) + 4) >> 3; // the typed array takes it modulo its range
      d[x + 3] = limited(8 * q[i] - m);
    }
    d.fill(d[3], 0, 3).fill(d[width + 2], width + 3);
    rows = y ? [d, d1, d2, d3] : [d, d.slice(), d.slice(), d3]; // rows above the first are as the first
  }
}

/** Bring the time axis from the front to its place. */
function placeTime(q, shape, timeAxis) {
  if (!timeAxis) return q;
  const out = new q.constructor(q.length);
  const product = (from, to) => shape.slice(from, to).reduce((a, b) => a * b, 1);
  const outer = product(0, timeAxis), frames = shape[timeAxis], inner = product(timeAxis + 1);
  for (let t = 0; t < frames; t++)
    for (let o = 0; o < outer; o++) {
      const from = (t * outer + o) * inner;
      out.set(q.subarray(from, from + inner), (o * frames + t) * inner);
    }
  return out;
}

/** The codes of a chunk in C order. `inflate` decodes a zstd frame and checks its checksum. */
export async function decodeChunk(bytes, { shape, dtype, timeAxis }, inflate) {
  const [version, stage, parameter, check] = bytes;
  if (bytes.length < 4 || (version ^ stage ^ parameter ^ check) !== 0xff) throw damaged("its header is none");
  if (version !== VERSION) throw damaged(`version ${version}`);
  const q = new CODES[dtype](shape.reduce((a, b) => a * b, 1));
  const wide = q.BYTES_PER_ELEMENT === 2;
  if ((stage & 15) === LINEAR && (stage & ~PAIRS) === LINEAR && !(parameter & ~31) && (parameter & 15) <= LARGEST_RATE) {
    const content = await inflate(bytes.subarray(4));
    restoreLinear(content, q, framesOf(shape, timeAxis), parameter, stage !== LINEAR);
    return placeTime(q, shape, timeAxis);
  }
  const method = !wide && (stage ^ PAIRS) in BIAS ? stage ^ PAIRS : stage;
  const content = await inflate(bytes.subarray(4));
  const values = method === stage ? content : unpair(content, BIAS[method], q.length);
  if (values.length !== q.byteLength) throw damaged(`it holds ${values.length} bytes of ${q.byteLength}`);
  if (method === STORED && parameter <= IN_PLANES) {
    if (wide && parameter === IN_PLANES) join(values, q, false);
    else if (wide) for (let i = 0; i < q.length; i++) q[i] = values[2 * i] | (values[2 * i + 1] << 8);
    else q.set(values);
  } else if (method === RUNNING && parameter >= 1 && parameter <= LARGEST_RATE) {
    if (wide) join(values, q, true);
    else q.set(values);
    if (q.length) restoreRunning(q, framesOf(shape, timeAxis), parameter);
  } else throw damaged(`method ${stage}, parameter ${parameter}; this reader knows the preset fast`);
  return placeTime(q, shape, timeAxis);
}

class FrameCodec {
  constructor(configuration, meta, zstd) {
    const { preset, time_axis: timeAxis, chunk_shape: shape, dtype, ...unknown } = configuration;
    if (preset !== "fast") throw new Error(`${NAME}: this reader knows the preset fast, not ${preset}`);
    if (Object.keys(unknown).length)
      throw new Error(`${NAME}: unknown keys ${Object.keys(unknown)}; a newer version may have written them`);
    // Zarr V2 has a compressor of bytes, whose configuration says of which shape and type; V3 a serializer.
    this.kind = shape ? "bytes_to_bytes" : "array_to_bytes";
    const [, order, size] = dtype?.match(/^([<>|=]?)u([12])$/) ?? [];
    this.big = order === ">";
    const named = size ? `uint${8 * size}` : dtype;
    this.chunk = { shape: shape ?? meta.shape, dtype: shape ? named : meta.dataType, timeAxis };
    if (!(this.chunk.dtype in CODES)) throw new Error(`${NAME}: cannot hold codes of ${this.chunk.dtype}`);
    this.zstd = zstd;
  }

  async decode(bytes) {
    const codec = (await this.zstd()).fromConfig({ level: 1 });
    const data = await decodeChunk(bytes, this.chunk, (frame) => codec.decode(frame));
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

/** Teach zarrita's codec registry the frame coder: serializer of Zarr V3, compressor of V2. Uses its zstd. */
export function registerFrames(registry) {
  const codec = { fromConfig: (configuration, meta) => new FrameCodec(configuration, meta, registry.get("zstd")) };
  for (const alias of [NAME, `numcodecs.${NAME}`]) registry.set(alias, () => codec);
}
