import Spectrogram from "./vendor/spectrogram.esm.js";
import Timeline from "./vendor/timeline.esm.js";
import WaveSurfer from "./vendor/wavesurfer.esm.js";

const byId = (id) => document.getElementById(id);
const state = { model: "", wav: null, name: "recording", phones: [], microphone: null, surfer: null, stopAt: null };

function say(text, error = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", error);
}

async function ask(path, fields) {
  const form = new FormData();
  form.append("model", state.model);
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append("file", state.wav, "recording.wav");
  const response = await fetch(path, { method: "POST", body: form });
  if (!response.ok) {
    const answer = await response.json().catch(() => null);
    const error = new Error(answer?.error?.message ?? `the server answered ${response.status}`);
    throw Object.assign(error, { status: response.status });
  }
  return response;
}

// A WAV file, 16 bits and mono, of samples at a rate in Hz.
function encodeWav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, value) => [...value].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, index) => view.setInt16(44 + 2 * index, Math.max(-1, Math.min(1, sample)) * 32767, true));
  return new Blob([view], { type: "audio/wav" });
}

// A recording in a format that the browser decodes and the server does not, such as WebM, as WAV; null if neither does.
async function toWav(blob) {
  const context = new AudioContext();
  try {
    const audio = await context.decodeAudioData(await blob.arrayBuffer());
    const mono = new Float32Array(audio.length);
    for (let channel = 0; channel < audio.numberOfChannels; channel++) {
      audio.getChannelData(channel).forEach((sample, index) => (mono[index] += sample / audio.numberOfChannels));
    }
    return encodeWav(mono, audio.sampleRate);
  } catch {
    return null;
  } finally {
    await context.close();
  }
}

// Sends samples as they come, and shows the phones that the server hears, the last ones grey as they may still change.
function openStream(rate) {
  const address = new URL(`v1/stream?sample_rate=${rate}&notation=${byId("notation").value}`, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  const waiting = [];
  const send = (message) => (socket.readyState === WebSocket.OPEN ? socket.send(message) : waiting.push(message));
  const final = document.createElement("span");
  const pending = document.createElement("span");
  pending.className = "pending";
  byId("heard").replaceChildren(final, pending);
  byId("heard").hidden = false;
  const text = (phones) => phones.map((phone) => `${phone.symbol} `).join("");
  socket.addEventListener("open", () => waiting.splice(0).forEach((message) => socket.send(message)));
  socket.addEventListener("message", ({ data }) => {
    const answer = JSON.parse(data);
    if (answer.error) return say(answer.error.message, true);
    final.textContent += text(answer.final);
    pending.textContent = text(answer.pending);
  });
  return {
    send: (samples) => send(Int16Array.from(samples, (sample) => Math.max(-1, Math.min(1, sample)) * 32767).buffer),
    close: () => send(JSON.stringify({ type: "end" })),
  };
}

async function startRecording() {
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });
  const context = new AudioContext();
  await context.audioWorklet.addModule("recorder.js");
  const node = new AudioWorkletNode(context, "recorder");
  const parts = [];
  const live = byId("live").checked ? openStream(context.sampleRate) : null;
  node.port.onmessage = ({ data }) => {
    parts.push(data);
    live?.send(data);
    byId("level").value = Math.min(1, 4 * Math.sqrt(data.reduce((sum, sample) => sum + sample * sample, 0) / data.length));
  };
  context.createMediaStreamSource(stream).connect(node);
  state.microphone = { stream, context, parts, live };
  byId("record").textContent = "Stop";
  byId("record").setAttribute("aria-pressed", "true");
  say("Recording. Press Stop when you have finished.");
}

async function stopRecording() {
  const { stream, context, parts, live } = state.microphone;
  state.microphone = null;
  live?.close();
  stream.getTracks().forEach((track) => track.stop());
  byId("record").textContent = "Record";
  byId("record").setAttribute("aria-pressed", "false");
  byId("level").value = 0;
  const samples = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (samples.set(part, at), at + part.length), 0);
  const rate = context.sampleRate;
  await context.close();
  if (!samples.length) return say("Nothing was recorded: hold on a little longer.", true);
  await show(encodeWav(samples, rate), "recording");
}

async function show(wav, name) {
  state.wav = wav;
  state.name = name;
  say("Recognizing …");
  byId("result").hidden = byId("practice").hidden = true;
  const sentence = byId("sentence").value.trim();
  const notation = byId("notation").value;
  const answer = await (await ask("v1/audio/transcriptions", { response_format: "verbose_json", notation })).json();
  state.phones = answer.phones;
  byId("result").hidden = false;
  byId("unusual").hidden = !answer.unusual;
  const plays = await draw(answer.duration);
  const found = `${answer.phones.length} phones in ${answer.duration.toFixed(2)} s: ${answer.text}`;
  say(plays ? found : `${found} (the browser cannot play this format)`);
  if (sentence) await practice(sentence, notation);
}

