// Read Zarr arrays from disk: node read.js ARRAY VALUES [ARRAY VALUES ...]
// Writes the values of each array in C order, as raw little-endian numbers, and prints shapes and dtypes as JSON.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as zarr from "zarrita";
import { register } from "./anscombe.js";

register(zarr.registry);

/** A folder as zarrita wants a store: bytes of a key, whole or in part, or undefined. */
function folder(root) {
  const get = (key) => readFile(join(root, key)).catch((error) => {
    if (error.code !== "ENOENT") throw error;
  });
  const getRange = async (key, { offset, length, suffixLength }) => {
    const bytes = await get(key);
    return bytes && (suffixLength ? bytes.subarray(-suffixLength) : bytes.subarray(offset, offset + length));
  };
  return { get, getRange };
}

/** The values in C order, the last axis fastest: zarrita gives them in the array's own order. */
function inCOrder({ data, shape, stride }) {
  const out = new data.constructor(data.length);
  for (let i = 0; i < data.length; i++) {
    let from = 0;
    for (let axis = shape.length - 1, rest = i; axis >= 0; axis--) {
      from += (rest % shape[axis]) * stride[axis];
      rest = Math.floor(rest / shape[axis]);
    }
    out[i] = data[from];
  }
  return out;
}

const read = [];
for (let i = 2; i < process.argv.length; i += 2) {
  const array = await zarr.open(folder(process.argv[i]), { kind: "array" });
  const values = inCOrder(await zarr.get(array));
  await writeFile(process.argv[i + 1], new Uint8Array(values.buffer));
  read.push({ shape: array.shape, dtype: array.dtype });
}
console.log(JSON.stringify(read));
