// What the class's probability becomes where the network sees a part of the image alone: a bar for each probe.
import { h } from "./fiftyone.js";

const Bar = ({ value, ...props }) =>
  h("div", { className: "sl-bar", ...props }, h("div", { style: { width: `${100 * (value || 0)}%` } }));

function row({ name, label, value, text, picture }, second, chosen, choose) {
  const hides = name.startsWith("p_hide") ? "" : undefined;
  return [
    h("button", { key: `${name} name`, className: "sl-bar-name", disabled: !picture, "aria-pressed": chosen,
      title: picture ? "show what the network saw" : "this picture is not stored", onClick: choose }, label),
    h("div", { key: `${name} value`, className: "sl-values", "data-cy": `sightline-${name}`,
        "data-value": value, "data-other": second ? second.value : undefined },
      text, second && h("span", { className: "sl-quiet" }, ` ${second.text}`)),
    h("div", { key: `${name} bar` },
      h(Bar, { value, "data-hides": hides }),
      second && h(Bar, { value: second.value, "data-hides": hides, "data-other": "", style: { marginTop: 1 } })),
  ];
}

export function Probes({ shown, other, probe, setProbe }) {
  return h("div", { className: "sl-bars", role: "group", "aria-label": `p(${shown.explained})` },
    shown.probes.map((one, i) => row(one, other && other.probes[i], one.name === probe, () => setProbe(one.name))));
}
