// Decoders of anscombe-v1 and anscombe for zarrita.js: a table of the value of every code, one look-up a value.
// The formats: docs/reference/anscombe-v1.md and anscombe.md.
//
//   import * as zarr from "zarrita";
//   import { register } from "./anscombe.js";
//   register(zarr.registry);
//
// The frame coder (anscombe_frames) that may follow the transform is in frames.js.

import { registerFrames } from "./frames.js";

const VALUES = {
  int8: [Int8Array, -(2 ** 7), 2 ** 7 - 1],
  int16: [Int16Array, -(2 ** 15), 2 ** 15 - 1],
  int32: [Int32Array, -(2 ** 31), 2 ** 31 - 1],
  int64: [BigInt64Array, -(2 ** 52), 2 ** 52],
  uint8: [Uint8Array, 0, 2 ** 8 - 1],
  uint16: [Uint16Array, 0, 2 ** 16 - 1],
  uint32: [Uint32Array, 0, 2 ** 32 - 1],
  uint64: [BigUint64Array, 0, 2 ** 52],
  float32: [Float32Array],
  float64: [Float64Array],
};
const LARGEST_CODE = {
  uint8: 2 ** 8 - 1, uint16: 2 ** 16 - 1, uint32: 2 ** 32 - 1, int8: 2 ** 7 - 1, int16: 2 ** 15 - 1, int32: 2 ** 31 - 1,
};
const V1_KEYS = ["zero_level", "conversion_gain", "encoded_dtype", "decoded_dtype"];
const V2_KEYS = [...V1_KEYS, "read_noise", "beta", "out_of_range", "bins", "decode_table"];

const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

function roundHalfEven(x) {
  return Math.abs(x - Math.trunc(x)) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x);
}

/** Values of the codes of anscombe-v1, by its formula: the truncated middle of the integers that share a code. */
export function tableV1({ zero_level: zero, conversion_gain: gain, encoded_dtype }, dtype) {
  const c = 3 / 8, root = Math.sqrt(c), slope = 2 / root;
  const offset = (zero * slope) / gain;
  const code = (x) => {
    const n = (x - zero) / gain;
    return roundHalfEven(offset + (n < 0 ? n * slope : 4 * (Math.sqrt(n + c) - root)));
  };
  const edge = (q) => {
    const u = q - 0.5 - offset, r = u * 0.25 + root;
    return (u < 0 ? u / slope : r * r - c) * gain + zero;
  };
  const first = (q) => {
    let x = Math.ceil(clamp(edge(q), -(2 ** 52), 2 ** 52));
    if (Math.abs(x) === 2 ** 52) return x;
    while (code(x) < q) x += 1; // the edge is rounded: its neighbour may be the first
    while (code(x - 1) >= q) x -= 1;
    return x;
  };
  const integers = !dtype.startsWith("float");
  const end = dtype === "uint16" ? 65535 : 32767;
  const limit = integers ? Math.min(end, VALUES[dtype][2]) : end;
  const last = Math.min(LARGEST_CODE[encoded_dtype], code(limit));
  const lowest = Math.max(first(0), 0), highest = Math.min(limit, first(last + 1) - 1);
  const middle = (q, stop) => {
    const low = Math.max(first(q), 0), high = first(q + 1) - 1;
    return high >= low ? (low + Math.min(high, stop)) / 2 : (edge(q) + edge(q + 1)) / 2;
  };
  // A narrow type shares the table of int16, unless the middle of its last bin does not fit it.
  const stop = middle(last, end) <= highest ? end : highest;
  const values = Array.from({ length: last + 1 }, (_, q) => clamp(middle(q, stop), lowest, highest));
  return integers ? values.map(Math.trunc) : values;
}

