"use strict";
// Windows on the processor: y(x) = sum_t w_t(x) f(xi_t(x)), as hypersiren/fields/windows.py has them, with derivatives by
// the product rule. `field.windows` has for each axis count, width, step and lap; `own`, the first layer that every window
// has for itself; of packed windows also counts, coefficients, mix and offset, which make the last layer.

// S, S' and S'' at t in [0, 1].
function smoothStep(t) {
  return [t ** 3 * (t * (6 * t - 15) + 10), 30 * (t * (1 - t)) ** 2, 60 * t * (1 - t) * (1 - 2 * t)];
}

// Layer i of window t.
function layerOf(field, i, t) {
  const { own, counts, coefficients, mix, offset } = field.windows;
  if (i < own) return field.layers[i];
  if (!counts) {
    const { weight, bias } = field.layers[i], total = field.windows.count.reduce((a, b) => a * b);
    const part = (all) => all.subarray((t * all.length) / total, ((t + 1) * all.length) / total);
    return { weight: part(weight), bias: part(bias) };
  }
  const C = field.outputs, features = field.layers[i - 1].bias.length, weight = new Float32Array(C * features);
  let at = t * counts.reduce((a, b) => a + b);
  counts.forEach((count, r) => {
    for (let c = 0; c < C; c++) {
      const share = mix[c * counts.length + r];
      for (let k = 0; k < count; k++) weight[c * features + k] += share * coefficients[at + k];
    }
    at += count;
  });
  return { weight, bias: offset };
}

// Any field, through an engine that knows no windows.
class WindowedEngine {
  constructor(engine) {
    this.engine = engine;
  }

  load(field) {
    this.field = field;
    if (!field.windows) return this.engine.load(field);
    const { width, own, counts } = field.windows, layers = [];
    for (let i = 0; i < field.layers.length + (counts ? 1 : 0); i++) layers.push(layerOf(field, i, 0));
    this.engine.load({ inputs: field.inputs, outputs: field.outputs, layers, seeds: width.map((w) => 2 / w) });
    this.own = layers.map((_, i) => i).slice(own);
  }

  evaluate(points, wanted) {
    if (!this.field.windows) return this.engine.evaluate(points, wanted);
    return picked(this.blend(points, wanted), wanted, this.field);
  }

  // Which points each window counts at: their numbers, places in the window, and its weights with their derivatives, one
  // for each stream.
  locate(points, streams) {
    const { count, width, step, lap } = this.field.windows, D = count.length, found = new Map();
    for (let p = 0; p < points.length / D; p++) {
      let corners = [{ window: 0, place: [], factors: [] }];
      for (let d = 0; d < D; d++) {
        const place = points[p * D + d] + 1;
        const i = Math.min(count[d] - 1, Math.max(0, Math.floor(place / step[d])));
        const t = i ? Math.min(1, (place - i * step[d]) / lap[d]) : 1;
        const rising = smoothStep(t).map((s, order) => s / lap[d] ** order);
        const both = [[i, rising]];
        if (rising[0] < 1) both.push([i - 1, [1 - rising[0], -rising[1], -rising[2]]]);
        if (!rising[0]) both.shift();
        corners = corners.flatMap((corner) => both.map(([j, factor]) => ({
          window: corner.window * count[d] + j,
          place: [...corner.place, (2 * (place - j * step[d])) / width[d] - 1],
          factors: [...corner.factors, factor],
        })));
      }
      for (const { window, place, factors } of corners) {
        if (!found.has(window)) found.set(window, { rows: [], places: [], weights: [] });
        const { rows, places, weights } = found.get(window);
        rows.push(p);
        places.push(...place);
        const product = (axis, order) => factors.reduce((value, f, d) => value * f[d === axis ? order : 0], 1);
        weights.push(product(-1, 0));
        for (let d = 0; d < D && streams > 1; d++) weights.push(product(d, 1));
        if (streams > 1 + D) weights.push(factors.reduce((sum, _, d) => sum + product(d, 2), 0));
      }
    }
    return found;
  }

  blend(points, wanted) {
    const { field, engine } = this, D = field.inputs, C = field.outputs, streams = streamsOf(wanted, D);
    const sum = new Float64Array((points.length / D) * C * streams), last = 1 + D;
    for (const [window, { rows, places, weights }] of this.locate(points, streams)) {
      for (const i of this.own) engine.replace(i, layerOf(field, i, window));
      const found = engine.streams(Float64Array.from(places), wanted);
      for (let r = 0; r < rows.length; r++) {
        for (let c = 0; c < C; c++) {
          const from = (r * C + c) * streams, to = (rows[r] * C + c) * streams, w = r * streams;
          for (let s = 0; s < streams; s++) {
            sum[to + s] += weights[w] * found[from + s] + (s ? weights[w + s] * found[from] : 0);
          }
          if (streams > last) {
            for (let d = 1; d < last; d++) sum[to + last] += 2 * weights[w + d] * found[from + d];
          }
        }
      }
    }
    return Float32Array.from(sum);
  }
}
