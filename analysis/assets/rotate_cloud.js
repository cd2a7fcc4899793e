// Sway a Plotly 3-D figure about its upright axis, starting from the view that the user chose.
// gradio.HTML runs this script with: element, props (value: the figure as JSON, or null), watch.
const SWAY_DEG = 22; // to either side; the back of the point cloud is empty
const PERIOD_MS = 9000;
const REST_MS = 1500; // pause after the user releases the figure
const MAX_STEP_MS = 200; // largest step of the motion

const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
let plot = null, held = false, rest_until = 0, time = 0, before = 0;

function show() {
  const place = element.querySelector(".turning");
  plot = null;
  if (!props.value) { Plotly.purge(place); return; }
  const figure = JSON.parse(props.value);
  time = 0;
  const how = { displayModeBar: false, responsive: true, plotGlPixelRatio: devicePixelRatio };
  Plotly.react(place, figure.data, figure.layout, how).then(() => { plot = place; });
}

function rotate(eye, angle) {
  const cos = Math.cos(angle), sin = Math.sin(angle);
  return { x: cos * eye.x - sin * eye.y, y: sin * eye.x + cos * eye.y, z: eye.z };
}

function sway(elapsed_ms) {
  const angle = (at) => SWAY_DEG * Math.PI / 180 * Math.sin(2 * Math.PI * at / PERIOD_MS);
  const change = angle(time + elapsed_ms) - angle(time);
  time += elapsed_ms;
  const camera = plot.layout.scene.camera;
  Plotly.relayout(plot, { "scene.camera": { ...camera, eye: rotate(camera.eye, change) } });
}

function step(now) {
  if (!element.isConnected) return;
  const elapsed_ms = now - before, seen = plot && plot.offsetParent && !document.hidden;
  before = now;
  if (seen && !still && !held && now > rest_until) sway(Math.min(elapsed_ms, MAX_STEP_MS));
  // without a graphics card drawing is slow: leave as much time to the rest of the page
  setTimeout(() => requestAnimationFrame(step), Math.min(elapsed_ms / 2, MAX_STEP_MS));
}

element.addEventListener("pointerdown", () => { held = true; });
addEventListener("pointerup", () => { if (held) { held = false; rest_until = performance.now() + REST_MS; } });
element.addEventListener("wheel", () => { rest_until = performance.now() + REST_MS; }, { passive: true });
watch("value", show);
if (props.value) show(); // a photo may have been dropped before Plotly was loaded
requestAnimationFrame(step);
