// What the audit's rules found on the sample, and what reviewers said of it.
import { h } from "./fiftyone.js";

const said = ({ reviewer, verdict, label, note }) =>
  h("span", { key: reviewer, className: "sl-tag" }, `${reviewer}: ${verdict}${label ? ` (${label})` : ""}${note ? `, ${note}` : ""}`);

export function Findings({ content, finding, choose }) {
  if (!content.findings.length) return h("div", { className: "sl-quiet" }, "no rule found anything here");
  return content.findings.map((one) =>
    h("div", { key: one.rule, className: "sl-finding", role: "radio", "aria-checked": one === finding,
        "data-cy": `sightline-finding-${one.rule}`, onClick: () => choose(one.rule) },
      h("div", null,
        h("b", null, content.titles[one.rule] || one.rule), " ",
        h("span", { className: "sl-quiet" }, `${one.kind}, severity ${one.severity}`),
        h("div", null, one.reason),
        one.verdicts.map(said))));
}
