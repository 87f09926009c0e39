"use strict";
// A field of time: its wave is computed once, at the file's rate, and drawn and played; seen from near, the field itself.

class Sound {
  constructor(page, data, backend) {
    Object.assign(this, { page, data, backend });
    this.canvas = document.getElementById("canvas");
    this.brush = this.canvas.getContext("2d", { alpha: false });
    this.length = data.samples[0];
    this.seconds = this.length / data.rate;
    this.wave = new Float32Array(this.length * data.outputs);
    this.done = 0;
    this.turn = 0;
    this.reset();
    this.settled = Promise.resolve();
  }

  reset() {
    this.from = 0;
    this.to = this.length; // in samples
  }

  start() {
    this.ready = this.compute();
  }

  async compute() {
    const part = 2048, { length } = this, C = this.data.outputs, started = performance.now(), jobs = [];
    for (let begin = 0; begin < length; begin += part) {
      const size = Math.min(part, length - begin);
      const points = Float64Array.from({ length: size }, (_, i) => (2 * (begin + i) + 1) / length - 1);
      jobs.push(this.backend.evaluate(points, "value").then((numbers) => {
        this.wave.set(numbers, begin * C);
        this.done += size;
        if (performance.now() > (this.next ?? 0) || this.done === length) {
          this.next = performance.now() + 300;
          this.page.computed(this.done / length, performance.now() - started);
          this.draw();
        }
      }));
    }
    await Promise.all(jobs);
  }

  draw() {
    const ratio = window.devicePixelRatio || 1, box = this.canvas.getBoundingClientRect();
    this.width = Math.max(1, Math.round(box.width * ratio));
    this.height = Math.max(1, Math.round(box.height * ratio));
    this.ratio = ratio;
    if (this.canvas.width !== this.width || this.canvas.height !== this.height) {
      Object.assign(this.canvas, { width: this.width, height: this.height });
    }
    this.settled = this.curve(++this.turn);
    return this.settled;
  }

  async curve(turn) {
    const { width, from, to, length } = this, C = this.data.outputs, each = (to - from) / width;
    let column; // the least and the largest value of a channel at a column
    if (each < 4) {
      // Nearer than the samples: the field at every pixel.
      const points = Float64Array.from({ length: width }, (_, j) => (2 * (from + (j + 0.5) * each)) / length - 1);
      const numbers = await this.backend.evaluate(points, "value", () => turn !== this.turn);
      if (turn !== this.turn || !numbers) return;
      column = (j, c) => {
        const [a, b] = [numbers[Math.max(0, j - 1) * C + c], numbers[j * C + c]]; // from where the last column was
        return [Math.min(a, b), Math.max(a, b)];
      };
    } else {
      column = (j, c) => {
        let [least, most] = [Infinity, -Infinity];
        const begin = Math.max(0, Math.floor(from + j * each));
        const end = Math.min(length, Math.ceil(from + (j + 1) * each) + 1);
        for (let i = begin; i < end; i++) {
          least = Math.min(least, this.wave[i * C + c]);
          most = Math.max(most, this.wave[i * C + c]);
        }
        return [least, most];
      };
    }
    this.paint(column);
  }

  paint(column) {
    const { brush, width, height, ratio } = this, C = this.data.outputs, lane = height / C;
    brush.fillStyle = "#16181d";
    brush.fillRect(0, 0, width, height);
    for (let c = 0; c < C; c++) {
      const middle = (c + 0.5) * lane, up = 0.46 * lane;
      brush.fillStyle = "#4a505e";
      brush.fillRect(0, middle, width, 1);
      brush.fillStyle = "#7cc4ff";
      for (let j = 0; j < width; j++) {
        const [least, most] = column(j, c);
        if (least <= most) brush.fillRect(j, middle - up * most, 1, Math.max(ratio, up * (most - least)));
      }
    }
    brush.fillStyle = "#b9bcc6";
    brush.font = `${12 * ratio}px system-ui, sans-serif`;
    for (let k = 0; k < 6; k++) {
      const seconds = (this.from + ((this.to - this.from) * k) / 6) / this.data.rate;
      brush.fillText(`${seconds.toPrecision(6)} s`, (width * k) / 6 + 4 * ratio, height - 6 * ratio);
    }
  }

  move(down, right) {
    const shift = (right * (this.to - this.from)) / this.width;
    this.from -= shift;
    this.to -= shift;
  }

  zoom(factor, i = 0, j = this.width / 2) {
    const at = this.from + (j / this.width) * (this.to - this.from);
    const span = Math.min(4 * this.length, Math.max(1e-3, (this.to - this.from) / factor));
    this.from = at - (j / this.width) * span;
    this.to = this.from + span;
  }

  describe(i, j, engine) {
    const sample = this.from + ((j + 0.5) * (this.to - this.from)) / this.width;
    const values = [...engine.evaluate(Float64Array.of((2 * sample) / this.length - 1), "value")];
    return `${(sample / this.data.rate).toFixed(6)} s   value ${values.map((y) => y.toPrecision(4)).join(", ")}`;
  }

  get legend() {
    const shown = (this.to - this.from) / this.data.rate;
    return `${this.seconds.toPrecision(4)} s at ${this.data.rate} Hz, ${shown.toPrecision(4)} s shown`;
  }

  // Play from the left edge of what is shown, or stop.
  async play(button) {
    if (this.source) return this.source.stop();
    await this.ready;
    this.speaker ??= new AudioContext();
    const C = this.data.outputs, sound = this.speaker.createBuffer(C, this.length, this.data.rate);
    for (let c = 0; c < C; c++) {
      const channel = sound.getChannelData(c);
      for (let i = 0; i < this.length; i++) channel[i] = this.data.scale * this.wave[i * C + c];
    }
    this.source = this.speaker.createBufferSource();
    this.source.buffer = sound;
    this.source.connect(this.speaker.destination);
    this.source.onended = () => {
      this.source = null;
      button.textContent = "play";
    };
    const start = Math.min(this.length, Math.max(0, this.from));
    this.source.start(0, (start < this.length ? start : 0) / this.data.rate);
    button.textContent = "stop";
  }
}
