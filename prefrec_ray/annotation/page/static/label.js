// Keys, and the time of a vote. The page also works without this file.
"use strict";

const answers = document.querySelector(".choices");
const undo = document.querySelector(".undo");
const seconds = document.querySelector("input[name=seconds]");

// Only the time in which the page was looked at.
let looked = 0;
let since = document.hidden ? null : performance.now();
document.addEventListener("visibilitychange", () => {
  if (document.hidden && since !== null) {
    looked += performance.now() - since;
    since = null;
  } else if (!document.hidden && since === null) {
    since = performance.now();
  }
});

let sent = false;
for (const form of document.forms) {
  form.addEventListener("submit", (event) => {
    if (sent) {
      event.preventDefault(); // a second key before the next page is there
      return;
    }
    sent = true;
    if (form === answers) {
      seconds.value = ((looked + (since === null ? 0 : performance.now() - since)) / 1000).toFixed(2);
      seconds.disabled = false;
    }
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
