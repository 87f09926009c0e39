"use strict";
// The page: reads the data, joins controls and pointers to the picture or the sound. `hypersiren` is for the console.

const element = (id) => document.getElementById(id);
const named = (places, tensors) => Object.fromEntries(Object.entries(places).map(([name, at]) => [name, tensors[at]]));

async function open() {
  const data = JSON.parse(element("data").textContent);
  const tensors = data.tensors.map((text, at) => decoded(text, data.half.includes(at)));
  const pairs = (layers) => layers.map(([weight, bias]) => ({ weight: tensors[weight], bias: tensors[bias] }));
  const fields = data.fields.map(({ layers, windows }) => ({
    inputs: data.inputs,
    outputs: data.outputs,
    layers: pairs(layers),
    windows: windows && { ...windows, ...named(windows.tensors, tensors) },
  }));
  const engine = makeEngine(); // for the number under the cursor
  const backend = await chooseBackend(fields[0]);
  const load = (index) => {
    shown.field = index;
    backend.load(fields[index]);
    engine.load(fields[index]);
  };
  const page = {
    drawn(level, ms) {
      const share = { 8: "every 8th pixel", 4: "every 4th pixel", 2: "every 2nd pixel", 1: "all pixels" }[level];
      element("state").textContent = `${share} in ${ms.toFixed(0)} ms (${backend.name})`;
      element("scale").textContent = shown.legend;
    },
    computed(share, ms) {
      const done = `wave in ${(ms / 1000).toFixed(1)} s`;
      const words = share < 1 ? `computing the wave, ${(100 * share).toFixed(0)} %` : done;
      element("state").textContent = `${words} (${backend.name})`;
      element("play").disabled = share < 1;
      element("scale").textContent = shown.legend;
    },
  };
  const isSound = data.kind === "sound";
  for (const [id, has] of Object.entries({
    views: !isSound, gains: !isSound, contexts: data.contexts, choices: data.contexts, dots: data.contexts,
    slices: data.inputs === 3, axis: data.kind === "shape", play: isSound, frame: !isSound,
  })) element(id).hidden = !has;
  const shown = isSound ? new Sound(page, data, backend) : new Picture(page, data, backend);
  load(0);
  if (isSound) shown.start();
  const draw = () => {
    element("scale").textContent = shown.legend;
    return shown.draw();
  };

  element("view").onchange = () => {
    shown.show(element("view").value);
    element("gain").disabled = shown.wanted === "value";
    draw();
  };
  element("gain").oninput = () => {
    shown.contrast = Number(element("gain").value);
    shown.recolour();
    element("scale").textContent = shown.legend;
  };
  element("in").onclick = () => (shown.zoom(1.5), draw());
  element("out").onclick = () => (shown.zoom(1 / 1.5), draw());
  element("reset").onclick = () => (shown.reset(), draw());
  element("play").onclick = () => shown.play(element("play"));
  if (data.contexts) joinContexts(data, shown, load, draw);
  if (data.inputs === 3) joinSlices(data, shown, draw);
  joinPointers(shown, draw, engine);
  new ResizeObserver(draw).observe(element("canvas"));
  return { data, fields, backend, shown, draw, load };
}

function joinContexts(data, shown, load, draw) {
  const [context, choice] = [element("context"), element("choice")];
  context.max = data.contexts.length - 1;
  context.value = Math.min(2, data.contexts.length - 1);
  const colours = Uint8Array.from(atob(data.photo), (letter) => letter.charCodeAt(0)), C = data.outputs;
  const change = () => {
    const { known, cells, fields } = data.contexts[context.value];
    choice.max = fields.length - 1;
    element("known").textContent = known;
    element("chosen").textContent = Number(choice.value) ? `sample ${choice.value}` : "completion";
    load(fields[choice.value]);
    const colour = (cell) => `rgb(${[0, 1, 2].map((k) => colours[cell * C + (C === 3 ? k : 0)]).join(" ")})`;
    shown.known = element("dot").checked ? cells.map((cell) => [cell, colour(cell)]) : null;
    draw();
  };
  context.oninput = choice.oninput = element("dot").onchange = change;
  if (data.contexts[0].fields.length < 2) element("choices").hidden = true;
  change();
}

function joinSlices(data, shown, draw) {
  const [axis, slice] = [element("axis"), element("slice")];
  data.names.forEach((name, d) => axis.append(new Option(name, d)));
  axis.value = [0, 1, 2].find((d) => !data.axes.includes(d));
  const change = () => {
    const along = Number(axis.value);
    shown.axes = [0, 1, 2].filter((d) => d !== along);
    shown.fixed = [0, 0, 0];
    shown.fixed[along] = Number(slice.value);
    element("at").textContent = `${data.names[along]} = ${slice.value}`;
    draw();
  };
  axis.onchange = slice.oninput = change;
  change();
}

function joinPointers(shown, draw, engine) {
  const canvas = element("canvas"), pointers = new Map();
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientY - box.top) * shown.ratio, (event.clientX - box.left) * shown.ratio];
  };
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    canvas.classList.add("dragged");
  };
  canvas.onpointermove = (event) => {
    const now = at(event), before = pointers.get(event.pointerId);
    element("cursor").textContent = shown.describe(Math.floor(now[0]), Math.floor(now[1]), engine);
    if (!before) return;
    const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    if (others.length === 1) {
      const [other] = others, distance = (a) => Math.max(1, Math.hypot(a[0] - other[0], a[1] - other[1]));
      shown.zoom(distance(now) / distance(before), other[0], other[1]);
    } else if (!others.length) shown.move(now[0] - before[0], now[1] - before[1]);
    pointers.set(event.pointerId, now);
    draw();
  };
  canvas.onpointerup = canvas.onpointercancel = (event) => {
    pointers.delete(event.pointerId);
    canvas.classList.toggle("dragged", pointers.size > 0);
  };
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    shown.zoom(2 ** (-event.deltaY * (event.deltaMode ? 20 : 1) / 400), ...at(event));
    draw();
  }, { passive: false });
  canvas.onkeydown = ({ key }) => {
    const step = 40 * shown.ratio;
    const moves = { ArrowUp: [step, 0], ArrowDown: [-step, 0], ArrowLeft: [0, step], ArrowRight: [0, -step] };
    if (moves[key]) shown.move(...moves[key]);
    else if (key === "+" || key === "-") shown.zoom(key === "+" ? 1.5 : 1 / 1.5);
    else return;
    draw();
  };
}

const hypersiren = open();
