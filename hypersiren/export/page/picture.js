"use strict";
// A field of rows and columns on the canvas: pan, zoom, views, slices. Coarse first: every eighth pixel, every fourth,
// every second, all; none is computed twice, and where cubics between the pixels are as good, they do. While that goes
// on the last picture is shown, moved and scaled, where it is the finer one.

const LEVELS = [8, 4, 2, 1]; // every 8th pixel of every 8th row first
const TILE = 32;
const WEIGHTS = [[5, 15, -5, 1], [-1, 9, 9, -1], [1, -5, 15, 5]].map((row) => row.map((n) => n / 16)); // between 4 points

const short = (number) => String(Number(number.toPrecision(3)));

class Picture {
  constructor(page, data, backend) {
    Object.assign(this, { page, data, backend });
    this.canvas = document.getElementById("canvas");
    this.brush = this.canvas.getContext("2d", { alpha: false });
    this.overlay = document.getElementById("known-pixels");
    this.frame = document.getElementById("frame");
    this.wanted = "value";
    this.gain = null; // numbers of this size are white; chosen from the coarse picture
    this.contrast = 0;
    this.turn = 0;
    this.axes = data.axes; // of rows and columns
    this.fixed = Array(data.inputs).fill(0);
    this.settled = Promise.resolve();
    this.reset();
  }

  // The canvas's pixels are the screen's.
  measure() {
    const ratio = window.devicePixelRatio || 1, box = this.canvas.getBoundingClientRect();
    this.width = Math.max(1, Math.round(box.width * ratio));
    this.height = Math.max(1, Math.round(box.height * ratio));
    this.ratio = ratio;
  }

  reset() {
    this.measure();
    const [rows, columns] = this.data.samples;
    this.centre = [0, 0];
    this.scale = 0.96 * Math.min(this.height / rows, this.width / columns); // pixels of the screen for one of the signal
  }

  // Coordinates between neighbouring pixels, down and to the right.
  get pitch() {
    return this.data.samples.map((n) => 2 / (n * this.scale));
  }

  place(i, j) {
    const [down, right] = this.pitch;
    return [this.centre[0] + (i + 0.5 - this.height / 2) * down, this.centre[1] + (j + 0.5 - this.width / 2) * right];
  }

  points(grids) {
    const D = this.data.inputs, [a, b] = this.axes, [down, right] = this.pitch, [top, left] = this.place(0, 0);
    const points = new Float64Array(D * grids.reduce((sum, grid) => sum + grid.rows * grid.columns, 0));
    let at = 0;
    for (const { i, j, step, rows, columns } of grids) {
      for (let r = 0; r < rows; r++) {
        for (let c = 0; c < columns; c++, at += D) {
          for (let d = 0; d < D; d++) points[at + d] = this.fixed[d];
          points[at + a] = top + (i + r * step) * down;
          points[at + b] = left + (j + c * step) * right;
        }
      }
    }
    return points;
  }

  // What a level adds to a tile: every `level`-th pixel that the level before did not have.
  grids({ i, j }, level) {
    const starts = level === LEVELS[0] ? [[0, 0]] : [[0, level], [level, 0], [level, level]];
    const step = level === LEVELS[0] ? level : 2 * level;
    const [height, width] = level === 1 ? [this.height, this.width] : [this.rows, this.columns];
    const bottom = Math.min(height, i + TILE), end = Math.min(width, j + TILE);
    return starts.map(([di, dj]) => ({
      i: i + di, j: j + dj, step,
      rows: Math.max(0, Math.ceil((bottom - i - di) / step)), columns: Math.max(0, Math.ceil((end - j - dj) / step)),
    }));
  }

  // Start anew; `settled` is the promise of the finished picture: of the milliseconds that each level took.
  draw() {
    this.measure();
    this.preview();
    this.settled = this.refine(++this.turn);
    return this.settled;
  }

