"use strict";
// A SIREN on the processor: y = W_L sin(... sin(W_1 x + b_1)) + b_L with its exact derivatives, carried forward beside
// the value as hypersiren/fields/jets.py does. Runs in the page and in its workers.
//
// A field is {inputs, outputs, layers: [{weight, bias}, ...]}: Float32Arrays, weights (outputs, inputs) row by row, the
// frequency factors multiplied in. Points are N x D doubles, one after the other. What is wanted of them, with its
// streams through the layers and the numbers that come back for each point:
//     value: 1 stream, C numbers        gradient: 1 + D streams, C * D numbers        laplacian: 2 + D streams, C numbers
// An engine's `streams` gives all of them, (point, channel, stream). Derivatives are by x times `field.seeds`, if it has
// any: windows.js evaluates a window in its own coordinates.

function streamsOf(wanted, inputs) {
  return { value: 1, gradient: 1 + inputs, laplacian: 2 + inputs }[wanted];
}

function numbersOf(wanted, field) {
  return wanted === "gradient" ? field.outputs * field.inputs : field.outputs;
}

// What is wanted of (point, channel, stream).
function picked(all, wanted, { inputs, outputs }) {
  if (wanted === "value") return all;
  const streams = streamsOf(wanted, inputs), many = wanted === "gradient" ? inputs : 1, n = all.length / streams;
  const result = new Float32Array(n * many), from = streams - many;
  for (let i = 0; i < n; i++) for (let k = 0; k < many; k++) result[i * many + k] = all[i * streams + from + k];
  return result;
}

// The first layer's bias moved to another origin, in doubles and within one turn: phases of far-off or deeply zoomed
// points stay exact in single precision.
function movedBias(field, origin, target) {
  const { weight, bias } = field.layers[0], turn = 2 * Math.PI, D = field.inputs;
  for (let o = 0; o < bias.length; o++) {
    let phase = bias[o];
    for (let d = 0; d < D; d++) phase += weight[o * D + d] * origin[d];
    target[o] = phase - turn * Math.round(phase / turn);
  }
}

// In doubles, point by point: where there is no WebAssembly with SIMD, and for the number under the cursor.
class PlainEngine {
  load(field) {
    this.field = field;
  }

  replace(i, layer) {
    this.field.layers[i] = layer;
  }

  evaluate(points, wanted) {
    return picked(this.streams(points, wanted), wanted, this.field);
  }

  streams(points, wanted) {
    const { inputs: D, outputs: C, layers, seeds } = this.field, streams = streamsOf(wanted, D);
    const n = points.length / D, result = new Float32Array(n * C * streams);
    for (let p = 0; p < n; p++) {
      let h = []; // h[stream][feature]
      for (let s = 0; s < streams; s++) h.push(new Float64Array(D));
      for (let d = 0; d < D; d++) {
        h[0][d] = points[p * D + d];
        if (streams > 1) h[1 + d][d] = seeds?.[d] ?? 1;
      }
      layers.forEach(({ weight, bias }, i) => {
        const rows = bias.length, next = h.map(() => new Float64Array(rows));
        for (let o = 0; o < rows; o++) {
          for (let s = 0; s < streams; s++) {
            let sum = s ? 0 : bias[o];
            for (let k = 0, at = o * h[s].length; k < h[s].length; k++) sum += weight[at + k] * h[s][k];
            next[s][o] = sum;
          }
          if (i === layers.length - 1) continue;
          const sine = Math.sin(next[0][o]), cosine = Math.cos(next[0][o]);
          let squares = 0;
          for (let d = 0; d < D && streams > 1; d++) {
            squares += next[1 + d][o] ** 2;
            next[1 + d][o] *= cosine;
          }
          if (streams > 1 + D) next[1 + D][o] = cosine * next[1 + D][o] - sine * squares;
          next[0][o] = sine;
        }
        h = next;
      });
      for (let c = 0; c < C; c++) for (let s = 0; s < streams; s++) result[(p * C + c) * streams + s] = h[s][c];
    }
    return result;
  }
}

