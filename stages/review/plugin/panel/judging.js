// Verdicts on the open sample: given, taken back, told.
import { ask, openNextSample, useRef, useState } from "./fiftyone.js";

// What was judged on this page, for undo; it outlives the closing of a sample.
const judged = [];

export function useJudging(sample, finding, refresh) {
  const [told, setTold] = useState(null);
  const [note, setNote] = useState(null);
  const busy = useRef(false);

  const tell = (text) => setTold({ text });
  // One operation at a time; what an operator answers as its problem is told, and ends the work.
  const guarded = (work) => async () => {
    if (busy.current) return;
    busy.current = true;
    try {
      await work(async (operator, params) => {
        const found = await ask(operator, params);
        if (found.problem) throw Error(found.problem);
        return found;
      });
    } catch (error) {
      setTold({ text: error.message, problem: true });
    }
    busy.current = false;
  };

  const judge = (verdict) => guarded(async (call) => {
    if (!finding) throw Error("no rule found anything here: there is nothing to judge");
    const found = await call("judge", { sample, verdict, rule: finding.rule, note: note || undefined });
    const { review } = found;
    judged.push(found);
    setNote(null);
    tell(`${review.verdict} on ${review.sample_id}, ${review.rule}, by ${review.reviewer}${review.note ? `: ${review.note}` : ""}`);
    refresh();
    openNextSample();
  })();
  const undo = guarded(async (call) => {
    if (!judged.length) throw Error("nothing to undo");
    const last = judged.pop();
    await call("take_back", { judged: last });
    tell(`taken back: ${last.review.verdict} on ${last.review.sample_id}`);
    refresh();
  });
  const more = guarded((call) => call("more_like_this", { sample }));

  return { told, note, setNote, judge, undo, more, canUndo: judged.length > 0 };
}
