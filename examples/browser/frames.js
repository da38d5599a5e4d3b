// Decoder of anscombe-frames-v1, preset fast, for zarrita.js: integers only, exact.
// A chunk is a header of four bytes and a zstd frame of residuals, one by one or in pairs; the format: docs/reference/anscombe-frames-v1.md.

const NAME = "anscombe-frames-v1";
const CODES = { uint8: Uint8Array, uint16: Uint16Array };
const VERSION = 0xf1, STORED = 0, RUNNING = 1, PAIRS = 0x10, IN_PLANES = 1;
const LARGEST_RATE = 5, ESCAPE = 13;
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
