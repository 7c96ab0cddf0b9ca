// The microphone, and the stream of its samples to the server.

import { encodeWav, toInteger } from "./audio.js";
import { byId, element, say } from "./dom.js";
import { apiKey } from "./requests.js";

const REFUSALS = {
  NotAllowedError: "The browser did not allow the microphone.",
  NotFoundError: "The browser found no microphone.",
  NotReadableError: "The microphone cannot be read. Does another program use it?",
};

// Starts recording; shows phones in `notation` meanwhile, unless it is null. `onEnd` is called if the microphone goes away.
// Returns a function that stops, and gives the recording as a Blob of WAV, or null if nothing was recorded.
export async function startRecording(notation, onEnd) {
  const stream = await openMicrophone();
  const stop = () => stream.getTracks().forEach((track) => track.stop());
  const context = new AudioContext();
  const parts = [];
  let live = null;
  try {
    await context.audioWorklet.addModule("recorder.js");
    const node = new AudioWorkletNode(context, "recorder");
    live = notation === null ? null : openStream(context.sampleRate, notation);
    node.port.onmessage = ({ data }) => {
      parts.push(data);
      live?.send(data);
      byId("level").value = Math.min(1, 4 * Math.sqrt(data.reduce((sum, sample) => sum + sample * sample, 0) / data.length));
    };
    context.createMediaStreamSource(stream).connect(node);
  } catch (error) {
    stop();
    await context.close();
    throw new Error(`The microphone cannot be recorded: ${error.message}`);
  }
  stream.getTracks().forEach((track) => track.addEventListener("ended", onEnd));
  return async () => {
    live?.end();
    stop();
    byId("level").value = 0;
    await context.close();
    const samples = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
    parts.reduce((at, part) => (samples.set(part, at), at + part.length), 0);
    return samples.length ? encodeWav(samples, context.sampleRate) : null;
  };
}

async function openMicrophone() {
  if (!navigator.mediaDevices) throw new Error("The browser gives the microphone to pages of this computer and of HTTPS alone.");
  const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    throw new Error(REFUSALS[error.name] ?? error.message);
  }
}

// Sends samples as they come, and shows the phones that the server recognizes, the last ones grey as they may still change.
function openStream(rate, notation) {
  const address = new URL(`v1/stream?sample_rate=${rate}&notation=${notation}`, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  const waiting = apiKey() === null ? [] : [JSON.stringify({ type: "key", key: apiKey() })];
  const send = (message) => {
    if (socket.readyState === WebSocket.OPEN) socket.send(message);
    else if (socket.readyState === WebSocket.CONNECTING) waiting.push(message);
  };
  let over = false;
  const problem = (text) => {
    if (!over) say(`No phones while you speak: ${text} The recording goes on; press Stop when you have finished.`, true);
    over = true;
  };
  const final = element("span");
  const pending = element("span", "", { className: "pending" });
  byId("heard").replaceChildren(final, pending);
  byId("heard").hidden = false;
  const text = (phones) => phones.map((phone) => `${phone.symbol} `).join("");
  socket.addEventListener("open", () => waiting.splice(0).forEach((message) => socket.send(message)));
  socket.addEventListener("close", () => problem("the connection to the server broke off."));
  socket.addEventListener("message", ({ data }) => {
    const answer = JSON.parse(data);
    if (answer.error) return problem(`${answer.error.message}.`);
    final.textContent += text(answer.final);
    pending.textContent = text(answer.pending);
  });
  return {
    send: (samples) => send(Int16Array.from(samples, toInteger).buffer),
    end: () => {
      over = true;
      send(JSON.stringify({ type: "end" }));
    },
  };
}