const POINTS = 32; // of a block: its activations stay in the cache

// A WebAssembly module, assembled here because a browser takes no other machine code. Memory holds a layer's values as
// (feature, stream, point). Two functions:
//     product(weights, from, to, depth, tiles)   to = W from, four features by eight columns at a time in registers;
//                                                weights are packed as (tile, depth, 4)
//     sines(at, bias, features)                  values and derivatives through the sine, in place
function assemble(directions, second, fused) {
  const row = 4 * POINTS * (1 + directions + second);
  const leb = (n) => (n < 128 ? [n] : [(n & 127) | 128, ...leb(n >>> 7)]);
  const signed = (n) => (n >= -64 && n < 64 ? [n & 127] : [(n & 127) | 128, ...signed(n >> 7)]);
  const vector = (parts) => [...leb(parts.length), ...parts.flat()];
  const sized = (bytes) => [...leb(bytes.length), ...bytes];
  const text = (word) => sized([...word].map((letter) => letter.charCodeAt(0)));
  const get = (i) => [0x20, ...leb(i)], set = (i) => [0x21, ...leb(i)];
  const simd = (code) => [0xfd, ...leb(code)];
  const load = (i, offset) => [...get(i), ...simd(0), 4, ...leb(offset)];
  const spread = (i, offset) => [...get(i), ...simd(9), 2, ...leb(offset)]; // one number in all four lanes
  const store = (i, offset, value) => [...get(i), ...value, ...simd(11), 4, ...leb(offset)];
  const number = (x) => {
    const four = [...new Uint8Array(new Float32Array([x]).buffer)];
    return [...simd(12), ...four, ...four, ...four, ...four];
  };
  const add = (a, b) => [...a, ...b, ...simd(228)];
  const subtract = (a, b) => [...a, ...b, ...simd(229)];
  const times = (a, b) => [...a, ...b, ...simd(230)];
  const plusProduct = (a, b, c) => (fused ? [...a, ...b, ...c, ...simd(0x105)] : add(times(a, b), c)); // a b + c
  const minusProduct = (a, b, c) => (fused ? [...a, ...b, ...c, ...simd(0x106)] : subtract(c, times(a, b))); // c - a b
  const step = (i, by) => [...get(i), 0x41, ...signed(by), 0x6a, ...set(i)]; // i += by
  const repeat = (i, by, body) => [0x03, 0x40, ...body, ...step(i, by), ...get(i), 0x0d, 0, 0x0b]; // until i is 0
  const code = (locals, body) => sized([...vector(locals), ...body, 0x0b]);
  const I32 = 0x7f, V128 = 0x7b;

  // product: 0 weights, 1 from, 2 to, 3 depth, 4 tiles; 5 left columns, 6 source, 7 weight, 8 left depth, 9 target,
  // 10 and 11 values, 12 a weight, 13... sums
  const sums = [...Array(8).keys()].map((i) => 13 + i);
  const steps = [0, 1, 2, 3].flatMap((k) => [
    ...load(6, k * row), ...set(10), ...load(6, k * row + 16), ...set(11),
    ...[0, 1, 2, 3].flatMap((o) => [
      ...spread(7, 16 * k + 4 * o), ...set(12),
      ...plusProduct(get(12), get(10), get(sums[2 * o])), ...set(sums[2 * o]),
      ...plusProduct(get(12), get(11), get(sums[2 * o + 1])), ...set(sums[2 * o + 1]),
    ]),
  ]);
  const columns = [
    ...get(1), 0x41, ...signed(row), 0x6a, ...get(5), 0x6b, ...set(6), // source = from + row - left
    ...get(2), 0x41, ...signed(row), 0x6a, ...get(5), 0x6b, ...set(9),
    ...get(0), ...set(7), ...get(3), ...set(8), ...sums.flatMap((i) => [...number(0), ...set(i)]),
    ...repeat(8, -4, [...steps, ...step(6, 4 * row), ...step(7, 64)]),
    ...sums.flatMap((i, j) => store(9, (j >> 1) * row + (j & 1) * 16, get(i))),
  ];
  const product = code([[5, I32], [11, V128]], [
    ...repeat(4, -1, [
      0x41, ...signed(row), ...set(5), ...repeat(5, -32, columns),
      ...get(7), ...set(0), ...step(2, 4 * row),
    ]),
  ]);

  // sines: 0 at, 1 bias, 2 features; 3 left bytes of a row's points; 4 phase, 5 turns, 6 rest, 7 its square, 8 sine,
  // 9 cosine, 10 sum of squares, 11 a derivative
  const MAGIC = 12582912; // 1.5 * 2^23: adding it rounds to whole numbers, and its last bit says odd or even
  const sine = (shift) => [
    // sin(phase) = (-1)^n sin(phase - n pi), and with half turns the cosine; pi in three parts, then a polynomial
    ...(shift ? add(plusProduct(get(4), number(1 / Math.PI), number(shift)), number(MAGIC))
      : plusProduct(get(4), number(1 / Math.PI), number(MAGIC))), ...set(5),
    ...subtract(get(5), number(MAGIC)), ...(shift ? [...number(shift), ...simd(229)] : []), ...set(7),
    ...minusProduct(get(7), number(3.140625), get(4)), ...set(6),
    ...minusProduct(get(7), number(0.0009670257568359375), get(6)), ...set(6),
    ...minusProduct(get(7), number(6.277114152908325e-7), get(6)), ...set(6),
    ...times(get(6), get(6)), ...set(7),
    ...plusProduct(times(
      [2.6083159809786594e-6, -0.00019810690719168633, 0.00833307858556509, -0.16666659712791443]
        .map(number).reduce((sum, next) => plusProduct(sum, get(7), next)), get(7)), get(6), get(6)),
    ...get(5), 0x41, 31, ...simd(171), ...simd(81), // the sign
  ];
  const derivatives = [...Array(directions).keys()].flatMap((d) => {
    const at = 4 * POINTS * (1 + d);
    return [
      ...load(0, at), ...set(11), ...plusProduct(get(11), get(11), get(10)), ...set(10),
      ...store(0, at, times(get(9), get(11))),
    ];
  });
  const last = 4 * POINTS * (1 + directions);
  const sines = code([[1, I32], [8, V128]], [
    ...repeat(2, -1, [
      0x41, ...signed(POINTS), ...set(3),
      ...repeat(3, -4, [
        ...add(load(0, 0), spread(1, 0)), ...set(4), ...sine(0), ...set(8), ...store(0, 0, get(8)),
        ...(directions ? [...sine(0.5), ...set(9), ...number(0), ...set(10), ...derivatives] : []),
        ...(second ? store(0, last, minusProduct(get(8), get(10), times(get(9), load(0, last)))) : []),
        ...step(0, 16),
      ]),
      ...step(0, row - 4 * POINTS), ...step(1, 4),
    ]),
  ]);

  const kind = (count) => [0x60, ...vector(Array(count).fill([I32])), 0];
  return new Uint8Array([
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
    1, ...sized(vector([kind(5), kind(3)])),
    2, ...sized(vector([[...text("js"), ...text("memory"), 2, 0, 1]])),
    3, ...sized(vector([[0], [1]])),
    7, ...sized(vector([[...text("product"), 0, 0], [...text("sines"), 0, 1]])),
    10, ...sized(vector([product, sines])),
  ]);
}

