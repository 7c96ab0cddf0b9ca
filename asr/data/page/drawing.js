// The recording on its time axis: waveform, spectrogram, and rows of phones and words that can be heard.

import { byId, element } from "./dom.js";
import Spectrogram from "./vendor/spectrogram.esm.js";
import Timeline from "./vendor/timeline.esm.js";
import WaveSurfer from "./vendor/wavesurfer.esm.js";

const WIDEST = 600; // pixels a second
const LEGIBLE = 250;
let surfer = null;
let seconds = 1;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
const colours = () => ({ waveColor: colour("--accent"), progressColor: colour("--quiet") });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => surfer?.setOptions(colours()));

// Draws a recording (a Blob) of some duration and its phones; returns whether the browser can play it.
export function draw(recording, phones, duration) {
  surfer?.destroy();
  seconds = Math.max(duration, 0.01);
  surfer = WaveSurfer.create({
    ...colours(),
    container: "#waveform",
    height: 96,
    sampleRate: 16000,
    hideScrollbar: true,
    plugins: [
      Timeline.create({ timeInterval: 0.1, primaryLabelInterval: 0.5 }),
      Spectrogram.create({ container: "#spectrogram", height: 160, labels: false, frequencyMax: 8000, fftSamples: 512, scale: "linear" }),
    ],
  });
  surfer.on("play", () => (byId("play").textContent = "Pause"));
  surfer.on("pause", () => (byId("play").textContent = "Play"));
  surfer.on("timeupdate", follow);
  zoomTo(legible());
  byId("scroll").scrollLeft = 0;
  drawRow("phones", phones, phoneButton);
  drawWords([]);
  return new Promise((resolve) => {
    surfer.once("ready", () => resolve(true));
    surfer.once("error", () => resolve(false));
    surfer.getMediaElement().addEventListener("error", () => resolve(false), { once: true });
    surfer.loadBlob(recording).catch(() => resolve(false));
  });
}

// Puts words with start_s and end_s above the phones.
export function drawWords(words) {
  byId("spoken").hidden = !words.length;
  drawRow("spoken", words, (word) => element("button", word.word, { title: `${word.word}: ${times(word)}` }));
}

export const playPause = () => surfer.playPause();

export const playPart = ({ start_s: start, end_s: end }) => surfer.play(Math.max(0, start - 0.02), end + 0.02);

function phoneButton(phone) {
  const percent = Math.round(100 * phone.confidence);
  const button = element("button", phone.symbol, { title: `${phone.symbol}: ${times(phone)}, right with ${percent} %` });
  button.style.setProperty("--sure", 0.1 + 0.6 * phone.confidence ** 2);
  return button;
}

const times = ({ start_s: start, end_s: end }) => `${start.toFixed(2)} to ${end.toFixed(2)} s`;

function drawRow(id, parts, makeButton) {
  const items = parts.map((part, index) => {
    const item = element("li");
    item.style.left = `${(100 * part.start_s) / seconds}%`;
    item.style.width = `${(100 * (part.end_s - part.start_s)) / seconds}%`;
    const button = makeButton(part);
    Object.assign(button, { type: "button", tabIndex: index ? -1 : 0 });
    button.setAttribute("aria-label", button.title);
    Object.assign(button.dataset, { start: part.start_s, end: part.end_s });
    button.addEventListener("click", () => playPart(part));
    item.append(button);
    return item;
  });
  byId(id).replaceChildren(...items);
}

// Marks what is heard now, and keeps it in view.
function follow(time) {
  for (const button of byId("axis").querySelectorAll("li button")) {
    button.classList.toggle("now", Number(button.dataset.start) <= time && time < Number(button.dataset.end));
  }
  const { scrollLeft, clientWidth } = byId("scroll");
  const at = (time / seconds) * byId("axis").clientWidth;
  if (surfer.isPlaying() && (at < scrollLeft || at > scrollLeft + clientWidth)) byId("scroll").scrollLeft = at - clientWidth / 8;
}

const zooms = () => Math.max(1, (WIDEST * seconds) / byId("scroll").clientWidth);

// The zoom at which phones are legible, if the recording is short enough for that.
function legible() {
  const wanted = Math.max(1, Math.min(LEGIBLE * seconds, 6000) / byId("scroll").clientWidth);
  return (100 * Math.log(wanted)) / Math.max(0.01, Math.log(zooms()));
}

// Zooms from the whole recording in the window (0) to its widest (100); what has the focus stays in view, or the middle.
function zoomTo(value) {
  const [scroll, axis] = [byId("scroll"), byId("axis")];
  const focused = axis.querySelector("button:focus")?.dataset;
  const middle = (scroll.scrollLeft + scroll.clientWidth / 2) / axis.clientWidth;
  byId("zoom").value = value;
  axis.style.width = `${scroll.clientWidth * zooms() ** (byId("zoom").value / 100)}px`;
  const place = focused ? (Number(focused.start) + Number(focused.end)) / 2 / seconds : middle;
  scroll.scrollLeft = place * axis.clientWidth - scroll.clientWidth / 2;
}

const zoomBy = (steps) => zoomTo(Number(byId("zoom").value) + 20 * steps);
byId("zoom").addEventListener("input", ({ target }) => zoomTo(target.value));
byId("zoom-in").addEventListener("click", () => zoomBy(1));
byId("zoom-out").addEventListener("click", () => zoomBy(-1));
byId("zoom-whole").addEventListener("click", () => zoomTo(0));
addEventListener("resize", () => surfer && zoomTo(byId("zoom").value));

byId("scroll").addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const zoom = { "+": () => zoomBy(1), "=": () => zoomBy(1), "-": () => zoomBy(-1), 0: () => zoomTo(0) }[event.key];
  const buttons = [...(event.target.closest("ol")?.querySelectorAll("button") ?? [])];
  const place = buttons.indexOf(event.target);
  const next = buttons[{ ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: buttons.length - 1 }[event.key]];
  if (zoom) zoom();
  else if (event.key === " " && event.target === byId("scroll")) playPause();
  else if (next) {
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  } else return;
  event.preventDefault();
});
