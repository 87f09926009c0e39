"use strict";
// A SIREN on a graphics card, by WebGPU: for each layer a matrix product in tiles of 64 columns by 64 features, then the
// sines. Columns are (stream, point), as engine.js has them; the sine is its polynomial, for a card's own is too coarse.

const SHADER = `
struct Layer { inputs: u32, outputs: u32, points: u32, streams: u32, directions: u32 }
@group(0) @binding(0) var<uniform> layer: Layer;
@group(0) @binding(1) var<storage, read> source: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> result: array<f32>;
var<workgroup> columns: array<vec4f, 256>; // 16 inputs of 64 columns
var<workgroup> rows: array<vec4f, 256>; // 16 inputs of 64 features

fn source_at(column: u32, k: u32) -> f32 {
  if (column >= layer.points * layer.streams || k >= layer.inputs) { return 0.0; }
  return source[column * layer.inputs + k];
}

fn weight_at(row: u32, k: u32) -> f32 {
  if (row >= layer.outputs || k >= layer.inputs) { return 0.0; }
  return weight[row * layer.inputs + k];
}

@compute @workgroup_size(16, 16)
fn product(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let column = 64 * group.x;
  let row = 64 * group.y;
  var sums: array<vec4f, 4>;
  for (var begin = 0u; begin < layer.inputs; begin += 16u) {
    let c = column + 4 * local.x;
    let r = row + 4 * local.x;
    let k = begin + local.y;
    columns[16 * local.y + local.x] =
      vec4f(source_at(c, k), source_at(c + 1, k), source_at(c + 2, k), source_at(c + 3, k));
    rows[16 * local.y + local.x] =
      vec4f(weight_at(r, k), weight_at(r + 1, k), weight_at(r + 2, k), weight_at(r + 3, k));
    workgroupBarrier();
    for (var i = 0u; i < 16u; i++) {
      let four = columns[16 * i + local.y];
      let features = rows[16 * i + local.x];
      sums[0] += four.x * features;
      sums[1] += four.y * features;
      sums[2] += four.z * features;
      sums[3] += four.w * features;
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < 4u; i++) {
    let c = column + 4 * local.y + i;
    for (var j = 0u; j < 4u; j++) {
      let r = row + 4 * local.x + j;
      if (c < layer.points * layer.streams && r < layer.outputs) {
        result[c * layer.outputs + r] = sums[i][j] + select(0.0, bias[r], c < layer.points);
      }
    }
  }
}

fn sine(phase: f32, shift: f32) -> f32 {
  let whole = round(phase * 0.3183098861837907 + shift);
  let turns = whole - shift;
  var rest = fma(turns, -3.140625, phase);
  rest = fma(turns, -0.0009670257568359375, rest);
  rest = fma(turns, -6.277114152908325e-7, rest);
  let square = rest * rest;
  var sum = 2.6083159809786594e-6;
  sum = fma(sum, square, -0.00019810690719168633);
  sum = fma(sum, square, 0.00833307858556509);
  sum = fma(sum, square, -0.16666659712791443);
  let value = fma(sum * square, rest, rest);
  return select(value, -value, (i32(whole) & 1) == 1);
}

@compute @workgroup_size(64)
fn sines(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= layer.outputs) { return; }
  let at = id.y * layer.outputs + id.x;
  let stride = layer.points * layer.outputs;
  let phase = result[at];
  let value = sine(phase, 0.0);
  result[at] = value;
  if (layer.streams == 1) { return; }
  let slope = sine(phase, 0.5);
  var squares = 0.0;
  for (var d = 1u; d <= layer.directions; d++) {
    let derivative = result[at + d * stride];
    squares += derivative * derivative;
    result[at + d * stride] = slope * derivative;
  }
  if (layer.streams > 1 + layer.directions) {
    let last = at + (1 + layer.directions) * stride;
    result[last] = slope * result[last] - value * squares;
  }
}`;

class Gpu {
  // The card's backend, or null if there is none. A processor that plays a card is slower than WebAssembly on it.
  static async open() {
    const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
    if (!adapter || (adapter.info?.isFallbackAdapter && location.hash !== "#gpu")) return null;
    return new Gpu(await adapter.requestDevice(), adapter.info);
  }

  constructor(device, info) {
    this.device = device;
    this.name = `WebGPU, ${info?.description || info?.vendor || "a graphics card"}`;
    this.points = 65536;
    this.busy = Promise.resolve();
    const entries = ["uniform", "read-only-storage", "read-only-storage", "read-only-storage", "storage"].map(
      (type, binding) => ({ binding, visibility: GPUShaderStage.COMPUTE, buffer: { type } }),
    );
    this.group = device.createBindGroupLayout({ entries });
    const layout = device.createPipelineLayout({ bindGroupLayouts: [this.group] });
    const module = device.createShaderModule({ code: SHADER });
    const pipeline = (entryPoint) => device.createComputePipeline({ layout, compute: { module, entryPoint } });
    this.product = pipeline("product");
    this.sines = pipeline("sines");
  }

