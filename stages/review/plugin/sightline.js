// Sightline's panel in the sample modal. FiftyOne loads this file as it is; React and FiftyOne's own modules are globals.
// Numbers, words and pictures come from Python (operator `portrait`); nothing is computed here but what follows the mouse.
(() => {
  const { createElement: h, useEffect, useRef, useState } = window.React;
  const { executeOperator } = window.__foo__;
  const { jotaiStore, modalMode, nullableModalSampleId } = window.__fos__;
  const { PluginComponentType, registerComponent } = window.__fop__;
  const { Layout, useSpaces } = window.__fosp__;
  const { useRecoilValue } = window.recoil;

  const PANEL = "sightline";
  const MODAL_SPACES = "fiftyone-modal-spaces";
  const VERDICTS = [
    ["1", "confirmed", "the model is at fault"],
    ["2", "false_alarm", "nothing is wrong"],
    ["3", "fix_box", "a box is wrong or missing"],
    ["4", "fix_label", "the label is wrong"],
    ["5", "unsure", "cannot tell"],
  ];

  const ask = (operator, params) =>
    new Promise((resolve, reject) =>
      executeOperator(`@sightline/review/${operator}`, { ...params, from_panel: true }, {
        callback: ({ result, error, errorMessage }) => (error ? reject(Error(errorMessage || error)) : resolve(result || {})),
      }),
    );

  const STYLE = `
    .sl { height: 100%; display: flex; flex-direction: column; color: var(--fo-palette-text-primary); font-size: 13px;
      line-height: 1.4; background: var(--fo-palette-background-level2); }
    .sl { --sl-high: 236px; }
    .sl-pair { --sl-high: 190px; }
    .sl * { box-sizing: border-box; }
    .sl-body { flex: 1; min-height: 0; overflow-y: auto; padding: 10px 14px 14px; }
    .sl-quiet { color: var(--fo-palette-text-secondary); }
    .sl-head { display: flex; flex-wrap: wrap; gap: 4px 10px; align-items: center; }
    .sl-head b { font-size: 15px; }
    .sl-words { font-size: 15px; line-height: 1.45; margin: 8px 0 12px; padding-left: 10px; border-left: 3px solid #ff6d04; }
    .sl-columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(0, 1fr)); gap: 14px; }
    .sl-pictures { display: flex; gap: 12px; align-items: flex-start; }
    .sl figure { margin: 0; min-width: 0; }
    .sl figcaption { margin-top: 3px; font-size: 12px; color: var(--fo-palette-text-secondary); }
    .sl-picture { position: relative; overflow: hidden; background: #000; border-radius: 3px; }
    .sl-picture img, .sl-picture svg { position: absolute; inset: 0; width: 100%; height: 100%; }
    .sl-picture svg * { fill: none; vector-effect: non-scaling-stroke; }
    .sl-seen { width: 100%; display: block; border-radius: 3px; }
    .sl-controls { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 10px 0 4px; align-items: center;
      padding-right: 44px; }
    .sl-controls label { display: flex; gap: 6px; align-items: center; white-space: nowrap; }
    .sl input[type=range] { width: 92px; accent-color: #ff6d04; }
    .sl select, .sl input[type=text], .sl button { font: inherit; color: inherit; padding: 2px 6px; border-radius: 4px;
      background: var(--fo-palette-background-level1); border: 1px solid var(--fo-palette-divider); max-width: 100%; }
    .sl button { cursor: pointer; }
    .sl button:hover, .sl button:focus-visible { border-color: #ff6d04; }
    .sl button:disabled { opacity: .45; cursor: default; }
    .sl h3 { font-size: 12px; font-weight: 600; margin: 14px 0 4px; color: var(--fo-palette-text-secondary); }
    .sl-bars { display: grid; grid-template-columns: max-content minmax(2.4em, max-content) minmax(60px, 1fr);
      gap: 2px 10px; align-items: center; }
    .sl-bars .sl-bar-name { background: none; border: 0; padding: 1px 4px 1px 0; text-align: left; white-space: nowrap; }
    .sl-bars .sl-bar-name[aria-pressed=true] { color: #ff8a33; font-weight: 600; }
    .sl-bar { height: 12px; border-radius: 2px; background: var(--fo-palette-background-level1); }
    .sl-bar div { height: 100%; border-radius: 2px; background: #6f8fd6; min-width: 1px; }
    .sl-bar[data-hides] div { background: #ff6d04; }
    .sl-bar[data-other] div { opacity: .55; }
    .sl-pair .sl-bar { height: 7px; }
    .sl-values { font-variant-numeric: tabular-nums; text-align: right; }
    .sl-finding { display: flex; gap: 8px; padding: 5px 8px; margin: 3px 0; border-radius: 4px; cursor: pointer;
      border: 1px solid transparent; background: var(--fo-palette-background-level1); }
    .sl-finding[aria-checked=true] { border-color: #ff6d04; }
    .sl-tag { display: inline-block; padding: 0 6px; border-radius: 9px; font-size: 12px;
      background: var(--fo-palette-background-level3); margin-right: 4px; }
    .sl-foot { border-top: 1px solid var(--fo-palette-divider); padding: 7px 14px 8px; background: var(--fo-palette-background-level1); }
    .sl-keys { display: flex; flex-wrap: wrap; gap: 5px; align-items: center; }
    .sl-keys kbd { font: 600 12px ui-monospace, monospace; padding: 0 5px; margin-right: 4px; border-radius: 3px;
      background: var(--fo-palette-background-level3); }
    .sl-judging { margin-bottom: 5px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
    .sl-told { min-height: 18px; margin-bottom: 5px; font-size: 12px; }
    .sl-told[data-problem=true] { color: #ff8d80; }
  `;

  // Values of the map under the mouse: the floats of the store, not the colours of the picture.
  const decode = (map) => new Float32Array(Uint8Array.from(atob(map.float32), (c) => c.charCodeAt(0)).buffer);

  function valueAt(shown, floats, x, y) {
    const { width, height, scale, offset } = shown.map;
    const column = Math.floor(x * scale[0] + offset[0]);
    const row = Math.floor(y * scale[1] + offset[1]);
    const inside = column >= 0 && row >= 0 && column < width && row < height;
    return inside ? floats[row * width + column] : null;
  }

  const rectangle = ([x0, y0, x1, y1], props) => h("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, ...props });

  function Picture({ shown, level, opacity }) {
    const [under, setUnder] = useState(null);
    const floats = useRef(null);
    useEffect(() => {
      floats.current = shown.map ? decode(shown.map) : null;
      setUnder(null);
    }, [shown]);
    const { width, height } = shown;
    const [left, top, right, bottom] = shown.view_box;
    const index = shown.levels.indexOf(level);
    const move = (event) => {
      const box = event.currentTarget.getBoundingClientRect();
      const x = ((event.clientX - box.x) / box.width) * width;
      const y = ((event.clientY - box.y) / box.height) * height;
      const value = floats.current && valueAt(shown, floats.current, x, y);
      setUnder(value === null ? null : { x: Math.floor(x), y: Math.floor(y), value });
    };
    const line = shown.contours && shown.contours[index];
    return h("figure", { style: { flex: `0 1 calc(var(--sl-high) * ${width / height})` } },
      h("div", { className: "sl-picture", "data-cy": "sightline-picture", style: { aspectRatio: `${width} / ${height}` },
          onMouseMove: move, onMouseLeave: () => setUnder(null) },
        shown.image && h("img", { src: shown.image, alt: shown.sample_id }),
        shown.heat && h("img", { src: shown.heat, alt: "", style: { opacity } }),
        h("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none" },
          // What a crop kept from the network.
          h("path", { d: `M0 0H${width}V${height}H0ZM${left} ${top}V${bottom}H${right}V${top}Z`,
            style: { fill: "#000a", fillRule: "evenodd" } }),
          line && h("path", { d: line, stroke: "#000", strokeWidth: 3 }),
          line && h("path", { d: line, stroke: "#fff", strokeWidth: 1.4 }),
          shown.boxes.map((box, i) => rectangle(box, { key: `halo${i}`, stroke: "#000", strokeWidth: 4 })),
          shown.boxes.map((box, i) => rectangle(box, { key: i, stroke: "#2ab8ff", strokeWidth: 2 })),
          shown.hidden_box && rectangle(shown.hidden_box, { stroke: "#000", strokeWidth: 4 }),
          shown.hidden_box && rectangle(shown.hidden_box, { stroke: "#ff6d04", strokeWidth: 2, strokeDasharray: "5 4" }))),
      h("figcaption", { "data-cy": "sightline-caption" },
        shown.problem || (under
          ? `S = ${under.value.toFixed(6)} at (${under.x}, ${under.y})`
          : shown.contours
            ? `white: S = ${level.toFixed(2)}, ${(100 * shown.shares[index]).toFixed(0)}% of the view; blue: boxes` +
              (shown.hidden_box ? "; dashed: hidden" : "")
            : `no map: ${shown.reason || shown.status}`)));
  }

  function Seen({ shown, probe }) {
    const chosen = shown.probes.find(({ name }) => name === probe);
    const picture = chosen && chosen.picture;
    if (!picture) return null;
    return h("figure", { style: { flex: "0 1 var(--sl-high)" } },
      h("img", { className: "sl-seen", src: picture, alt: `what the network saw: ${chosen.label}` }),
      h("figcaption", null, `the network saw: ${chosen.label}, p ${chosen.text}`));
  }

  function Bars({ shown, other, probe, setProbe }) {
    return h("div", { className: "sl-bars", role: "group", "aria-label": `p(${shown.explained})` },
      shown.probes.map(({ name, label, value, text, picture }, i) => {
        const second = other && other.probes[i];
        const hides = name.startsWith("p_hide") ? "" : undefined;
        const bar = (of, props) => h("div", { className: "sl-bar", "data-hides": hides, ...props },
          h("div", { style: { width: `${100 * (of || 0)}%` } }));
        return [
          h("button", { key: `${name} name`, className: "sl-bar-name", disabled: !picture, "aria-pressed": probe === name,
            title: picture ? "show what the network saw" : "this picture is not stored", onClick: () => setProbe(name) }, label),
          h("div", { key: `${name} value`, className: "sl-values", "data-cy": `sightline-${name}`,
              "data-value": value, "data-other": other ? second.value : undefined },
            text, other && h("span", { className: "sl-quiet" }, ` ${second.text}`)),
          h("div", { key: `${name} bar` }, bar(value), other && bar(second.value, { "data-other": "", style: { marginTop: 1 } })),
        ];
      }));
  }

  function Select({ label, value, options, onChange, name }) {
    return h("label", null, label,
      h("select", { value, "data-cy": `sightline-${name}`, onChange: (event) => {
        event.target.blur();
        onChange(event.target.value);
      } },
        options.map(([key, text]) => h("option", { key, value: key }, text))));
  }

  const pairs = (choices) => choices.map(({ method, target }) => [`${method}/${target}`, `${method}, ${target}`]);

  function Compare({ content, other, setOther }) {
    const [typing, setTyping] = useState(false);
    const chosen = other ? other.run : "";
    const known = Object.entries(content.runs).map(([name, run]) => [run, name === content.name ? `${name} (this run)` : name]);
    if (chosen && !known.some(([run]) => run === chosen)) known.push([chosen, chosen.split("/").pop()]);
    const pick = (run) => {
      setTyping(run === "path");
      if (run !== "path") setOther(run ? { run } : null);
    };
    const offered = content.other && content.other.choices;
    return [
      h(Select, { key: "run", name: "other-run", label: "compare with", value: typing ? "path" : chosen, onChange: pick,
        options: [["", "nothing"], ...known, ["path", "a run's path ..."]] }),
      typing && h("input", { key: "path", type: "text", placeholder: "path of a run, then Enter", autoFocus: true,
        onKeyDown: (event) => {
          if (event.key === "Enter" && event.target.value.trim()) {
            setOther({ run: event.target.value.trim() });
            setTyping(false);
          }
        } }),
      offered && offered.length > 0 && h(Select, { key: "map", name: "other-map", label: "", options: pairs(offered),
        value: `${content.other.method}/${content.other.target}`,
        onChange: (value) => setOther({ run: chosen, method: value.split("/")[0], target: value.split("/")[1] }) }),
    ];
  }

  function Findings({ content, rule, setRule }) {
    if (!content.findings.length) return h("div", { className: "sl-quiet" }, "no rule found anything here");
    return content.findings.map((finding) =>
      h("div", { key: finding.rule, className: "sl-finding", role: "radio", "aria-checked": finding.rule === rule,
          "data-cy": `sightline-finding-${finding.rule}`, onClick: () => setRule(finding.rule) },
        h("div", null,
          h("b", null, content.titles[finding.rule] || finding.rule), " ",
          h("span", { className: "sl-quiet" }, `${finding.kind}, severity ${finding.severity}`),
          h("div", null, finding.reason),
          finding.verdicts.map((said) => h("span", { key: said.reviewer, className: "sl-tag" },
            `${said.reviewer}: ${said.verdict}${said.label ? ` (${said.label})` : ""}${said.note ? `, ${said.note}` : ""}`)))));
  }

  const titleOf = ({ run, method, target }) => `${run.split("/").pop()}: ${method}, ${target}`;

  const isTyping = (element) =>
    element instanceof Element &&
    element.closest("textarea, select, [contenteditable=true], [role=textbox], input:not([type=range]):not([type=checkbox])");

  // FiftyOne's own key for the next sample, so that its order and its page loading hold.
  const nextSample = () => document.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));

  // What was judged on this page, for undo; it outlives the closing of a sample.
  const judged = [];

  let placed = false;

  function usePlaceBeside(node) {
    const { spaces } = useSpaces(MODAL_SPACES);
    useEffect(() => {
      const tabs = node && node.parent;
      if (placed || !tabs) return;
      placed = true;
      if (spaces.canSplitLayout(tabs)) spaces.splitLayout(tabs, Layout.Horizontal, node);
    }, []);
  }

  function Panel({ panelNode }) {
    usePlaceBeside(panelNode);
    const sample = useRecoilValue(nullableModalSampleId);
    const [content, setContent] = useState(null);
    const [map, setMap] = useState({});
    const [other, setOther] = useState(null);
    const [level, setLevel] = useState(0.5);
    const [opacity, setOpacity] = useState(0.7);
    const [probe, setProbe] = useState("p_saliency");
    const [rule, setRule] = useState(null);
    const [told, setTold] = useState(null);
    const [note, setNote] = useState(null);
    const [version, setVersion] = useState(0);
    const busy = useRef(false);
    const latest = useRef(0);

    useEffect(() => {
      if (!sample) return;
      const number = (latest.current += 1);
      ask("portrait", { sample, ...map, other }).then(
        (found) => {
          if (number !== latest.current) return;
          setContent({ ...found, sample });
          setRule((before) => {
            const rules = (found.findings || []).map((finding) => finding.rule);
            return content && content.sample === sample && rules.includes(before) ? before : rules[0] || null;
          });
        },
        (error) => number === latest.current && setContent({ sample, problem: error.message }),
      );
    }, [sample, map, other, version]);

    const current = content && content.sample === sample ? content : null;

    const tell = (text, problem = false) => setTold({ text, problem });
    const guarded = async (work) => {
      if (busy.current) return;
      busy.current = true;
      try {
        await work();
      } catch (error) {
        tell(error.message, true);
      }
      busy.current = false;
    };
    const judge = (verdict) =>
      guarded(async () => {
        if (!rule) return tell("no rule found anything here: there is nothing to judge", true);
        const found = await ask("judge", { sample, verdict, rule, note: note || undefined });
        if (found.problem) return tell(found.problem, true);
        const { review } = found;
        judged.push(found);
        setNote(null);
        tell(`${review.verdict} on ${review.sample_id}, ${review.rule}, by ${review.reviewer}${review.note ? `: ${review.note}` : ""}`);
        setVersion((before) => before + 1);
        nextSample();
      });
    const undo = () =>
      guarded(async () => {
        if (!judged.length) return tell("nothing to undo", true);
        const last = judged.pop();
        const found = await ask("take_back", { judged: last });
        if (found.problem) return tell(found.problem, true);
        tell(`taken back: ${last.review.verdict} on ${last.review.sample_id}`);
        setVersion((before) => before + 1);
      });
    const more = () => guarded(async () => {
      const found = await ask("more_like_this", { sample });
      if (found.problem) tell(found.problem, true);
    });
    const nextFinding = () => {
      const rules = current ? current.findings.map((finding) => finding.rule) : [];
      if (rules.length) setRule(rules[(rules.indexOf(rule) + 1) % rules.length]);
    };

    // FiftyOne itself hears Escape only while the mouse is over the image.
    const close = () => executeOperator("close_sample");
    const keys = { n: () => setNote(""), f: nextFinding, m: more, 0: undo, Escape: close };
    VERDICTS.forEach(([key, verdict]) => (keys[key] = () => current && judge(verdict)));
    const handle = useRef(null);
    handle.current = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || isTyping(event.target)) return;
      if (document.querySelector("[data-cy=operators-prompt-modal], .MuiPopover-root, .MuiDialog-root")) return;
      const action = keys[event.key];
      if (!action || !sample || jotaiStore.get(modalMode) === "annotate") return;
      event.preventDefault();
      event.stopPropagation();
      action();
    };
    useEffect(() => {
      const listen = (event) => handle.current(event);
      document.addEventListener("keydown", listen, true);
      return () => document.removeEventListener("keydown", listen, true);
    }, []);

    // A mouse leaves no focus behind: arrows are for the samples again, not for a slider.
    const release = (event) => {
      const { activeElement } = document;
      if (event.detail && activeElement && activeElement.closest(".sl button, .sl input[type=range]")) activeElement.blur();
    };

    const shown = content && content.this;
    const finding = current && (current.findings || []).find((one) => one.rule === rule);
    const beside = content && content.other && !content.other.problem ? content.other : null;
    const name = current && shown ? shown.sample_id : "";
    return h("div", { className: "sl", "data-cy": "sightline-panel", "data-sample": name, onClick: release },
      h("style", null, STYLE),
      h("div", { className: "sl-body", style: current ? null : { opacity: 0.5 } },
        !content && "reading the run ...",
        content && content.problem && h("div", { role: "alert" }, content.problem),
        shown && h("div", { className: "sl-head" },
          h("b", null, shown.explained),
          h("span", null, `p ${shown.probes[0].text}`),
          h("span", { className: "sl-quiet" }, shown.correct === null
            ? `label ${shown.label || "unknown"}`
            : shown.correct
              ? `label ${shown.label}, predicted right`
              : `label ${shown.label}, predicted ${shown.predicted} (${shown.confidence})`)),
        shown && h("p", { className: "sl-words", "data-cy": "sightline-words" },
          h("b", null, shown.words.conclusion), " ", shown.words.seen),
        shown && h("div", { className: beside ? "sl-pair sl-columns" : "sl-columns" },
          [shown, beside].filter(Boolean).map((one, i) =>
            h("div", { key: i },
              beside && h("h3", { style: { marginTop: 0 } }, titleOf(one)),
              h("div", { className: "sl-pictures" }, h(Picture, { shown: one, level, opacity }), !beside && h(Seen, { shown: one, probe })),
              i === 1 && one.digest !== shown.digest && h("p", { role: "alert" }, "the image file differs between the runs")))),
        beside && h("p", { "data-cy": "sightline-other-words" },
          h("b", null, titleOf(beside)), `: ${beside.words.conclusion} ${beside.words.seen}`),
        content && content.other && content.other.problem && h("p", { role: "alert" }, content.other.problem),
        shown && h("div", { className: "sl-controls" },
          h("label", null, "contour", h("input", { type: "range", min: 0, max: shown.levels.length - 1, "data-cy": "sightline-level",
            value: shown.levels.indexOf(level), onChange: (event) => setLevel(shown.levels[event.target.value]) }), level.toFixed(2)),
          h("label", null, "map", h("input", { type: "range", min: 0, max: 1, step: 0.05, value: opacity,
            onChange: (event) => setOpacity(Number(event.target.value)) })),
          h(Select, { name: "map", label: "of", value: `${shown.method}/${shown.target}`, options: pairs(content.choices),
            onChange: (value) => setMap({ method: value.split("/")[0], target: value.split("/")[1] }) }),
          h(Compare, { content, other, setOther })),
        shown && h("h3", null, `What p(${shown.explained}) is where the network sees`),
        shown && h("div", { className: beside ? "sl-pair" : "" }, h(Bars, { shown, other: beside, probe, setProbe })),
        shown && h("h3", null, "Findings"),
        shown && h(Findings, { content, rule, setRule })),
      h("div", { className: "sl-foot" },
        h("div", { className: "sl-told", role: "status", "data-cy": "sightline-told", "data-problem": Boolean(told && told.problem) },
          told ? told.text : h("span", { className: "sl-quiet" }, "a key gives the verdict and shows the next sample")),
        finding && h("div", { className: "sl-judging", "data-cy": "sightline-judging", title: finding.reason },
          h("b", null, content.titles[rule] || rule), h("span", { className: "sl-quiet" },
            ` ${finding.kind}, severity ${finding.severity}` +
            (current.findings.length > 1 ? `, finding ${current.findings.indexOf(finding) + 1} of ${current.findings.length}` : ""))),
        note !== null && h("div", { style: { marginBottom: 6 } },
          h("input", { type: "text", style: { width: "100%" }, placeholder: "note for the next verdict, then Enter", autoFocus: true,
            value: note, onChange: (event) => setNote(event.target.value),
            onKeyDown: (event) => {
              event.stopPropagation();
              if (event.key === "Escape") setNote(null);
              if (event.key === "Enter") event.target.blur();
            } })),
        h("div", { className: "sl-keys" },
          VERDICTS.map(([key, verdict, says]) =>
            h("button", { key, title: says, disabled: !current || !rule, "data-cy": `sightline-verdict-${verdict}`, onClick: () => judge(verdict) },
              h("kbd", null, key), verdict.replace("_", " "))),
          h("button", { onClick: keys.n, title: "a note that goes with the next verdict" }, h("kbd", null, "n"), "note"),
          h("button", { onClick: nextFinding, disabled: !current || current.findings.length < 2, title: "judge the next finding" }, h("kbd", null, "f"), "finding"),
          h("button", { onClick: more, disabled: !current || !current.cue, title: "all samples with the same cue" }, h("kbd", null, "m"), "more like this"),
          h("button", { onClick: undo, disabled: !judged.length }, h("kbd", null, "0"), "undo"),
          content && content.reviewer && h("span", { className: "sl-quiet" }, `as ${content.reviewer}`))));
  }

  registerComponent({
    name: PANEL,
    label: "Sightline",
    component: Panel,
    type: PluginComponentType.Panel,
    activator: () => true,
    panelOptions: { surfaces: "modal", helpMarkdown: "The exact map, the probes and verdicts from the keyboard." },
  });

  // FiftyOne offers modal panels as tabs behind the sample. Once a page, ours is brought out, and then put beside it.
  const observer = new MutationObserver(() => {
    if (!document.querySelector("[data-cy=modal] [data-cy=panel-tab-sightline]")) return;
    observer.disconnect();
    executeOperator("open_panel", { name: PANEL, isActive: true });
  });
  observer.observe(document.body, { childList: true, subtree: true });
})();
