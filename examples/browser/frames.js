// Decoder of anscombe_frames for zarrita.js: libanscombe as WebAssembly, which wasm/build.sh makes. All presets, exact.
// The format: docs/reference/anscombe_frames.md.

const NAME = "anscombe_frames";
const CODES = { uint8: Uint8Array, uint16: Uint16Array };
const PAGE = 65536;
const ERRORS = { "-1": "of another shape", "-2": "damaged, or of another shape", "-3": "written by a newer version" };

let loading;

/** The functions of frames.wasm, which is loaded once. */
function load() {
  loading ??= (async () => {
    const url = new URL("./frames.wasm", import.meta.url);
    const bytes = url.protocol === "file:"
      ? await (await import("node:fs/promises")).readFile(url)
      : await (await fetch(url)).arrayBuffer();
    return (await WebAssembly.instantiate(bytes)).instance.exports;
  })();
  return loading;
}

/** Frames, rows and columns of a shape; all axes but the last two of an image count frames, time first. */
function framesOf(shape, timeAxis) {
  const rest = timeAxis === null ? shape : shape.filter((_, axis) => axis !== timeAxis);
  const size = (lengths) => lengths.reduce((a, b) => a * b, 1);
  const times = timeAxis === null || !shape.length ? 1 : shape[timeAxis];
  return [times * size(rest.slice(0, -2)), rest.at(-2) ?? 1, rest.at(-1) ?? 1];
}

/** A result of the module that is no error. */
function checked(result) {
  if (result < 0) throw new Error(`${NAME}: the chunk is ${ERRORS[result] ?? `not readable (${result})`}`);
  return result;
}

/** Make the memory of the module hold so many bytes from its beginning; where the next place for data is. */
function reserve(core, end) {
  const missing = end - core.memory.buffer.byteLength;
  if (missing > 0) core.memory.grow(Math.ceil(missing / PAGE));
}

/** The codes of a chunk, in the order of its shape. */
function decodeChunk(core, bytes, { shape, dtype, timeAxis }) {
  const frames = framesOf(shape, timeAxis), size = CODES[dtype].BYTES_PER_ELEMENT;
  const count = frames.reduce((a, b) => a * b, 1);
  const after = (address, length) => Math.ceil((address + length) / 64) * 64;
  const chunk = after(core.memory_begin(), 0), codes = after(chunk, bytes.length), room = after(codes, count * size);
  reserve(core, room);
  new Uint8Array(core.memory.buffer, chunk, bytes.length).set(bytes);
  const scratch = checked(core.scratch(chunk, bytes.length, ...frames, size));
  reserve(core, room + scratch);
  checked(core.decode(chunk, bytes.length, ...frames, size, codes, room, scratch));
  return placeTime(new CODES[dtype](core.memory.buffer, codes, count).slice(), shape, timeAxis);
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
  constructor(core, configuration, meta) {
    const { preset, time_axis: timeAxis, chunk_shape: shape, dtype, ...unknown } = configuration;
    if (Object.keys(unknown).length || !preset)
      throw new Error(`${NAME}: unknown keys ${Object.keys(unknown)}; a newer version may have written them`);
    this.core = core;
    // Zarr V2 has a compressor of bytes, whose configuration says of which shape and type; V3 a serializer.
    this.kind = shape ? "bytes_to_bytes" : "array_to_bytes";
    const [, order, size] = dtype?.match(/^([<>|=]?)u([12])$/) ?? [];
    this.big = order === ">";
    const named = size ? `uint${8 * size}` : dtype;
    this.chunk = { shape: shape ?? meta.shape, dtype: shape ? named : meta.dataType, timeAxis };
    if (!(this.chunk.dtype in CODES)) throw new Error(`${NAME}: cannot hold codes of ${this.chunk.dtype}`);
  }

  async decode(bytes) {
    const data = decodeChunk(this.core, bytes, this.chunk);
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
  const codec = async () => {
    const core = await load();
    return { fromConfig: (configuration, meta) => new FrameCodec(core, configuration, meta) };
  };
  // zarrita looks for the ids of Zarr V2 behind a prefix of its own.
  for (const name of [NAME, `numcodecs.${NAME}`]) registry.set(name, codec);
}
