// The image under its map, and the image as the network saw it for a probe.
import { h, useEffect, useRef, useState } from "./fiftyone.js";

// Values of the map under the mouse: the floats of the store, not the colours of the picture.
const decode = (map) => new Float32Array(Uint8Array.from(atob(map.float32), (c) => c.charCodeAt(0)).buffer);

function valueAt({ width, height, scale, offset }, floats, x, y) {
  const column = Math.floor(x * scale[0] + offset[0]);
  const row = Math.floor(y * scale[1] + offset[1]);
  const inside = column >= 0 && row >= 0 && column < width && row < height;
  return inside ? floats[row * width + column] : null;
}

// Every line has a dark halo, so that it shows on any picture.
function Boxes({ boxes, ...props }) {
  const rectangles = (line) => boxes.map(([x0, y0, x1, y1], i) =>
    h("rect", { key: `${line.stroke} ${i}`, x: x0, y: y0, width: x1 - x0, height: y1 - y0, ...line }));
  return [rectangles({ stroke: "#000", strokeWidth: 4 }), rectangles({ strokeWidth: 2, ...props })];
}

function Drawing({ shown, line }) {
  const { width, height } = shown;
  const [left, top, right, bottom] = shown.view_box;
  return h("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none" },
    // What a crop kept from the network.
    h("path", { d: `M0 0H${width}V${height}H0ZM${left} ${top}V${bottom}H${right}V${top}Z`,
      style: { fill: "#000a", fillRule: "evenodd" } }),
    line && h("path", { d: line, stroke: "#000", strokeWidth: 3 }),
    line && h("path", { d: line, stroke: "#fff", strokeWidth: 1.4 }),
    h(Boxes, { boxes: shown.boxes, stroke: "#12b83a" }),
    shown.outline && h("path", { d: shown.outline, stroke: "#000", strokeWidth: 4 }),
    shown.outline && h("path", { d: shown.outline, stroke: "#12b83a", strokeWidth: 2 }),
    shown.hidden_box && h(Boxes, { boxes: [shown.hidden_box], stroke: "#ff2a1a", strokeDasharray: "5 4" }));
}

function caption(shown, level, index, under) {
  if (shown.problem) return shown.problem;
  if (under) return `S = ${under.value.toFixed(6)} at (${under.x}, ${under.y})`;
  if (!shown.contours) return `no map: ${shown.reason || shown.status}`;
  const share = (100 * shown.shares[index]).toFixed(0);
  const green = shown.outline ? "boxes, mask" : "boxes";
  return `white: S = ${level.toFixed(2)}, ${share}% of the view; green: ${green}${shown.hidden_box ? "; red: hidden" : ""}`;
}

export function Picture({ shown, level, opacity }) {
  const [under, setUnder] = useState(null);
  const floats = useRef(null);
  useEffect(() => {
    floats.current = shown.map ? decode(shown.map) : null;
    setUnder(null);
  }, [shown]);
  const { width, height } = shown;
  const index = shown.levels.indexOf(level);
  const move = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const x = ((event.clientX - box.x) / box.width) * width;
    const y = ((event.clientY - box.y) / box.height) * height;
    const value = floats.current && valueAt(shown.map, floats.current, x, y);
    setUnder(value === null ? null : { x: Math.floor(x), y: Math.floor(y), value });
  };
  return h("figure", { style: { flex: `0 1 calc(var(--sl-high) * ${width / height})` } },
    h("div", { className: "sl-picture", "data-cy": "sightline-picture", style: { aspectRatio: `${width} / ${height}` },
        onMouseMove: move, onMouseLeave: () => setUnder(null) },
      shown.image && h("img", { src: shown.image, alt: shown.sample_id }),
      shown.heat && h("img", { src: shown.heat, alt: "", style: { opacity } }),
      h(Drawing, { shown, line: shown.contours && shown.contours[index] })),
    h("figcaption", { "data-cy": "sightline-caption" }, caption(shown, level, index, under)));
}

// Probes whose picture can be shown; the hidden ones, which are what a finding is about, come first.
export const picturesOf = ({ probes }) => {
  const drawn = probes.filter(({ picture }) => picture);
  const hides = ({ name }) => name.startsWith("p_hide");
  return [...drawn.filter(hides), ...drawn.filter((probe) => !hides(probe))];
};

export const pictureOf = (shown, probe) => picturesOf(shown).find(({ name }) => name === probe) || picturesOf(shown)[0];

export function Seen({ shown, probe }) {
  const chosen = pictureOf(shown, probe);
  if (!chosen) return null;
  return h("figure", { style: { flex: "0 1 var(--sl-high)" } },
    h("img", { className: "sl-seen", src: chosen.picture, alt: `what the network saw: ${chosen.label}` }),
    h("figcaption", null, `the network saw: ${chosen.label}, p ${chosen.text}`));
}
