export const toInteger = (sample) => Math.max(-1, Math.min(1, sample)) * 32767;

// A WAV file, 16 bits and mono, of samples at a rate in Hz.
export function encodeWav(samples, rate) {
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
  samples.forEach((sample, index) => view.setInt16(44 + 2 * index, toInteger(sample), true));
  return new Blob([view], { type: "audio/wav" });
}

// A recording in a format that the browser decodes and the server does not, such as WebM, as WAV; null if neither does.
export async function toWav(blob) {
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
