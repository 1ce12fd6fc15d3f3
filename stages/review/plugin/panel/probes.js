// What the class's probability becomes where the network sees a part of the image alone: a bar for each probe.
import { h } from "./fiftyone.js";

const percent = (share) => `${100 * share}%`;

// The loud part of a bar is the effect: what hiding takes from p on the whole view, or what the surroundings alone give.
function effectOf({ name, value }, probes) {
  const at = (other) => (probes.find((probe) => probe.name === other) || {}).value;
  if (name.startsWith("p_hide")) return [value, at("p_full")];
  return name === "p_transplant" ? [at("p_transplant_null"), value] : [];
}

function Bar({ probe, probes, ...props }) {
  const [from, to] = effectOf(probe, probes);
  return h("div", { className: "sl-bar", ...props },
    h("div", { style: { width: percent(probe.value || 0) } }),
    to > from && h("div", { className: "sl-effect", style: { left: percent(from), width: percent(to - from) } }));
}

function row(probe, probes, second, seconds, chosen, choose) {
  const { name, label, value, text, picture } = probe;
  return [
    h("button", { key: `${name} name`, className: "sl-bar-name", disabled: !picture, "aria-pressed": chosen,
      title: picture ? "show what the network saw" : "this picture is not stored", onClick: choose }, label),
    h("div", { key: `${name} value`, className: "sl-values", "data-cy": `sightline-${name}`,
        "data-value": value, "data-other": second ? second.value : undefined },
      text, second && h("span", { className: "sl-quiet" }, ` ${second.text}`)),
    h("div", { key: `${name} bar` },
      h(Bar, { probe, probes }),
      second && h(Bar, { probe: second, probes: seconds, "data-other": "", style: { marginTop: 1 } })),
  ];
}

export function Probes({ shown, other, probe, setProbe }) {
  return h("div", { className: "sl-bars", role: "group", "aria-label": `p(${shown.explained})` },
    shown.probes.map((one, i) => row(one, shown.probes, other && other.probes[i], other && other.probes, one.name === probe, () => setProbe(one.name))));
}