// Draws the recording and its phones; returns whether the browser can play it.
async function draw(duration) {
  state.surfer?.destroy();
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
  state.surfer = WaveSurfer.create({
    container: "#waveform",
    height: 96,
    sampleRate: 16000,
    waveColor: colour("--accent"),
    progressColor: colour("--quiet"),
    hideScrollbar: true,
    plugins: [
      Timeline.create({ timeInterval: 0.1, primaryLabelInterval: 0.5, style: { color: colour("--ink") } }),
      Spectrogram.create({ container: "#spectrogram", height: 160, labels: false, frequencyMax: 8000, fftSamples: 512, scale: "linear" }),
    ],
  });
  state.surfer.on("play", () => (byId("play").textContent = "Pause"));
  state.surfer.on("pause", () => (byId("play").textContent = "Play"));
  state.surfer.on("timeupdate", follow);
  legible(duration);
  zoom(duration);
  byId("phones").replaceChildren(...state.phones.map((phone, index) => phoneItem(phone, index, duration)));
  const { surfer } = state;
  return new Promise((resolve) => {
    surfer.once("ready", () => resolve(true));
    surfer.once("error", () => resolve(false));
    surfer.getMediaElement().addEventListener("error", () => resolve(false), { once: true });
    surfer.loadBlob(state.wav).catch(() => resolve(false));
  });
}

function phoneItem(phone, index, duration) {
  const item = document.createElement("li");
  item.style.left = `${(100 * phone.start_s) / duration}%`;
  item.style.width = `${(100 * (phone.end_s - phone.start_s)) / duration}%`;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = phone.symbol;
  button.style.setProperty("--sure", 0.1 + 0.6 * phone.confidence ** 2);
  const percent = Math.round(100 * phone.confidence);
  button.title = `${phone.symbol}: ${phone.start_s.toFixed(2)} to ${phone.end_s.toFixed(2)} s, right with ${percent} %`;
  button.setAttribute("aria-label", button.title);
  button.tabIndex = index ? -1 : 0;
  button.addEventListener("click", () => playPart(phone));
  item.append(button);
  return item;
}

// From the whole recording in the window to 600 pixels a second.
function zoom(duration = state.surfer?.getDuration()) {
  const whole = byId("scroll").clientWidth;
  const widest = Math.max(whole, 600 * (duration || 1));
  byId("axis").style.width = `${whole * (widest / whole) ** (byId("zoom").value / 100)}px`;
}

// The zoom at which phones are legible, if the recording is short enough for that.
function legible(duration) {
  const whole = byId("scroll").clientWidth;
  const wanted = Math.max(whole, Math.min(150 * duration, 6000));
  byId("zoom").value = 100 * Math.log(wanted / whole) / Math.max(0.01, Math.log(Math.max(whole, 600 * duration) / whole));
}

async function playPart({ start_s: start, end_s: end }) {
  await state.surfer.play(Math.max(0, start - 0.02), end + 0.02);
}

function follow(time) {
  const buttons = byId("phones").querySelectorAll("button");
  state.phones.forEach((phone, index) => buttons[index].classList.toggle("now", phone.start_s <= time && time < phone.end_s));
}

async function practice(text, notation) {
  const answer = await (await ask("v1/practice", { text, notation })).json();
  byId("words").replaceChildren(...answer.words.map(wordCard));
  byId("practice").hidden = false;
}

function wordCard(word) {
  const card = document.createElement("article");
  card.className = "word";
  const title = document.createElement("h3");
  title.textContent = word.word;
  const table = document.createElement("table");
  const row = (name, cells) => {
    const line = table.insertRow();
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = name;
    line.append(head);
    cells.forEach((fill) => fill(line.insertCell()));
  };
  row("expected", word.phones.map((phone) => (cell) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = phone.symbol;
    button.setAttribute("aria-label", `hear where ${phone.symbol} was expected`);
    button.addEventListener("click", () => playPart(phone));
    cell.append(button);
  }));
  row("heard", word.phones.map((phone) => (cell) => {
    cell.textContent = phone.heard.join(" ") || "nothing";
    cell.classList.toggle("other", phone.heard.join(" ") !== phone.symbol);
  }));
  row("sure", word.phones.map((phone) => (cell) => (cell.textContent = `${Math.round(100 * phone.confidence)} %`)));
  card.append(title, table);
  return card;
}

async function download(button) {
  const fields = { response_format: button.dataset.format, notation: byId("notation").value };
  const content = await (await ask("v1/audio/transcriptions", fields)).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = `${state.name}.${button.dataset.suffix}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// Runs an action and says in the page's status what went wrong, if anything did.
const doing = (action) => async (event) => {
  try {
    await action(event);
  } catch (error) {
    say(error.name === "NotAllowedError" ? "The browser did not allow the microphone." : error.message, true);
  }
};

async function showFile(file) {
  if (!file) return;
  const name = file.name.replace(/\.[^.]*$/, "");
  try {
    await show(file, name);
  } catch (error) {
    const wav = error.status === 415 ? await toWav(file) : null;
    if (!wav) throw error;
    await show(wav, name);
  }
}

byId("record").addEventListener("click", doing(() => (state.microphone ? stopRecording() : startRecording())));
byId("file").addEventListener("change", doing(({ target }) => showFile(target.files[0])));
byId("play").addEventListener("click", doing(() => state.surfer.playPause()));
byId("zoom").addEventListener("input", () => zoom());
byId("notation").addEventListener("change", doing(() => state.wav && show(state.wav, state.name)));
byId("downloads").addEventListener("click", doing(({ target }) => target.dataset.format && download(target)));
byId("phones").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const buttons = [...byId("phones").querySelectorAll("button")];
  const next = buttons[buttons.indexOf(event.target) + step];
  if (!step || !next) return;
  event.preventDefault();
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});
for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
  byId("drop").addEventListener(type, doing(async (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", type === "dragenter" || type === "dragover");
    if (type === "drop") await showFile(event.dataTransfer.files[0]);
  }));
}

const models = await (await fetch("v1/models")).json();
state.model = models.data[0].id;
byId("facts").textContent = `Model ${state.model}, ${models.data[0].phones.length} phones`;
