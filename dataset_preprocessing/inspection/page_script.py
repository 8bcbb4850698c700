"""The page's style and script. The page is one file that needs nothing else, and so has them in
it."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --dim: #687076; --paper: #fbfcfd; --card: #fff;
  --line: #e4e7eb; --mark: #3e63dd; --bad: #e5484d; }
@media (prefers-color-scheme: dark) { :root { --ink: #eceef0; --dim: #9ba1a6; --paper: #151718;
  --card: #1c1f21; --line: #313538; --mark: #7c97f5; --bad: #ff6369; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 28px 24px 60px; color: var(--ink);
  background: var(--paper); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0; } h2 { font-size: 17px; margin: 30px 0 10px; }
.dim, .ends, figcaption { color: var(--dim); font-size: 13px; }
.counts { display: grid; gap: 10px; margin: 18px 0;
  grid-template-columns: repeat(auto-fit, minmax(118px, 1fr)); }
.counts div { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 8px 12px; }
.counts b { display: block; font-size: 20px; } .counts .bad b { color: var(--bad); }
.columns { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 16px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px 14px; }
.stage { position: relative; padding: 0; overflow: hidden; }
canvas { display: block; width: 100%; height: 100%; min-height: 460px;
  cursor: grab; touch-action: none; }
canvas:active { cursor: grabbing; }
.tools { position: absolute; left: 12px; top: 10px; display: flex; gap: 12px; font-size: 13px; }
#tip { position: absolute; pointer-events: none; display: none; padding: 4px 8px; font-size: 12px;
  border-radius: 6px; color: #fff; background: rgba(28, 32, 36, .88); white-space: pre; }
.histogram { margin: 0 0 10px; } .histogram svg { width: 100%; height: 54px; display: block; }
.histogram rect { fill: var(--mark); opacity: .8; }
.histogram line { stroke: var(--bad); stroke-width: 1; vector-effect: non-scaling-stroke; }
.histogram figcaption b { color: var(--ink); float: right; font-weight: 600; }
.ends { display: flex; justify-content: space-between; margin: 1px 0 0; font-size: 11px; }
.pictures { display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); }
.picture { margin: 0; min-width: 0; } .picture div { position: relative; }
.picture img { width: 100%; display: block; border-radius: 6px; border: 1px solid var(--line);
  image-rendering: auto; }
.picture svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: hidden; }
.picture line { vector-effect: non-scaling-stroke; stroke-width: 1.2; }
.picture .box { stroke: #f5a623; stroke-opacity: .95; } .picture .axis { stroke-width: 2; }
.picture text { font-size: .09px; font-weight: 700; }
.picture figcaption { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
table { border-collapse: collapse; width: 100%; }
td { padding: 3px 8px 3px 0; vertical-align: top; }
td:first-child { color: var(--dim); white-space: nowrap; }
pre { margin: 8px 0 0; padding: 10px 12px; overflow-x: auto; border-radius: 6px; font-size: 13px;
  background: var(--paper); border: 1px solid var(--line); }
ul { margin: 6px 0; padding-left: 20px; }
@media (max-width: 820px) { .columns { grid-template-columns: 1fr; } }
"""