  async refine(turn) {
    const stale = () => turn !== this.turn, started = performance.now(), times = {};
    const { wanted } = this, count = numbersOf(wanted, this.data);
    // Whole steps of the coarsest level, so that every pixel lies between two of its points.
    [this.rows, this.columns] = [this.height, this.width].map((n) => LEVELS[0] * Math.ceil((n - 1) / LEVELS[0]) + 1);
    this.numbers = new Float32Array(this.rows * this.columns * count);
    let open = [];
    for (let i = 0; i < this.rows; i += TILE) for (let j = 0; j < this.columns; j += TILE) open.push({ i, j });
    for (const level of LEVELS) {
      const first = level === LEVELS[0], points = (TILE / level) ** 2 * (first ? 1 : 0.75);
      const together = Math.max(1, Math.floor(this.backend.points / points)), jobs = [];
      for (let k = 0; k < open.length; k += together) {
        const tiles = open.slice(k, k + together), grids = tiles.map((tile) => this.grids(tile, level));
        jobs.push(this.backend.evaluate(this.points(grids.flat()), wanted, stale).then((found) => {
          if (stale() || !found) return;
          this.keep(found, tiles, grids, count);
          if (level === 1) for (const { i, j } of tiles) this.paint(i, j, TILE);
        }));
      }
      await Promise.all(jobs);
      if (stale()) return;
      if (first && this.gain === null) this.choose(level);
      if (!first) open = open.filter((tile) => tile.error > this.tolerance);
      if (level > 1) {
        for (let finer = level / 2; finer >= 1; finer /= 2) this.interpolate(finer, count);
        this.paintAll(open.length ? level : 1);
      }
      times[level] = performance.now() - started;
      if (level === 1 || !open.length) break;
      this.page.drawn(level, times[level]);
    }
    this.remember(1);
    times.all = performance.now() - started;
    this.page.drawn(1, times.all);
    return times;
  }

  // What a tile's exact numbers may differ from what was interpolated there, for its finer pixels to be interpolated
  // too: four of the 256 steps of a colour. The error of cubics falls 8 to 16 times from one level to the next.
  get tolerance() {
    if (this.wanted === "value") return this.data.kind === "shape" ? this.pitch[0] / 16 : 8 / 256;
    return (this.wanted === "gradient" ? 4 : 8) * (this.white / 256);
  }

  // Exact numbers into their places, and how far they are from what was interpolated there.
  keep(found, tiles, grids, count) {
    const { numbers, columns: width } = this;
    let from = 0;
    tiles.forEach((tile, index) => {
      tile.error = 0;
      for (const { i, j, step, rows, columns } of grids[index]) {
        for (let r = 0; r < rows; r++) {
          for (let c = 0; c < columns; c++) {
            const to = ((i + r * step) * width + j + c * step) * count;
            for (let k = 0; k < count; k++, from++) {
              tile.error = Math.max(tile.error, Math.abs(numbers[to + k] - found[from]));
              numbers[to + k] = found[from];
            }
          }
        }
      }
    });
  }

  // The points that a level adds, from those of the level before: cubics along rows, then along columns.
  interpolate(level, count) {
    const { rows, columns } = this, step = 2 * level;
    for (let i = 0; i < rows; i += step) this.fill(i * columns * count, level * count, columns, level, count);
    for (let j = 0; j < columns; j += level) this.fill(j * count, level * columns * count, rows, level, count);
  }

  // Every second of the numbers from `start` with so much between, from those beside it.
  fill(start, between, length, level, count) {
    const { numbers } = this, last = (length - 1) / level;
    for (let n = 1; n < last; n += 2) {
      const begin = Math.max(0, Math.min(n - 3, last - 6)), at = start + begin * between, to = start + n * between;
      const weights = last < 6 ? null : WEIGHTS[(n - begin - 1) / 2];
      for (let k = 0; k < count; k++) {
        if (!weights) numbers[to + k] = (numbers[to + k - between] + numbers[to + k + between]) / 2;
        else {
          let sum = 0;
          for (let m = 0; m < 4; m++) sum += weights[m] * numbers[at + k + 2 * m * between];
          numbers[to + k] = sum;
        }
      }
    }
  }

