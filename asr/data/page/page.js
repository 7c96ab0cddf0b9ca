// What the page does: a recording from the microphone or a file -> phones, practice, downloads, a look inside the model.

import { toWav } from "./audio.js";
import { byId, element, say } from "./dom.js";
import { draw, playPause } from "./drawing.js";
import { hideInside, showInside } from "./inside.js";
import { startRecording } from "./live.js";
import { showPractice } from "./practice.js";
import { ask, request } from "./requests.js";

const state = { model: null, recording: null, name: "recording", stop: null, busy: false, inside: "" };
const notation = () => byId("notation").value;

// Runs an action that asks the server: what would ask it too waits meanwhile, and the status says what went wrong.
const asking = (action) => async (event) => {
  if (state.busy) return;
  const focused = document.activeElement;
  state.busy = true;
  enable();
  try {
    await action(event);
  } catch (error) {
    say(error.message, true);
  } finally {
    state.busy = false;
    enable();
    if (document.activeElement === document.body) focused.focus();
  }
};

// What asks the server can be used unless the page waits for an answer; while it records, only Stop can.
function enable() {
  for (const control of document.querySelectorAll("[data-asks]")) {
    control.disabled = state.busy || (state.stop !== null && control.id !== "record");
  }
}

// The name of the server's model: a promise, so that a file chosen while the page opens waits for the same answer.
function learnModel() {
  state.model ??= describeModel().catch((error) => {
    state.model = null;
    throw error;
  });
  return state.model;
}

async function describeModel() {
  const [model] = (await (await request("v1/models")).json()).data;
  byId("facts").textContent = `Model ${model.id}, ${model.phones.length} phones`;
  const options = [...byId("notation").options];
  for (const option of options) option.hidden = option.disabled = !model.notations.includes(option.value);
  if (byId("notation").selectedOptions[0].disabled) byId("notation").value = options.find((option) => !option.disabled).value;
  return model.id;
}

// The server's answer about the recording at hand, with phones in the chosen symbols.
async function askAbout(path, fields = {}) {
  const model = await learnModel(); // which knows the symbols that can be chosen
  return ask(path, state.recording, { model, notation: notation(), ...fields });
}

async function record() {
  if (state.stop) return stopRecording();
  state.stop = await startRecording(byId("live").checked ? notation() : null, asking(() => state.stop && stopRecording()));
  byId("record").textContent = "Stop";
  byId("record").classList.add("on");
  say("Recording. Press Stop when you have finished.");
}

async function stopRecording() {
  const { stop } = state;
  state.stop = null;
  byId("record").textContent = "Record";
  byId("record").classList.remove("on");
  const recording = await stop();
  if (!recording) throw new Error("Nothing was recorded: hold on a little longer.");
  await show(recording, "recording");
}

async function showFile(file) {
  if (!file) return;
  byId("heard").hidden = true;
  const name = file.name.replace(/\.[^.]*$/, "");
  try {
    await show(file, name);
  } catch (error) {
    const wav = error.status === 415 ? await toWav(file) : null;
    if (!wav) throw error;
    await show(wav, name);
  }
}

// Recognizes a recording and shows what was found. If that fails, it can be tried again.
async function show(recording, name) {
  Object.assign(state, { recording, name });
  say("Recognizing …");
  byId("result").hidden = byId("practice").hidden = true;
  byId("again").hidden = false;
  hideInside();
  const answer = await (await askAbout("v1/audio/transcriptions", { response_format: "verbose_json" })).json();
  byId("again").hidden = true;
  byId("result").hidden = false;
  byId("unusual").hidden = !answer.unusual;
  const plays = await draw(recording, answer.phones, answer.duration);
  const text = byId("sentence").value.trim();
  if (text) showPractice((await (await askAbout("v1/practice", { text })).json()).words);
  const found = `${answer.phones.length} phones in ${answer.duration.toFixed(2)} s: ${answer.text}`;
  say(plays ? found : `${found} (the browser cannot play this format)`);
}

function save(content, name) {
  const link = element("a", "", { href: URL.createObjectURL(content), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function download({ format, suffix }) {
  const response = await askAbout("v1/audio/transcriptions", { response_format: format });
  save(await response.blob(), `${state.name}.${suffix}`);
}

async function lookInside() {
  say("Looking inside the model. This takes a few seconds for each second of the recording …");
  state.inside = await (await askAbout("v1/explain")).text();
  await showInside(state.inside, state.name);
  say("The page about the inside of the model is below.");
}

byId("record").addEventListener("click", asking(record));
byId("file").addEventListener("change", asking(async ({ target }) => {
  const [file] = target.files;
  target.value = ""; // so that the same file can be chosen again
  await showFile(file);
}));
byId("again").addEventListener("click", asking(() => show(state.recording, state.name)));
byId("notation").addEventListener("change", asking(() => show(state.recording, state.name)));
byId("downloads").addEventListener("click", ({ target }) => target.dataset.format && asking(() => download(target.dataset))());
byId("look-inside").addEventListener("click", asking(lookInside));
byId("save-inside").addEventListener("click", () => save(new Blob([state.inside], { type: "text/html" }), `${state.name}.html`));
byId("close-inside").addEventListener("click", () => {
  hideInside();
  byId("look-inside").focus();
});
byId("play").addEventListener("click", () => playPause().catch((error) => say(error.message, true)));
const drop = byId("drop");
for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
  drop.addEventListener(type, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", type === "dragenter" || type === "dragover");
    if (type === "drop" && !state.stop) asking(() => showFile(event.dataTransfer.files[0]))();
  });
}

learnModel().catch((error) => say(error.message, true));
