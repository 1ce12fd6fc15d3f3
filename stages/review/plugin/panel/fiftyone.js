// React and FiftyOne's own modules are globals of the App's page; every other module takes them from here.
export const { createElement: h, useEffect, useRef, useState } = window.React;
export const { executeOperator } = window.__foo__;
const { jotaiStore, modalMode, nullableModalSampleId } = window.__fos__;
const { Layout, useSpaces } = window.__fosp__;
const { useRecoilValue } = window.recoil;

const MODAL_SPACES = "fiftyone-modal-spaces";

// Calls one of Sightline's operators (plugin/operators.py); rejects with its error.
export const ask = (operator, params) =>
  new Promise((resolve, reject) =>
    executeOperator(`@sightline/review/${operator}`, { ...params, from_panel: true }, {
      callback: ({ result, error, errorMessage }) => (error ? reject(Error(errorMessage || error)) : resolve(result || {})),
    }),
  );

// FiftyOne's id of the open sample, or null.
export const useOpenSample = () => useRecoilValue(nullableModalSampleId);

export const isAnnotating = () => jotaiStore.get(modalMode) === "annotate";

export const closeSample = () => executeOperator("close_sample");

// FiftyOne's own key for the next sample, so that its order and its page loading hold.
export const openNextSample = () => document.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));

let placed = false;

// Moves the panel from its tab to the side of the sample, once a page: after that the place is the user's choice.
export function usePlaceBeside(node) {
  const { spaces } = useSpaces(MODAL_SPACES);
  useEffect(() => {
    const tabs = node && node.parent;
    if (placed || !tabs) return;
    placed = true;
    if (spaces.canSplitLayout(tabs)) spaces.splitLayout(tabs, Layout.Horizontal, node);
  }, []);
}