  // The strength that is white in a derivative view: the 99th percentile of the coarse picture.
  choose(level) {
    const strengths = [];
    for (let i = 0; i < this.height; i += level) {
      for (let j = 0; j < this.width; j += level) strengths.push(Math.abs(this.strength(i * this.columns + j)));
    }
    strengths.sort((a, b) => a - b);
    this.gain = strengths[Math.floor(0.99 * (strengths.length - 1))] || 1;
  }

  get white() {
    return this.gain * 10 ** -this.contrast;
  }

  // One number of a pixel: the gradient's magnitude over all channels, or the mean of the channels' Laplacians.
  strength(pixel) {
    const { numbers } = this, { inputs: D, outputs: C } = this.data;
    let sum = 0;
    if (this.wanted === "gradient") {
      for (let k = pixel * C * D; k < (pixel + 1) * C * D; k++) sum += numbers[k] ** 2;
      return Math.sqrt(sum);
    }
    for (let k = pixel * C; k < (pixel + 1) * C; k++) sum += numbers[k] / C;
    return sum;
  }

  colour(pixel, target, at) {
    const { numbers } = this, { outputs: C, kind } = this.data;
    if (this.wanted === "gradient") target.fill((255 * this.strength(pixel)) / this.white, at, at + 3);
    else if (this.wanted === "laplacian") target.fill(127.5 + (127.5 * this.strength(pixel)) / this.white, at, at + 3);
    else if (kind === "shape") {
      // A signed distance: blue within, red outside, black on the surface.
      const y = numbers[pixel], part = Math.min(1, Math.abs(y)), line = Math.min(1, Math.abs(y) / this.pitch[0]);
      target[at] = line * 255 * (y < 0 ? 1 - part : 1);
      target[at + 1] = line * 255 * (1 - part);
      target[at + 2] = line * 255 * (y < 0 ? 1 : 1 - part);
    } else for (let k = 0; k < 3; k++) target[at + k] = 127.5 * (numbers[pixel * C + (C === 3 ? k : 0)] + 1);
    target[at + 3] = 255;
  }

