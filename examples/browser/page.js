// The page: frames on a canvas, in photons. ?array=URL names another array (time, y, x); movie.zarr is the default.

import * as zarr from "zarrita";
import { detector, register } from "./anscombe.js";

register(zarr.registry);
const element = (id) => document.getElementById(id);

/** The array's own metadata: zarrita keeps the codecs to itself, and the photon scale is in them. */
async function metadata(store) {
  const bytes = (await store.get("/zarr.json")) ?? (await store.get("/.zarray"));
  return JSON.parse(new TextDecoder().decode(bytes));
}

/** Frames of the movie, read a chunk of frames at a time; the last few chunks stay in memory. */
function frames(array, kept = 4) {
  const [length, height, width] = array.shape;
  const step = array.chunks[0];
  const blocks = new Map();
  return async (t) => {
    const start = t - (t % step);
    const block = blocks.get(start) ?? zarr.get(array, [zarr.slice(start, Math.min(start + step, length)), null, null]);
    blocks.delete(start);
    blocks.set(start, block);
    if (blocks.size > kept) blocks.delete(blocks.keys().next().value);
    const { data, stride } = await block;
    return (y, x) => Number(data[(t - start) * stride[0] + y * stride[1] + x * stride[2]]);
  };
}

/** Dark blue over orange to white; t from 0 to 1. */
function colour(t) {
  const stops = [[0, 0, 12], [60, 15, 100], [165, 45, 95], [240, 120, 40], [252, 250, 200]];
  const at = Math.min(Math.max(t, 0), 1) * (stops.length - 1);
  const i = Math.min(Math.floor(at), stops.length - 2);
  return stops[i].map((low, k) => low + (at - i) * (stops[i + 1][k] - low));
}

/** Round numbers, about `count` of them, from low to high. */
function ticks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((k) => k * power >= raw);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
}

async function main() {
  const url = new URL(new URLSearchParams(location.search).get("array") ?? "movie.zarr", location.href);
  const store = new zarr.FetchStore(url.href);
  const array = await zarr.open(store, { kind: "array" });
  if (array.shape.length !== 3) throw new Error(`the array has shape ${array.shape}; this page shows (time, y, x)`);
  const found = detector(await metadata(store));
  if (!found) throw new Error("the array has no Anscombe transform, so its photon scale is unknown");
  const { conversion_gain: gain, zero_level: zero } = found;
  const photons = (signal) => (signal - zero) / gain;
  const [length, height, width] = array.shape;
  const frame = frames(array);

  element("title").textContent = `${decodeURIComponent(url.pathname.split("/").pop())}: ${length} frames of ${height} × ${width}`;
  element("detector").textContent =
    `${array.dtype}; one photon is ${+gain.toPrecision(4)} signal units above the zero level of ${+zero.toPrecision(4)}`;
  const canvas = element("movie");
  [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(width, height);

  // One colour scale for the whole movie: all but 1 % of the pixels of its first frame.
  const first = await frame(0);
  const sorted = Float64Array.from({ length: height * width }, (_, i) => photons(first(Math.floor(i / width), i % width)))
    .filter((n) => !Number.isNaN(n)).sort();
  const [low, high] = [0.005, 0.995].map((q) => sorted[Math.floor(q * (sorted.length - 1))]);
  const ramp = element("ramp").getContext("2d");
  for (let i = 0; i < 256; i++) {
    ramp.fillStyle = `rgb(${colour(1 - i / 255)})`;
    ramp.fillRect(0, i, 1, 1);
  }
  const marks = ticks(low, high, 6);
  element("ticks").append(...marks.map((n, i) => {
    const mark = document.createElement("span");
    mark.style.bottom = `${(100 * (n - low)) / (high - low)}%`;
    mark.textContent = `${+n.toPrecision(6)}${i === marks.length - 1 ? " photons" : ""}`;
    return mark;
  }));

  let shown;
  let pointed;
  function describe() {
    if (!shown || !pointed) return;
    const signal = shown.at(...pointed);
    element("pixel").textContent =
      `y ${pointed[0]}, x ${pointed[1]}: signal ${+signal.toPrecision(7)}, ${photons(signal).toFixed(2)} photons`;
  }
  async function show(t) {
    const at = await frame(t);
    if (Number(element("frame").value) !== t) return; // the slider went on while the chunk was read
    for (let y = 0, i = 0; y < height; y++)
      for (let x = 0; x < width; x++, i += 4) {
        const n = photons(at(y, x));
        const [r, g, b] = Number.isNaN(n) ? [90, 110, 120] : colour((n - low) / (high - low));
        image.data.set([r, g, b, 255], i);
      }
    pen.putImageData(image, 0, 0);
    shown = { at };
    element("number").textContent = `frame ${t} of ${length}`;
    describe();
  }

  const slider = element("frame");
  slider.max = length - 1;
  slider.addEventListener("input", () => show(Number(slider.value)).catch(fail));
  canvas.addEventListener("mousemove", (event) => {
    const box = canvas.getBoundingClientRect();
    pointed = [
      Math.min(Math.floor(((event.clientY - box.top) / box.height) * height), height - 1),
      Math.min(Math.floor(((event.clientX - box.left) / box.width) * width), width - 1),
    ];
    describe();
  });
  let timer;
  element("play").addEventListener("click", () => {
    element("play").textContent = timer ? "Play" : "Pause";
    if (timer) timer = clearInterval(timer);
    else timer = setInterval(() => {
      slider.value = (Number(slider.value) + 1) % length;
      show(Number(slider.value)).catch(fail);
    }, 66);
  });
  await show(0);
  document.documentElement.dataset.ready = "yes";
}

function fail(error) {
  element("error").textContent = `${error.message}${error.cause ? `\n${error.cause.message ?? error.cause}` : ""}`;
  element("title").textContent = "No movie";
}

main().catch(fail);
