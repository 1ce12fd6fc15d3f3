// The panel beside a sample. Numbers, words and pictures come from Python; nothing is computed here but what follows the mouse.
import { h, useOpenSample, usePlaceBeside, useState } from "./fiftyone.js";
import { Choices } from "./choices.js";
import { Findings } from "./findings.js";
import { progressText, useJudging } from "./judging.js";
import { Keys, keysOf, useKeys } from "./keys.js";
import { Picture, Seen, pictureOf, picturesOf } from "./picture.js";
import { findingOf, usePortrait } from "./portrait.js";
import { Probes } from "./probes.js";

const STYLES = new URL("panel.css", import.meta.url).href;

const titleOf = ({ run, method, target }) => `${run.split("/").pop()}: ${method}, ${target}`;

function predictionOf({ correct, label, predicted, confidence }) {
  if (correct === null) return `label ${label || "unknown"}`;
  return correct ? `label ${label}, predicted right` : `label ${label}, predicted ${predicted} (${confidence})`;
}

const Head = ({ shown, cue }) => [
  h("div", { key: "head", className: "sl-head" },
    h("b", null, shown.explained),
    h("span", null, `p ${shown.probes[0].text}`),
    h("span", { className: "sl-quiet" }, predictionOf(shown)),
    cue && h("span", { className: "sl-tag", "data-cy": "sightline-cue" }, `cue: ${cue}`)),
  h("p", { key: "words", className: "sl-words", "data-cy": "sightline-words" },
    h("b", null, shown.words.conclusion), " ", shown.words.seen),
];

const Pictures = ({ shown, beside, level, opacity, probe }) => [
  h("div", { key: "pictures", className: beside ? "sl-pair sl-columns" : "sl-columns" },
    [shown, beside].filter(Boolean).map((one, i) =>
      h("div", { key: i },
        beside && h("h3", { style: { marginTop: 0 } }, titleOf(one)),
        h("div", { className: "sl-pictures" }, h(Picture, { shown: one, level, opacity }), !beside && h(Seen, { shown: one, probe })),
        i === 1 && one.digest !== shown.digest && h("p", { role: "alert" }, "the image file differs between the runs")))),
  beside && h("p", { key: "words", "data-cy": "sightline-other-words" },
    h("b", null, titleOf(beside)), `: ${beside.words.conclusion} ${beside.words.seen}`),
];

function Body({ content, finding, choose, setMap, other, setOther, probe, setProbe }) {
  const [level, setLevel] = useState(0.5);
  const [opacity, setOpacity] = useState(0.7);
  const { this: shown, other: asked } = content;
  if (!shown) return null;
  const beside = asked && !asked.problem ? asked : null;
  return [
    h(Head, { key: "head", shown, cue: content.cue_name }),
    h(Pictures, { key: "pictures", shown, beside, level, opacity, probe }),
    asked && asked.problem && h("p", { key: "problem", role: "alert" }, asked.problem),
    h(Choices, { key: "choices", content, shown, level, setLevel, opacity, setOpacity, setMap, other, setOther }),
    h("h3", { key: "probes title" }, `p(${shown.explained}) where the network sees; orange: what hiding takes, or the surroundings alone give`),
    h("div", { key: "probes", className: beside ? "sl-pair" : "" }, h(Probes, { shown, other: beside, probe: (pictureOf(shown, probe) || {}).name, setProbe })),
    h("h3", { key: "findings title" }, "Findings"),
    h(Findings, { key: "findings", content, finding, choose }),
  ];
}

function Judged({ content, finding, wholeCue }) {
  const { findings, progress } = content;
  const place = findings.length > 1 ? `, finding ${findings.indexOf(finding) + 1} of ${findings.length}` : "";
  return h("div", { className: "sl-judging", "data-cy": "sightline-judging", title: finding.reason },
    h("b", null, content.titles[finding.rule] || finding.rule),
    h("span", { className: "sl-quiet" }, ` ${finding.kind}, severity ${finding.severity}${place}`),
    wholeCue && h("b", null, ` on all ${progress.cue} of ${content.cue_name}`),
    h("span", { className: "sl-progress", "data-cy": "sightline-progress", title: "your verdicts on this finding in the view" },
      h("progress", { value: progress.done, max: progress.of }), progressText(progress)));
}

function Note({ note, setNote }) {
  const type = (event) => {
    event.stopPropagation();
    if (event.key === "Escape") setNote(null);
    if (event.key === "Enter") event.target.blur();
  };
  return h("div", { style: { marginBottom: 6 } },
    h("input", { type: "text", style: { width: "100%" }, placeholder: "note for the next verdict, then Enter", autoFocus: true,
      value: note, onChange: (event) => setNote(event.target.value), onKeyDown: type }));
}

function Foot({ content, current, finding, keys, judging }) {
  const { told, note, setNote } = judging;
  return h("div", { className: "sl-foot" },
    h("div", { className: "sl-told", role: "status", "data-cy": "sightline-told", "data-problem": Boolean(told && told.problem) },
      told ? told.text : h("span", { className: "sl-quiet" }, "a key gives the verdict and shows the next sample")),
    finding && h(Judged, { content: current, finding, wholeCue: judging.wholeCue }),
    note !== null && h(Note, { note, setNote }),
    h("div", { className: "sl-keys" },
      h(Keys, { keys }),
      content && content.reviewer && h("span", { className: "sl-quiet" }, `as ${content.reviewer}`)));
}

// A mouse leaves no focus behind: arrows are for the samples again, not for a slider.
function release(event) {
  const { activeElement } = document;
  if (event.detail && activeElement && activeElement.closest(".sl button, .sl input[type=range]")) activeElement.blur();
}

export default function Panel({ panelNode }) {
  usePlaceBeside(panelNode);
  const sample = useOpenSample();
  const [map, setMap] = useState({});
  const [other, setOther] = useState(null);
  const [probe, setProbe] = useState(null);
  const [chosen, choose] = useState(null);
  const [content, refresh] = usePortrait(sample, map, other, chosen);
  const current = content && content.sample === sample ? content : null;
  const finding = findingOf(current, chosen);
  const judging = useJudging(sample, finding, refresh);
  const nextFinding = () => {
    if (!finding) return;
    const { findings } = current;
    choose(findings[(findings.indexOf(finding) + 1) % findings.length].rule);
  };
  const nextPicture = () => {
    const names = picturesOf(current.this).map(({ name }) => name);
    if (names.length) setProbe(names[(names.indexOf(pictureOf(current.this, probe).name) + 1) % names.length]);
  };
  const keys = keysOf({ content, current, finding, judging, nextFinding, nextPicture });
  useKeys(keys, sample);

  const name = current && current.this ? current.this.sample_id : "";
  return h("div", { className: "sl", "data-cy": "sightline-panel", "data-sample": name, onClick: release },
    h("link", { rel: "stylesheet", href: STYLES }),
    h("div", { className: "sl-body", style: current ? null : { opacity: 0.5 } },
      !content && "reading the run ...",
      content && content.problem && h("div", { role: "alert" }, content.problem),
      content && h(Body, { content, finding, choose, setMap, other, setOther, probe, setProbe })),
    h(Foot, { content, current, finding, keys, judging }));
}
