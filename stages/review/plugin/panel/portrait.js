// Numbers, words and pictures of a sample, as the operator `portrait` gives them (review/panel/portrait.py).
import { ask, useEffect, useRef, useState } from "./fiftyone.js";

// `shown` is the last portrait that arrived; while the next sample's is read, it is the one before, whose `sample` differs.
export function usePortrait(sample, map, other, rule) {
  const [shown, setShown] = useState(null);
  const [version, setVersion] = useState(0);
  const latest = useRef(0);
  useEffect(() => {
    if (!sample) return;
    const number = (latest.current += 1);
    const show = (portrait) => number === latest.current && setShown({ ...portrait, sample });
    ask("portrait", { sample, ...map, other, rule }).then(show, (error) => show({ problem: error.message }));
  }, [sample, map, other, rule, version]);
  return [shown, () => setVersion((before) => before + 1)];
}

// The finding that a verdict is about: the one that was chosen before, on whichever sample; else that of the view or the
// worst, as the operator says.
export function findingOf(current, chosen) {
  const findings = (current && current.findings) || [];
  return findings.find(({ rule }) => rule === chosen) || findings.find(({ rule }) => rule === current.rule) || null;
}
