// The page that looks inside the model. It has scripts of its own, so it runs in a frame without network and apart from this page.

import { byId, element } from "./dom.js";

export function hideInside() {
  byId("inside").hidden = true;
  byId("inside-page").replaceChildren();
}

// Shows a page (HTML as text) about the recording of this name; returns once its frame has it.
export function showInside(page, name) {
  const frame = element("iframe", "", { title: `Inside the model: ${name}`, src: "inside" });
  frame.sandbox.add("allow-scripts");
  byId("inside").hidden = false;
  return new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error("The page cannot be shown here, but it can be saved.")), 10_000);
    addEventListener("message", function hand({ source }) {
      if (source !== frame.contentWindow) return;
      removeEventListener("message", hand);
      source.postMessage(page, "*");
      resolve();
    });
    byId("inside-page").replaceChildren(frame);
    byId("inside-title").focus();
  });
}