const four = (n) => 4 * Math.ceil(n / 4);

// Blocks of points through WebAssembly with SIMD, one matrix product a layer.
class WasmEngine {
  static get possible() {
    return typeof WebAssembly === "object" && WebAssembly.validate(assemble(0, 0, false));
  }

  constructor() {
    this.fused = WebAssembly.validate(assemble(0, 0, true));
    this.functions = {};
  }

  load(field) {
    this.field = field;
    const widths = [field.inputs, ...field.layers.map((layer) => layer.bias.length)].map(four);
    const weights = field.layers.map((_, i) => widths[i] * widths[i + 1]);
    const sum = (list) => list.reduce((a, b) => a + b, 0);
    const values = Math.max(...widths) * POINTS * (2 + field.inputs);
    const bytes = 4 * (sum(weights) + sum(widths) + 2 * values), pages = Math.ceil(bytes / 65536);
    if (!this.memory) this.memory = new WebAssembly.Memory({ initial: pages });
    else this.memory.grow(Math.max(0, pages - this.memory.buffer.byteLength / 65536));
    this.numbers = new Float32Array(this.memory.buffer);
    let at = 0;
    this.plan = field.layers.map((_, i) => {
      const layer = { weights: 4 * at, bias: 4 * (at + weights[i]), depth: widths[i], rows: widths[i + 1] };
      this.numbers.fill(0, at, at + weights[i] + layer.rows);
      at += weights[i] + layer.rows;
      return layer;
    });
    field.layers.forEach((layer, i) => this.replace(i, layer));
    this.buffers = [at, at + values];
  }

