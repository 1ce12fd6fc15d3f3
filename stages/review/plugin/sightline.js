// Sightline's panel in the sample modal. FiftyOne loads this file as a classic script; the panel itself is the module
// panel/panel.js, which the browser loads when the panel is first shown.
(() => {
  const { createElement: h, lazy, Suspense } = window.React;
  const { executeOperator } = window.__foo__;
  const { PluginComponentType, registerComponent } = window.__fop__;

  // FiftyOne shows a pop-up about its paid edition until this says that it was seen.
  localStorage.setItem("fiftyone-enterprise-tooltip-seen", "true");

  const NAME = "sightline";
  const Panel = lazy(() => import("./panel/panel.js"));

  registerComponent({
    name: NAME,
    label: "Sightline",
    component: (props) => h(Suspense, { fallback: "reading the panel ..." }, h(Panel, props)),
    type: PluginComponentType.Panel,
    activator: () => true,
    panelOptions: { surfaces: "modal", helpMarkdown: "The exact map, the probes and verdicts from the keyboard." },
  });

  // FiftyOne offers modal panels as tabs behind the sample. Once a page, this panel is opened; it then puts itself
  // beside the sample.
  const observer = new MutationObserver(() => {
    if (!document.querySelector(`[data-cy=modal] [data-cy=panel-tab-${NAME}]`)) return;
    observer.disconnect();
    executeOperator("open_panel", { name: NAME, isActive: true });
  });
  observer.observe(document.body, { childList: true, subtree: true });
})();
