"use strict";
// Where fields are evaluated: workers on all processor cores, or a graphics card. Both have
//     load(field)      from now on this field
//     evaluate(points, wanted, stale)      a promise of the numbers; null if stale() was true before the turn came
//     points           how many are worth one call

// Numbers of 32 bits, or of 16.
function decoded(text, half) {
  const letters = atob(text), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  if (!half) return new Float32Array(bytes.buffer); // little endian, as every browser is
  const whole = new Uint16Array(bytes.buffer), numbers = new Float32Array(whole.length);
  for (let i = 0; i < whole.length; i++) {
    const exponent = (whole[i] >> 10) & 31, rest = whole[i] & 1023, sign = whole[i] >> 15 ? -1 : 1;
    numbers[i] = sign * (exponent ? 2 ** (exponent - 25) * (1024 + rest) : 2 ** -24 * rest);
  }
  return numbers;
}

class Workers {
  constructor() {
    const source = document.getElementById("engine").textContent;
    const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    this.queue = [];
    this.waiting = new Map();
    this.number = 0;
    this.points = 1024;
    this.idle = Array.from({ length: navigator.hardwareConcurrency || 2 }, () => new Worker(address));
    this.all = [...this.idle];
    for (const worker of this.all) {
      worker.onmessage = ({ data }) => {
        this.waiting.get(data.id)(data.numbers);
        this.waiting.delete(data.id);
        this.idle.push(worker);
        this.work();
      };
    }
    this.name = `CPU, ${this.all.length} workers`;
  }

  load(field) {
    for (const worker of this.all) worker.postMessage({ field });
  }

  evaluate(points, wanted, stale = () => false) {
    return new Promise((resolve) => {
      this.queue.push({ points, wanted, stale, resolve });
      this.work();
    });
  }

  work() {
    while (this.idle.length && this.queue.length) {
      const { points, wanted, stale, resolve } = this.queue.shift();
      if (stale()) {
        resolve(null);
        continue;
      }
      const id = this.number++;
      this.waiting.set(id, resolve);
      this.idle.pop().postMessage({ id, points, wanted }, [points.buffer]);
    }
  }
}

// In the page itself, a turn of the event loop for each call: where workers are forbidden.
class Inline {
  constructor() {
    this.engine = makeEngine();
    this.points = 256;
    this.name = "CPU";
  }

  load(field) {
    this.engine.load(field);
  }

  async evaluate(points, wanted, stale = () => false) {
    await new Promise((resolve) => setTimeout(resolve));
    return stale() ? null : this.engine.evaluate(points, wanted);
  }
}

// A graphics card if it computes what the processor does, else workers; "#cpu" or "#gpu" after the address forces one.
// Fields of windows are left to the processor.
async function chooseBackend(field) {
  if (navigator.gpu && location.hash !== "#cpu" && !field.windows) {
    try {
      const gpu = await Gpu.open();
      if (gpu && (await agrees(gpu, field))) return gpu;
    } catch (error) {
      console.warn(`WebGPU is not used: ${error.message}`);
    }
  }
  let backend;
  try {
    backend = new Workers();
  } catch {
    backend = new Inline();
  }
  if (field.windows) backend.name = `windows: ${backend.name}, no graphics card`;
  return backend;
}

async function agrees(gpu, field) {
  const points = Float64Array.from({ length: 64 * field.inputs }, (_, i) => Math.sin(i * i));
  const plain = new PlainEngine();
  gpu.load(field);
  plain.load(field);
  const [found, true_] = [await gpu.evaluate(points, "value"), plain.evaluate(points, "value")];
  return found.every((number, i) => Math.abs(number - true_[i]) < 2e-3);
}