  paint(i, j, side) {
    const rows = Math.min(side, this.height - i), columns = Math.min(side, this.width - j);
    if (rows < 1 || columns < 1) return;
    const image = this.brush.createImageData(columns, rows);
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) this.colour((i + r) * this.columns + j + c, image.data, 4 * (r * columns + c));
    }
    this.brush.putImageData(image, j, i);
  }

  // All of it, of which every `level`-th pixel is known; the last picture over it where that was finer.
  paintAll(level) {
    this.paint(0, 0, Math.max(this.width, this.height));
    const finer = this.last && this.last.level <= level && level > 1;
    if (finer) this.brush.drawImage(this.last.canvas, ...this.last.part, ...this.last.part);
    this.remember(finer ? this.last.level : level, finer ? this.last.part : undefined);
  }

  // What the canvas shows: a part of it as fine as every `level`-th pixel.
  remember(level, part = [0, 0, this.width, this.height]) {
    this.shown = { ...this.view, level, part };
  }

  // Again in other colours, nothing computed.
  recolour() {
    this.paint(0, 0, Math.max(this.width, this.height));
  }

  get view() {
    const { centre, scale, width, height, wanted, fixed, axes, field } = this;
    return { centre: [...centre], scale, width, height, key: JSON.stringify([wanted, fixed, axes, field]) };
  }

  // What is on the canvas, moved to where it now belongs; frame and known pixels too.
  preview() {
    const { shown, canvas, view } = this;
    this.last = null;
    if (shown && shown.key === view.key) {
      const old = new OffscreenCanvas(canvas.width, canvas.height);
      old.getContext("2d").drawImage(canvas, 0, 0);
      this.resize();
      const grow = this.scale / shown.scale;
      const [down, right] = [0, 1].map((d) => (shown.centre[d] - this.centre[d]) / this.pitch[d]);
      const x = this.width / 2 - (grow * shown.width) / 2 + right;
      const y = this.height / 2 - (grow * shown.height) / 2 + down;
      this.brush.drawImage(old, x, y, grow * shown.width, grow * shown.height);
      const [left, top, width, height] = shown.part;
      const from = [x + grow * left, y + grow * top].map((n) => Math.max(0, Math.ceil(n)));
      const end = Math.min(this.width, Math.floor(x + grow * (left + width)));
      const bottom = Math.min(this.height, Math.floor(y + grow * (top + height)));
      const part = [...from, Math.max(0, end - from[0]), Math.max(0, bottom - from[1])];
      this.remember(shown.level * grow, part);
      if (part[2] && part[3]) {
        const copy = new OffscreenCanvas(this.width, this.height);
        copy.getContext("2d").drawImage(canvas, 0, 0);
        this.last = { canvas: copy, part, level: shown.level * grow };
      }
    } else if (canvas.width !== this.width || canvas.height !== this.height) this.resize();
    this.outline();
  }

  resize() {
    const { width, height } = this;
    for (const one of [this.canvas, this.overlay]) {
      if (one.width !== width || one.height !== height) Object.assign(one, { width, height });
    }
    this.brush.fillStyle = "#16181d";
    this.brush.fillRect(0, 0, this.width, this.height);
  }

  outline() {
    const [down, right] = this.pitch, { ratio } = this;
    const top = (-1 - this.centre[0]) / down + this.height / 2, left = (-1 - this.centre[1]) / right + this.width / 2;
    const box = { top, left, width: 2 / right, height: 2 / down };
    for (const side in box) this.frame.style[side] = `${box[side] / ratio}px`;
    const brush = this.overlay.getContext("2d"), known = this.known;
    brush.clearRect(0, 0, this.width, this.height);
    if (!known) return;
    const [, columns] = this.data.samples, size = this.scale;
    known.forEach(([cell, colour]) => {
      const y = top + Math.floor(cell / columns) * size, x = left + (cell % columns) * size;
      brush.fillStyle = "#fff";
      brush.fillRect(x + 0.2 * size, y + 0.2 * size, 0.6 * size, 0.6 * size);
      brush.fillStyle = colour;
      brush.fillRect(x + 0.27 * size, y + 0.27 * size, 0.46 * size, 0.46 * size);
    });
  }

  move(down, right) {
    const pitch = this.pitch;
    this.centre = [this.centre[0] - down * pitch[0], this.centre[1] - right * pitch[1]];
  }

  // Zoom, keeping what is under pixel (i, j) there.
  zoom(factor, i = this.height / 2, j = this.width / 2) {
    const before = this.place(i - 0.5, j - 0.5);
    const { samples } = this.data, least = 16 / Math.max(...samples), most = 1e9 / Math.min(...samples);
    this.scale = Math.min(most, Math.max(least, this.scale * factor));
    const after = this.place(i - 0.5, j - 0.5);
    this.centre = this.centre.map((x, d) => x + before[d] - after[d]);
  }

  show(wanted) {
    this.wanted = wanted;
    this.gain = null;
  }

  // The words of the footer about pixel (i, j).
  describe(i, j, engine) {
    const [row, column] = this.place(i, j), x = [...this.fixed];
    [x[this.axes[0]], x[this.axes[1]]] = [row, column];
    const numbers = engine.evaluate(Float64Array.from(x), this.wanted);
    const digits = Math.max(3, Math.ceil(Math.log10(this.scale * Math.max(...this.data.samples))));
    const values = [...numbers].map((y) => y.toPrecision(4)).join(", ");
    return `x = (${x.map((number) => number.toFixed(digits)).join(", ")})   ${this.wanted} ${values}`;
  }

  get legend() {
    const [rows, columns] = this.data.samples, across = short(this.width / this.scale);
    const width = this.data.kind === "shape" ? "" : `${columns} x ${rows} pixels, ${across} across the window`;
    if (this.wanted === "value" || this.gain === null) return width;
    const white = short(this.white), zero = this.wanted === "gradient" ? "black 0" : `black -${white}, gray 0`;
    return `${zero}, white ${white} (x runs from -1 to 1)   ${width}`;
  }
}
