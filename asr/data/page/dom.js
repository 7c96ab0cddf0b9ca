export const byId = (id) => document.getElementById(id);

// An element with this text and these properties.
export const element = (tag, text = "", properties = {}) =>
  Object.assign(document.createElement(tag), { textContent: text, ...properties });

// The line that tells what the page does and what went wrong; screen readers read it out.
export function say(text, error = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", error);
}