/** Values of the codes of anscombe: its decode table or the middles of its bins, rounded half to even for integers. */
export function tableV2({ bins, decode_table }, dtype) {
  const [, low, high] = VALUES[dtype];
  const widths = bins.widths.flatMap((w) => (Array.isArray(w) ? Array(w[1]).fill(w[0]) : [w]));
  let start = bins.first;
  const middles = widths.map((w) => ((start += w) - w + Math.floor((w - 1) / 2)) * bins.step);
  const values = decode_table ?? middles;
  if (values.length !== widths.length) throw new Error("anscombe: decode_table and bins list different codes");
  return dtype.startsWith("float") ? values : values.map((x) => roundHalfEven(clamp(x, low, high)));
}

class AnscombeCodec {
  kind = "array_to_array";

  constructor(name, configuration, meta) {
    const v2 = name === "anscombe";
    const config = { encoded_dtype: "uint8", decoded_dtype: "int16", ...configuration };
    const unknown = Object.keys(config).filter((key) => !(v2 ? V2_KEYS : V1_KEYS).includes(key));
    if (unknown.length) throw new Error(`${name}: unknown keys ${unknown}; a newer version may have written them`);
    // Zarr V2 spells big-endian values ">i2".
    const [, order, kind, size] = config.decoded_dtype.match(/^([<>|]?)([iuf])([1248])$/) ?? [];
    const decoded = kind ? `${{ i: "int", u: "uint", f: "float" }[kind]}${8 * size}` : config.decoded_dtype;
    if (decoded !== meta.dataType || !(decoded in VALUES) || !(config.encoded_dtype in LARGEST_CODE))
      throw new Error(`${name}: cannot read ${config.encoded_dtype} codes of ${decoded} in an array of ${meta.dataType}`);
    this.encoded = config.encoded_dtype;
    // Codes are little-endian whatever the values are, but zarrita swaps both in a big-endian Zarr V2 array.
    this.swapped = order === ">" && this.encoded.endsWith("16");
    const values = (v2 ? tableV2 : tableV1)(config, decoded);
    const big = decoded.endsWith("int64");
    this.table = VALUES[decoded][0].from(big ? values.map((x) => BigInt(x)) : values);
    this.nanCode = v2 && decoded.startsWith("float") ? LARGEST_CODE[this.encoded] : -1;
  }

  getEncodedMeta(meta) {
    return { ...meta, dataType: this.encoded, fillValue: null };
  }

  decode({ data, shape, stride }) {
    const { table, nanCode, swapped } = this;
    const out = new table.constructor(data.length);
    for (let i = 0; i < data.length; i++) {
      const code = swapped ? ((data[i] & 255) << 8) | (data[i] >> 8) : data[i];
      if (code >= 0 && code < table.length) out[i] = table[code];
      else if (code === nanCode) out[i] = NaN;
      else throw new Error(`code ${code} at ${i} is above the largest, ${table.length - 1}: the data are damaged`);
    }
    return { data: out, shape, stride };
  }

  encode() {
    throw new Error("anscombe.js only reads");
  }
}

/** Teach zarrita's codec registry the formats, in Zarr V3 and (as zarrita names them) in Zarr V2. */
export function register(registry) {
  registerFrames(registry);
  for (const name of ["anscombe-v1", "anscombe"]) {
    const codec = { fromConfig: (configuration, meta) => new AnscombeCodec(name, configuration, meta) };
    for (const alias of [name, `numcodecs.${name}`]) registry.set(alias, () => codec);
  }
}

/** Configuration of the transform in the metadata of an array (`zarr.json` or `.zarray`), portable or not. */
export function detector(metadata) {
  const codecs = [metadata.attributes?.anscombe_portable?.codec, ...(metadata.codecs ?? metadata.filters ?? [])];
  for (const codec of codecs) {
    if (/^(numcodecs\.)?anscombe(-v1)?$/.test(codec?.name ?? codec?.id)) return codec.configuration ?? codec;
    const inner = codec?.name === "sharding_indexed" && detector(codec.configuration);
    if (inner) return inner;
  }
  return undefined;
}
