// Each expected phone of a sentence, and what was heard in its place.

import { byId, element } from "./dom.js";
import { drawWords, playPart } from "./drawing.js";

// Shows the words of the server's answer, as cards and on the time axis.
export function showPractice(words) {
  const timed = words.filter(({ phones }) => phones.length); // a model's table may drop all phones of a word
  drawWords(timed.map(({ word, phones }) => ({ word, start_s: phones[0].start_s, end_s: phones.at(-1).end_s })));
  byId("words").replaceChildren(...words.map(wordCard));
  byId("practice").hidden = false;
}

function wordCard({ word, phones }) {
  const card = element("article", "", { className: "word" });
  const table = element("table");
  const row = (name, fill) => {
    const line = table.insertRow();
    line.append(element("th", name, { scope: "row" }));
    phones.forEach((phone) => fill(line.insertCell(), phone));
  };
  row("expected", (cell, phone) => {
    const button = element("button", phone.symbol, { type: "button" });
    button.setAttribute("aria-label", `hear where ${phone.symbol} was expected`);
    button.addEventListener("click", () => playPart(phone));
    cell.append(button);
  });
  row("heard", (cell, phone) => {
    cell.textContent = phone.heard.join(" ") || "nothing";
    cell.classList.toggle("other", phone.heard.join(" ") !== phone.symbol);
  });
  row("sure", (cell, phone) => (cell.textContent = `${Math.round(100 * phone.confidence)} %`));
  card.append(element("h3", word), table);
  return card;
}