SCRIPT = """
"use strict";
const data = JSON.parse(document.getElementById("cameras").textContent);
const canvas = document.getElementById("stage"), tip = document.getElementById("tip");
const byYaw = document.getElementById("by-yaw"), onlyOdd = document.getElementById("only-odd");
const dark = matchMedia("(prefers-color-scheme: dark)").matches;
const view = { yaw: 0.6, pitch: 0.42, zoom: 1 };
const add = (a, b, s) => [a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2]];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
let placed = [], pointer = null;

// World to screen: the world's up is upright, the middle of everything in the middle.
function project(p) {
  const [u, s, f] = data.frame.map((axis, k) => dot(p, axis) - data.middle[k]);
  const x = s * Math.cos(view.yaw) - f * Math.sin(view.yaw);
  const d = s * Math.sin(view.yaw) + f * Math.cos(view.yaw);
  const y = u * Math.cos(view.pitch) - d * Math.sin(view.pitch);
  const z = u * Math.sin(view.pitch) + d * Math.cos(view.pitch);
  const scale = view.zoom * Math.min(canvas.clientWidth, canvas.clientHeight) * 1.85;
  const w = scale / (4 - z / data.extent) / data.extent;
  return [canvas.clientWidth / 2 + x * w, canvas.clientHeight / 2 - y * w, z];
}

function line(pen, points, colour, width) {
  pen.strokeStyle = colour; pen.lineWidth = width; pen.beginPath();
  points.map(project).forEach(([x, y], k) => k ? pen.lineTo(x, y) : pen.moveTo(x, y));
  pen.stroke();
}

function frustum(pen, camera, colour, width) {
  const size = 0.07 * data.extent, [eye, right, down, forward] = camera.pose;
  const centre = add(eye, forward, size), half = size * Math.min(0.5 / camera.focal, 0.6);
  const corner = (a, b) => add(add(centre, right, a * half), down, b * half);
  const corners = [corner(-1, -1), corner(1, -1), corner(1, 1), corner(-1, 1)];
  line(pen, [...corners, corners[0]], colour, width);
  for (const c of corners) line(pen, [eye, c], colour, width);
}

function colourOf(camera) {
  if (camera.odd) return dark ? "#ff6369" : "#e5484d";
  return byYaw.checked ? `hsl(${camera.yaw + 200}, 68%, ${dark ? 66 : 46}%)` : "#8b929a";
}

function draw() {
  const ratio = devicePixelRatio || 1, pen = canvas.getContext("2d");
  canvas.width = canvas.clientWidth * ratio; canvas.height = canvas.clientHeight * ratio;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  const [up, side, front] = data.frame, ring = [];
  for (let k = 0; k <= 96; k++) {
    const a = k / 48 * Math.PI, across = add([0, 0, 0], side, data.radius * Math.sin(a));
    ring.push(add(across, front, data.radius * Math.cos(a)));
  }
  line(pen, ring, dark ? "#3a3f42" : "#d7dbdf", 1);
  for (const edge of data.box) line(pen, edge, "#f5a623", 1.5);
  ["#e5484d", "#30a46c", "#3e63dd"].forEach((colour, k) => {
    const tip = [0, 0, 0]; tip[k] = data.side * 0.75;
    line(pen, [[0, 0, 0], tip], colour, 2);
    const [x, y] = project(tip);
    pen.fillStyle = colour; pen.font = "600 13px system-ui"; pen.fillText("xyz"[k], x + 4, y + 4);
  });
  const shown = data.cameras.filter(c => c.odd || !onlyOdd.checked);
  placed = shown.map(camera => [camera, ...project(camera.pose[0])]).sort((a, b) => a[3] - b[3]);
  const thin = placed.length > 400 ? 0.8 : 1.2;
  pen.globalAlpha = placed.length > 800 ? 0.55 : 0.85;
  for (const [camera] of placed) frustum(pen, camera, colourOf(camera), camera.odd ? 2 : thin);
  pen.globalAlpha = 1;
}

function hover(x, y) {
  let best = null, nearest = 14;
  for (const [camera, cx, cy] of placed) {
    const distance = Math.hypot(cx - x, cy - y);
    if (distance <= nearest) { nearest = distance; best = camera; }
  }
  tip.style.display = best ? "block" : "none";
  if (!best) return;
  tip.textContent = best.name + "\\n" + best.words;
  tip.style.left = Math.min(x + 14, canvas.clientWidth - tip.offsetWidth - 6) + "px";
  tip.style.top = Math.max(y - tip.offsetHeight - 8, 4) + "px";
}

canvas.addEventListener("pointerdown", e => {
  pointer = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); });
canvas.addEventListener("pointerup", () => { pointer = null; });
canvas.addEventListener("pointermove", e => {
  if (!pointer) return hover(e.offsetX, e.offsetY);
  view.yaw += (e.clientX - pointer[0]) * 0.008;
  view.pitch = Math.max(-1.55, Math.min(1.55, view.pitch + (e.clientY - pointer[1]) * 0.008));
  pointer = [e.clientX, e.clientY]; tip.style.display = "none"; draw();
});
canvas.addEventListener("wheel", e => {
  e.preventDefault();
  view.zoom = Math.max(0.3, Math.min(8, view.zoom * Math.exp(-e.deltaY * 0.0015))); draw();
}, { passive: false });
for (const box of [byYaw, onlyOdd]) box.addEventListener("change", draw);
addEventListener("resize", draw);
draw();
"""