  buffer(content, usage = GPUBufferUsage.STORAGE) {
    const buffer = this.device.createBuffer({ size: content.byteLength, usage: usage | GPUBufferUsage.COPY_DST });
    this.device.queue.writeBuffer(buffer, 0, content);
    return buffer;
  }

  load(field) {
    this.made?.flat().forEach((buffer) => buffer.destroy());
    this.field = field;
    this.made = field.layers.map(({ weight, bias }) => [this.buffer(weight), this.buffer(bias)]);
  }

  // One call at a time, in the order of the calls.
  evaluate(points, wanted, stale = () => false) {
    const { field, made } = this;
    const answer = this.busy.then(() => (stale() || made !== this.made ? null : this.compute(field, points, wanted)));
    this.busy = answer.catch(() => null);
    return answer;
  }

  async compute(field, points, wanted) {
    const D = field.inputs, n = points.length / D, streams = streamsOf(wanted, D);
    const count = numbersOf(wanted, field), widest = Math.max(D, ...field.layers.map(({ bias }) => bias.length));
    const most = Math.min(32768, Math.floor(2 ** 26 / (4 * streams * widest))); // 64 MB
    const result = new Float32Array(n * count);
    for (let begin = 0; begin < n; begin += most) {
      const part = points.subarray(begin * D, Math.min(n, begin + most) * D);
      result.set(await this.block(field, part, wanted, streams, widest), begin * count);
    }
    return result;
  }

  async block(field, points, wanted, streams, widest) {
    const { device } = this, { STORAGE, COPY_SRC, UNIFORM, MAP_READ, COPY_DST } = GPUBufferUsage;
    const D = field.inputs, C = field.outputs, n = points.length / D;
    const origin = points.subarray(D * (n >> 1), D * (n >> 1) + D);
    const bias = new Float32Array(field.layers[0].bias.length);
    movedBias(field, origin, bias);
    device.queue.writeBuffer(this.made[0][1], 0, bias);
    const start = new Float32Array(streams * n * D);
    for (let p = 0; p < n; p++) {
      for (let d = 0; d < D; d++) {
        start[p * D + d] = points[p * D + d] - origin[d];
        if (streams > 1) start[((1 + d) * n + p) * D + d] = 1;
      }
    }
    const scratch = [0, 1].map(() => device.createBuffer({ size: 4 * streams * n * widest, usage: STORAGE | COPY_SRC }));
    const passing = [this.buffer(start)], encoder = device.createCommandEncoder(), pass = encoder.beginComputePass();
    let source = passing[0];
    field.layers.forEach(({ bias: { length: outputs } }, i) => {
      const inputs = i ? field.layers[i - 1].bias.length : D;
      const layer = this.buffer(Uint32Array.of(inputs, outputs, n, streams, D, 0, 0, 0), UNIFORM);
      passing.push(layer);
      const buffers = [layer, source, ...this.made[i], scratch[i % 2]];
      const entries = buffers.map((buffer, binding) => ({ binding, resource: { buffer } }));
      pass.setBindGroup(0, device.createBindGroup({ layout: this.group, entries }));
      pass.setPipeline(this.product);
      pass.dispatchWorkgroups(Math.ceil((n * streams) / 64), Math.ceil(outputs / 64));
      if (i < field.layers.length - 1) {
        pass.setPipeline(this.sines);
        pass.dispatchWorkgroups(Math.ceil(outputs / 64), n);
      }
      source = scratch[i % 2];
    });
    pass.end();
    const size = 4 * streams * n * C, answer = device.createBuffer({ size, usage: MAP_READ | COPY_DST });
    encoder.copyBufferToBuffer(source, 0, answer, 0, size);
    device.queue.submit([encoder.finish()]);
    await answer.mapAsync(GPUMapMode.READ);
    const numbers = new Float32Array(answer.getMappedRange().slice(0));
    [...scratch, ...passing, answer].forEach((buffer) => buffer.destroy());
    if (wanted === "value") return numbers;
    if (wanted === "laplacian") return numbers.slice((streams - 1) * n * C);
    const gradient = new Float32Array(n * C * D);
    for (let d = 0; d < D; d++) {
      for (let at = 0; at < n * C; at++) gradient[at * D + d] = numbers[(1 + d) * n * C + at];
    }
    return gradient;
  }
}
