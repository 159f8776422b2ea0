"use strict";
(function () {
  const started = performance.now();
  const holder = document.getElementById("map");
  if (!holder) { return; }
  const data = JSON.parse(document.getElementById("map-data").textContent);
  const canvas = holder.querySelector("canvas");
  const picture = holder.querySelector("img");
  const readout = document.getElementById("readout");
  const pen = canvas.getContext("2d");
  const base = document.createElement("canvas");
  base.width = data.cols;
  base.height = data.rows;
  let codes = null;
  let view = { x: 0, y: 0, zoom: 1 };
  let cellWidth = 1, cellHeight = 1, wide = 1, high = 1, ratio = 1;
  let cursor = null;
  const looks = {};
  data.kinds.forEach(function (kind) { looks[kind.id] = kind; });
  const texts = new Map();
  data.marks.forEach(function (mark) {
    if (!mark[5]) { return; }
    const key = mark[1] * data.cols + mark[2];
    texts.set(key, (texts.has(key) ? texts.get(key) + "; " : "") + looks[mark[0]].name + ": " + mark[5]);
  });

  function shapePath(shape, size) {
    pen.beginPath();
    if (shape === "cross") { pen.moveTo(-size, -size); pen.lineTo(size, size); pen.moveTo(size, -size); pen.lineTo(-size, size); }
    else if (shape === "diamond") { pen.moveTo(0, -size * 1.2); pen.lineTo(size * 1.2, 0); pen.lineTo(0, size * 1.2); pen.lineTo(-size * 1.2, 0); pen.closePath(); }
    else if (shape === "triangle") { pen.moveTo(0, -size * 1.15); pen.lineTo(size * 1.1, size * 0.85); pen.lineTo(-size * 1.1, size * 0.85); pen.closePath(); }
    else if (shape === "square") { pen.rect(-size * 0.9, -size * 0.9, size * 1.8, size * 1.8); }
    else { pen.arc(0, 0, shape === "ring" ? size * 1.5 : size * 0.7, 0, 2 * Math.PI); }
  }

  function drawMark(kind, x, y, dx, dy, size) {
    const look = looks[kind];
    pen.save();
    pen.translate(x, y);
    pen.lineCap = "round";
    if (look.shape === "bar") {
      const hx = Math.sign(dx) * Math.max(Math.abs(dx) / 2, 5), hy = Math.sign(dy) * Math.max(Math.abs(dy) / 2, 5);
      for (const pass of [["#ffffff", 5.5], [look.colour, 3]]) {
        pen.strokeStyle = pass[0];
        pen.lineWidth = pass[1];
        pen.beginPath();
        pen.moveTo(-hx, -hy);
        pen.lineTo(hx, hy);
        pen.stroke();
      }
    } else {
      const open = look.shape === "cross" || look.shape === "ring";
      shapePath(look.shape, size);
      pen.strokeStyle = "#ffffff";
      pen.lineWidth = open ? 5.2 : 2.6;
      pen.stroke();
      shapePath(look.shape, size);
      if (open) { pen.strokeStyle = look.colour; pen.lineWidth = 2.6; pen.stroke(); }
      else { pen.fillStyle = look.colour; pen.fill(); pen.strokeStyle = "#1b2026"; pen.lineWidth = 0.7; pen.stroke(); }
    }
    pen.restore();
  }

  function draw() {
    const cw = cellWidth * view.zoom, ch = cellHeight * view.zoom;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = "#ffffff";
    pen.fillRect(0, 0, wide, high);
    pen.imageSmoothingEnabled = Math.min(cw, ch) < 1;
    pen.drawImage(base, view.x, view.y, data.cols * cw, data.rows * ch);
    if (Math.min(cw, ch) >= 9) {
      pen.strokeStyle = "rgba(255,255,255,0.9)";
      pen.lineWidth = 1;
      pen.beginPath();
      for (let c = Math.max(0, Math.floor(-view.x / cw)); c <= Math.min(data.cols, (wide - view.x) / cw + 1); c += 1) { pen.moveTo(view.x + c * cw, view.y); pen.lineTo(view.x + c * cw, view.y + data.rows * ch); }
      for (let r = Math.max(0, Math.floor(-view.y / ch)); r <= Math.min(data.rows, (high - view.y) / ch + 1); r += 1) { pen.moveTo(view.x, view.y + r * ch); pen.lineTo(view.x + data.cols * cw, view.y + r * ch); }
      pen.stroke();
    }
    const size = Math.max(3, Math.min(0.26 * Math.min(cw, ch), 11));
    for (const mark of data.marks) {
      const x = view.x + (mark[2] + 0.5 + mark[4] / 2) * cw, y = view.y + (mark[1] + 0.5 + mark[3] / 2) * ch;
      if (x > -30 && y > -30 && x < wide + 30 && y < high + 30) { drawMark(mark[0], x, y, mark[4] * cw, mark[3] * ch, size); }
    }
    if (cursor) {
      pen.strokeStyle = "#1b2026";
      pen.lineWidth = 1.5;
      pen.strokeRect(view.x + cursor[1] * cw - 1, view.y + cursor[0] * ch - 1, cw + 2, ch + 2);
    }
  }

  function clamp() {
    view.zoom = Math.max(1, Math.min(view.zoom, 48 / Math.min(cellWidth, cellHeight), 4000));
    const w = data.cols * cellWidth * view.zoom, h = data.rows * cellHeight * view.zoom;
    view.x = Math.min(0, Math.max(wide - w, view.x));
    view.y = Math.min(0, Math.max(high - h, view.y));
  }

  function resize() {
    const box = holder.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) { return; }
    const middle = [(wide / 2 - view.x) / (cellWidth * view.zoom), (high / 2 - view.y) / (cellHeight * view.zoom)];
    wide = holder.clientWidth; high = holder.clientHeight;
    ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(wide * ratio);
    canvas.height = Math.round(high * ratio);
    cellWidth = wide / data.cols;
    cellHeight = high / data.rows;
    view.x = wide / 2 - middle[0] * cellWidth * view.zoom;
    view.y = high / 2 - middle[1] * cellHeight * view.zoom;
    clamp();
    draw();
  }

  function zoomAt(x, y, factor) {
    const before = view.zoom;
    view.zoom *= factor;
    view.zoom = Math.max(1, Math.min(view.zoom, Math.max(1, 48 / Math.min(cellWidth, cellHeight))));
    const k = view.zoom / before;
    view.x = x - (x - view.x) * k;
    view.y = y - (y - view.y) * k;
    clamp();
    draw();
  }

  function fit() { view = { x: 0, y: 0, zoom: 1 }; clamp(); draw(); }

  function logical(row, col) {
    const runs = data.runs[row];
    if (!runs) { return null; }
    let low = 0, top = runs.length - 1;
    while (low <= top) {
      const mid = (low + top) >> 1, run = runs[mid];
      if (col < run[0]) { top = mid - 1; }
      else if (col >= run[0] + run[1]) { low = mid + 1; }
      else { return [run[2], run[3] + col - run[0]]; }
    }
    return null;
  }

  function describe(row, col) {
    const state = data.kinds[codes[row * data.cols + col]];
    const place = logical(row, col);
    const parts = ["physical core (" + row + ", " + col + ")", state.name];
    parts.push(place ? "logical core (" + place[0] + ", " + place[1] + ")" : "no logical core");
    const text = texts.get(row * data.cols + col);
    return parts.join(" · ") + (text ? " · " + text : "");
  }

  function point(row, col) {
    if (row < 0 || col < 0 || row >= data.rows || col >= data.cols) { cursor = null; readout.textContent = readout.dataset.hint; }
    else { cursor = [row, col]; readout.textContent = describe(row, col); }
    draw();
  }

  function at(event) {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  let drag = null;
  canvas.addEventListener("pointerdown", function (event) { drag = at(event); canvas.setPointerCapture(event.pointerId); canvas.style.cursor = "grabbing"; });
  canvas.addEventListener("pointerup", function () { drag = null; canvas.style.cursor = "grab"; });
  canvas.addEventListener("pointermove", function (event) {
    const now = at(event);
    if (drag && event.buttons) {
      view.x += now[0] - drag[0];
      view.y += now[1] - drag[1];
      drag = now;
      clamp();
    }
    point(Math.floor((now[1] - view.y) / (cellHeight * view.zoom)), Math.floor((now[0] - view.x) / (cellWidth * view.zoom)));
  });
  canvas.addEventListener("pointerleave", function () { point(-1, -1); });
  canvas.addEventListener("dblclick", function (event) { const p = at(event); zoomAt(p[0], p[1], 2); });
  canvas.addEventListener("wheel", function (event) {
    if (!event.ctrlKey && document.activeElement !== canvas) { return; }
    event.preventDefault();
    const p = at(event);
    zoomAt(p[0], p[1], Math.exp(-event.deltaY * 0.002));
  }, { passive: false });
  canvas.addEventListener("keydown", function (event) {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (step) {
      const here = cursor || [data.rows >> 1, data.cols >> 1];
      const row = Math.max(0, Math.min(data.rows - 1, here[0] + step[0])), col = Math.max(0, Math.min(data.cols - 1, here[1] + step[1]));
      const x = view.x + (col + 0.5) * cellWidth * view.zoom, y = view.y + (row + 0.5) * cellHeight * view.zoom;
      if (x < 0 || x > wide) { view.x += wide / 2 - x; }
      if (y < 0 || y > high) { view.y += high / 2 - y; }
      clamp();
      point(row, col);
    }
    else if (event.key === "+" || event.key === "=") { zoomAt(wide / 2, high / 2, 1.5); }
    else if (event.key === "-") { zoomAt(wide / 2, high / 2, 1 / 1.5); }
    else if (event.key === "0") { fit(); }
    else { return; }
    event.preventDefault();
  });
  holder.querySelector("[data-do=in]").addEventListener("click", function () { zoomAt(wide / 2, high / 2, 1.6); });
  holder.querySelector("[data-do=out]").addEventListener("click", function () { zoomAt(wide / 2, high / 2, 1 / 1.6); });
  holder.querySelector("[data-do=fit]").addEventListener("click", fit);

  let opened = [];
  window.addEventListener("beforeprint", function () {
    fit();
    opened = Array.from(document.querySelectorAll("details:not([open]):not(.cell)"));
    opened.forEach(function (item) { item.open = true; });
  });
  window.addEventListener("afterprint", function () { opened.forEach(function (item) { item.open = false; }); });

  function start() {
    const brush = base.getContext("2d", { willReadFrequently: true });
    brush.drawImage(picture, 0, 0);
    const pixels = brush.getImageData(0, 0, data.cols, data.rows).data;
    const table = new Map();
    data.kinds.forEach(function (kind, code) {
      if (code < data.states) { table.set(parseInt(kind.colour.slice(1), 16), code); }
    });
    codes = new Uint8Array(data.rows * data.cols);
    const counts = new Array(data.states).fill(0);
    let unknown = 0;
    for (let i = 0; i < codes.length; i += 1) {
      const code = table.get((pixels[4 * i] << 16) | (pixels[4 * i + 1] << 8) | pixels[4 * i + 2]);
      if (code === undefined) { unknown += 1; } else { codes[i] = code; counts[code] += 1; }
    }
    if (unknown) { return; }
    holder.classList.add("live");
    resize();
    readout.textContent = readout.dataset.hint;
    if (data.probe) { holder.dataset.probe = describe(data.probe[0], data.probe[1]); }
    holder.dataset.drawn = counts.join(" ");
    holder.dataset.readyMs = performance.now().toFixed(0);
    holder.dataset.mapMs = (performance.now() - started).toFixed(0);
    new ResizeObserver(resize).observe(holder);
  }
  if (picture.complete && picture.naturalWidth) { start(); } else { picture.addEventListener("load", start); }
}());
