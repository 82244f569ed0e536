// Copies links of invitations. Without this file the links can still be selected by hand.
"use strict";

for (const button of document.querySelectorAll(".copy")) {
  const field = button.parentElement.querySelector(".link");
  const text = button.textContent;
  button.hidden = false;
  field.addEventListener("focus", () => field.select());
  button.addEventListener("click", async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
    } catch {
      document.execCommand("copy"); // a page without HTTPS has no clipboard
    }
    button.textContent = button.dataset.done;
    setTimeout(() => { button.textContent = text; }, 2000);
  });
}
