// Verdicts on the open sample: given, taken back, told.
import { ask, openNextSample, useRef, useState } from "./fiftyone.js";

// What was judged on this page, for undo: a list for each key; and when. Both outlive the closing of a sample.
const judged = [];
const times = [];

const PAUSE_MS = 120_000;

// Minutes that so many samples take at the pace of the last verdicts, without pauses; null before there is a pace.
function minutesFor(samples) {
  const gaps = times.slice(1).map((time, i) => time - times[i]).filter((gap) => gap < PAUSE_MS).slice(-10);
  if (gaps.length < 2) return null;
  return (samples * gaps.reduce((sum, gap) => sum + gap, 0)) / gaps.length / 60_000;
}

// "12 of 39, 4 minutes left": the reviewer's own verdicts on a rule in the view.
export function progressText({ done, of }) {
  const minutes = done < of ? minutesFor(of - done) : null;
  const left = minutes === null ? "" : minutes < 1 ? ", less than a minute left" : `, ${Math.round(minutes)} min left`;
  return `${done} of ${of}${left}`;
}

const samplesOf = (list) => (list.length === 1 ? list[0].review.sample_id : `${list.length} samples`);

export function useJudging(sample, finding, refresh) {
  const [told, setTold] = useState(null);
  const [note, setNote] = useState(null);
  const [wholeCue, setWholeCue] = useState(false);
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
    const found = await call("judge", { sample, verdict, rule: finding.rule, note: note || undefined, whole_cue: wholeCue });
    judged.push(found.judged);
    times.push(Date.now());
    setNote(null);
    setWholeCue(false);
    const { review } = found.judged[0];
    tell(`${review.verdict} on ${samplesOf(found.judged)}, ${review.rule}, by ${review.reviewer}${review.note ? `: ${review.note}` : ""}`);
    refresh();
    openNextSample();
  })();
  const undo = guarded(async (call) => {
    if (!judged.length) throw Error("nothing to undo");
    const last = judged.pop();
    await call("take_back", { judged: last });
    tell(`taken back: ${last[0].review.verdict} on ${samplesOf(last)}`);
    refresh();
  });
  const toggleCue = () => setWholeCue((before) => !before);
  const more = guarded((call) => call("more_like_this", { sample }));

  return { told, note, setNote, wholeCue, toggleCue, judge, undo, more, canUndo: judged.length > 0 };
}
