// The keys of the panel. Each has one entry in `keysOf`, which is also its button, if it has a label.
import { closeSample, h, isAnnotating, useEffect, useRef } from "./fiftyone.js";

const MENUS = "[data-cy=operators-prompt-modal], .MuiPopover-root, .MuiDialog-root";
const TYPED_INTO = "textarea, select, [contenteditable=true], [role=textbox], input:not([type=range]):not([type=checkbox])";

// key, what it does; label and title of its button, and whether there is anything for it to do.
export function keysOf({ content, current, finding, judging, nextFinding, nextPicture }) {
  const verdicts = (content && content.verdicts) || [];
  return [
    ...verdicts.map(([verdict, says], i) => ({ key: `${i + 1}`, act: () => current && judging.judge(verdict),
      label: verdict.replace("_", " "), title: says, enabled: Boolean(finding), name: `verdict-${verdict}` })),
    { key: "n", act: () => judging.setNote(""), label: "note", title: "a note that goes with the next verdict", enabled: true },
    { key: "f", act: nextFinding, label: "finding", title: "judge the next finding",
      enabled: Boolean(current && current.findings && current.findings.length > 1) },
    { key: "h", act: nextPicture, label: "hidden", title: "the next of the pictures that the network saw", enabled: Boolean(current) },
    { key: "a", act: judging.toggleCue, label: "all of the cue", title: "the next verdict is for the whole cue",
      enabled: Boolean(finding && current && current.cue), pressed: judging.wholeCue, name: "whole-cue" },
    { key: "m", act: judging.more, label: "more like this", title: "all samples with the same cue",
      enabled: Boolean(current && current.cue) },
    { key: "0", act: judging.undo, label: "undo", title: "take the last verdict back", enabled: judging.canUndo },
    // FiftyOne itself hears Escape only while the mouse is over the image.
    { key: "Escape", act: closeSample },
  ];
}

export const Keys = ({ keys }) =>
  keys.filter(({ label }) => label).map(({ key, act, label, title, enabled, pressed, name }) =>
    h("button", { key, title, disabled: !enabled, "aria-pressed": pressed, onClick: act, "data-cy": name && `sightline-${name}` },
      h("kbd", null, key), label));

const isTyping = (element) => element instanceof Element && element.closest(TYPED_INTO);

export function useKeys(keys, sample) {
  const handle = useRef(null);
  handle.current = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || isTyping(event.target)) return;
    if (!sample || isAnnotating() || document.querySelector(MENUS)) return;
    const pressed = keys.find(({ key }) => key === event.key);
    if (!pressed) return;
    event.preventDefault();
    event.stopPropagation();
    pressed.act();
  };
  useEffect(() => {
    const listen = (event) => handle.current(event);
    document.addEventListener("keydown", listen, true);
    return () => document.removeEventListener("keydown", listen, true);
  }, []);
}
