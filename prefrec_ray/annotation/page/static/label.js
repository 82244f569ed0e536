// Keys. The page also works without this file.
"use strict";

const answers = document.querySelector(".choices");
const undo = document.querySelector(".undo");

let sent = false;
for (const form of document.forms) {
  form.addEventListener("submit", (event) => {
    if (sent) {
      event.preventDefault(); // a second key before the next page is there
      return;
    }
    sent = true;
  });
}
// A page that the browser kept, and shows again on "back", may be answered again; the server says whether it still holds.
window.addEventListener("pageshow", () => { sent = false; });

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || event.target.matches("input, textarea")) {
    return;
  }
  const button = event.key.toLowerCase() === "u" ? undo : answers?.querySelector(`[aria-keyshortcuts="${CSS.escape(event.key)}"]`);
  button?.click();
});
