// Which map is shown, at which contour, and which other run or map stands beside it.
import { h, useState } from "./fiftyone.js";

function Select({ label, value, options, onChange, name }) {
  const change = (event) => {
    event.target.blur();
    onChange(event.target.value);
  };
  return h("label", null, label,
    h("select", { value, "data-cy": `sightline-${name}`, onChange: change },
      options.map(([key, text]) => h("option", { key, value: key }, text))));
}

function MapSelect({ name, label, choices, value, onChange }) {
  return h(Select, { name, label, value: `${value.method}/${value.target}`,
    options: choices.map(({ method, target }) => [`${method}/${target}`, `${method}, ${target}`]),
    onChange: (picked) => onChange({ method: picked.split("/")[0], target: picked.split("/")[1] }) });
}

function Compare({ content, other, setOther }) {
  const [typing, setTyping] = useState(false);
  // Before a choice, the operator may have set one beside: that of the view, where it is of a comparison.
  const chosen = (other || content.other || {}).run || "";
  const known = Object.entries(content.runs).map(([name, run]) => [run, name === content.name ? `${name} (this run)` : name]);
  if (chosen && !known.some(([run]) => run === chosen)) known.push([chosen, chosen.split("/").pop()]);
  const pick = (run) => {
    setTyping(run === "path");
    if (run !== "path") setOther({ run });
  };
  const enter = (event) => {
    if (event.key === "Enter" && event.target.value.trim()) {
      setOther({ run: event.target.value.trim() });
      setTyping(false);
    }
  };
  const offered = content.other && content.other.choices;
  return [
    h(Select, { key: "run", name: "other-run", label: "compare with", value: typing ? "path" : chosen, onChange: pick,
      options: [["", "nothing"], ...known, ["path", "a run's path ..."]] }),
    typing && h("input", { key: "path", type: "text", placeholder: "a run beside this one, then Enter", autoFocus: true, onKeyDown: enter }),
    offered && offered.length > 0 && h(MapSelect, { key: "map", name: "other-map", label: "", choices: offered,
      value: content.other, onChange: (map) => setOther({ run: chosen, ...map }) }),
  ];
}

export function Choices({ content, shown, level, setLevel, opacity, setOpacity, setMap, other, setOther }) {
  return h("div", { className: "sl-controls" },
    h("label", null, "contour", h("input", { type: "range", min: 0, max: shown.levels.length - 1, "data-cy": "sightline-level",
      value: shown.levels.indexOf(level), onChange: (event) => setLevel(shown.levels[event.target.value]) }), level.toFixed(2)),
    h("label", null, "map", h("input", { type: "range", min: 0, max: 1, step: 0.05, value: opacity,
      onChange: (event) => setOpacity(Number(event.target.value)) })),
    h(MapSelect, { name: "map", label: "of", choices: content.choices, value: shown, onChange: setMap }),
    h(Compare, { content, other, setOther }));
}
