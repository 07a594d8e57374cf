// A live page asks for itself again when something has changed, and swaps the parts that are marked.
"use strict";
(() => {
  const address = document.body.dataset.events;
  if (!address || !window.EventSource) return;
  const status = document.getElementById("live");
  const pause = 1000;
  let asked = false, waits = false, last = 0;

  const swap = async () => {
    if (asked) { waits = true; return; }
    asked = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const part of document.querySelectorAll("[data-live]")) {
          const other = page.getElementById(part.id);
          // Who reads with the keyboard keeps the place.
          if (other && other.innerHTML !== part.innerHTML && !part.contains(document.activeElement)) {
            part.replaceWith(document.importNode(other, true));
          }
        }
        status.textContent = "Live: as of " + new Date().toISOString().slice(11, 19) + "Z";
      }
    } catch {
      status.textContent = "The server does not answer: this page may be old.";
    }
    last = Date.now();
    asked = false;
    if (waits) { waits = false; later(); }
  };

  let timer = 0;
  const later = () => {
    if (timer) return;
    timer = setTimeout(() => { timer = 0; swap(); }, Math.max(0, last + pause - Date.now()));
  };

  const events = new EventSource(address);
  events.addEventListener("change", later);
  events.addEventListener("reload", later);
  events.addEventListener("open", () => { if (!status.textContent) status.textContent = "Live"; });
  addEventListener("pagehide", () => events.close());
})();
