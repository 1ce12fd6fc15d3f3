// Numbers, words and pictures of a sample, as the operator `portrait` gives them (review/panel/portrait.py).
import { ask, useEffect, useRef, useState } from "./fiftyone.js";

// `shown` is the last portrait that arrived; while the next sample's is read, it is the one before, whose `sample` differs.
export function usePortrait(sample, map, other) {
  const [shown, setShown] = useState(null);
  const [version, setVersion] = useState(0);
  const latest = useRef(0);
  useEffect(() => {
    if (!sample) return;
    const number = (latest.current += 1);
    const show = (portrait) => number === latest.current && setShown({ ...portrait, sample });
    ask("portrait", { sample, ...map, other }).then(show, (error) => show({ problem: error.message }));
  }, [sample, map, other, version]);
  return [shown, () => setVersion((before) => before + 1)];
}

// The finding that a verdict is about: the worst one of the sample, until another one is chosen.
export function useFinding(sample, current) {
  const [chosen, choose] = useState(null);
  useEffect(() => choose(null), [sample]);
  const findings = (current && current.findings) || [];
  return [findings.find(({ rule }) => rule === chosen) || findings[0] || null, choose];
}
