// Runs in the audio thread: passes the microphone's samples on, some at a time.
class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.samples = new Float32Array(2048);
    this.count = 0;
  }

  process([input]) {
    if (input.length) {
      for (const sample of input[0]) {
        this.samples[this.count++] = sample;
        if (this.count === this.samples.length) {
          this.port.postMessage(this.samples.slice());
          this.count = 0;
        }
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
