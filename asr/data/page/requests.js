// Requests to the server, with its API key if it wants one, and its errors as messages.

import { byId } from "./dom.js";

const STORED_KEY = "asr.key";
let key = null;

// The key that the server has asked for; null if it has not.
export const apiKey = () => key;

// Sends a request and returns the response. An error has the server's message, and its status if it answered.
export async function request(path, options = {}) {
  for (;;) {
    const headers = key === null ? {} : { Authorization: `Bearer ${key}` };
    const response = await fetch(path, { ...options, headers }).catch(() => null);
    if (!response) throw new Error("The server does not answer. Is it still running?");
    if (response.ok) return response;
    if (response.status !== 401) throw await failure(response);
    key = await nextKey();
  }
}

// Sends a recording (a Blob) with further fields.
export function ask(path, recording, fields) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append("file", recording, "recording.wav");
  return request(path, { method: "POST", body: form });
}

async function failure(response) {
  const answer = await response.json().catch(() => null);
  const error = new Error(answer?.error?.message ?? `The server answered ${response.status}.`);
  return Object.assign(error, { status: response.status });
}

// After a refusal: the key of this tab's session, or if that is refused too, one that is typed in.
async function nextKey() {
  const stored = sessionStorage.getItem(STORED_KEY);
  if (stored !== null && stored !== key) return stored;
  const typed = await askForKey(key !== null);
  sessionStorage.setItem(STORED_KEY, typed);
  return typed;
}

function askForKey(wrong) {
  const dialog = byId("key-dialog");
  byId("key-wrong").hidden = !wrong;
  byId("key").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve, reject) => {
    dialog.addEventListener(
      "close",
      () => (dialog.returnValue === "use" ? resolve(byId("key").value.trim()) : reject(new Error("The server needs an API key."))),
      { once: true },
    );
  });
}
