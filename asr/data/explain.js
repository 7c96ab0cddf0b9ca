const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const colours = Object.fromEntries(Object.entries(COLOURS).map(([name, text]) => [name, bytes(text)]));
const output = document.getElementById("value");

for (const canvas of document.querySelectorAll("canvas[data-values]")) {
  const { width, height } = canvas;
  const values = bytes(canvas.dataset.values);
  const colour = colours[canvas.dataset.colours];
  const image = new ImageData(width, height);
  values.forEach((value, index) => image.data.set([...colour.subarray(3 * value, 3 * value + 3), 255], 4 * index));
  canvas.getContext("2d").putImageData(image, 0, 0);
  const [low, high] = [Number(canvas.dataset.low), Number(canvas.dataset.high)];
  const rows = canvas.dataset.rows.split(" ");
  const tracks = canvas.closest(".tracks");
  const cursor = tracks.querySelector(".cursor");
  const show = (event) => {
    const box = canvas.getBoundingClientRect();
    const column = Math.min(width - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * width)));
    const row = Math.min(height - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * height)));
    const value = low + ((high - low) * values[row * width + column]) / 255;
    const seconds = ((column + 0.5) / width) * Number(tracks.dataset.seconds);
    output.textContent = `${canvas.dataset.what} ${rows[row]} at ${seconds.toFixed(2)} s: ${value.toFixed(2)}`;
    cursor.style.left = `${event.clientX - tracks.getBoundingClientRect().left}px`;
    output.hidden = cursor.hidden = false;
  };
  canvas.addEventListener("pointermove", show);
  canvas.addEventListener("pointerdown", show);
  canvas.addEventListener("pointerleave", () => (output.hidden = cursor.hidden = true));
}