  // Another layer i, of the same size.
  replace(i, layer) {
    const { weight, bias } = layer, { weights, bias: at, depth } = this.plan[i], inputs = weight.length / bias.length;
    for (let o = 0; o < bias.length; o++) {
      const tile = weights / 4 + (o >> 2) * 4 * depth + (o & 3);
      for (let k = 0; k < inputs; k++) this.numbers[tile + 4 * k] = weight[o * inputs + k];
    }
    this.numbers.set(bias, at / 4);
    this.field.layers[i] = layer;
  }

  evaluate(points, wanted) {
    return picked(this.streams(points, wanted), wanted, this.field);
  }

  streams(points, wanted) {
    const { field, numbers, plan } = this, D = field.inputs, C = field.outputs, n = points.length / D;
    const streams = streamsOf(wanted, D), row = POINTS * streams;
    this.functions[wanted] ??= new WebAssembly.Instance(
      new WebAssembly.Module(assemble(streams > 1 ? D : 0, streams > 1 + D ? 1 : 0, this.fused)),
      { js: { memory: this.memory } },
    ).exports;
    const { product, sines } = this.functions[wanted], result = new Float32Array(n * C * streams);
    const firstBias = numbers.subarray(plan[0].bias / 4, plan[0].bias / 4 + field.layers[0].bias.length);
    const lastBias = field.layers[field.layers.length - 1].bias;
    for (let begin = 0; begin < n; begin += POINTS) {
      const size = Math.min(POINTS, n - begin), origin = points.subarray(begin * D, begin * D + D);
      let [from, to] = this.buffers;
      movedBias(field, origin, firstBias);
      numbers.fill(0, from, from + plan[0].depth * row);
      for (let d = 0; d < D; d++) {
        const at = from + d * row;
        for (let p = 0; p < size; p++) numbers[at + p] = points[(begin + p) * D + d] - origin[d];
        if (streams > 1) numbers.fill(field.seeds?.[d] ?? 1, at + POINTS * (1 + d), at + POINTS * (2 + d));
      }
      plan.forEach(({ weights, bias, depth, rows }, i) => {
        product(weights, 4 * from, 4 * to, depth, rows / 4);
        if (i < plan.length - 1) sines(4 * to, bias, rows);
        [from, to] = [to, from];
      });
      for (let c = 0; c < C; c++) {
        for (let s = 0; s < streams; s++) {
          const at = from + c * row + s * POINTS, more = s ? 0 : lastBias[c];
          for (let p = 0; p < size; p++) result[((begin + p) * C + c) * streams + s] = numbers[at + p] + more;
        }
      }
    }
    return result;
  }
}

function makeEngine() {
  return new WindowedEngine(WasmEngine.possible ? new WasmEngine() : new PlainEngine());
}

// In a worker: {field} loads one, {id, points, wanted} is answered by {id, numbers}.
if (typeof WorkerGlobalScope !== "undefined" && self instanceof WorkerGlobalScope) {
  const engine = makeEngine();
  self.onmessage = ({ data }) => {
    if (data.field) return engine.load(data.field);
    const numbers = engine.evaluate(data.points, data.wanted);
    self.postMessage({ id: data.id, numbers }, [numbers.buffer]);
  };
}
