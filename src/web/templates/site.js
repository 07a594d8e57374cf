// A live page asks for itself again when something has changed, and swaps the parts that are marked.
"use strict";
(() => {
  const address = document.body.dataset.events;
  if (!address || !window.EventSource) return;
  const status = document.getElementById("live");
  const pause = 1000;
  let asked = false, waits = false, last = 0, told = 0;
  // The number of an event, and that of the newest one that a page has.
  const numberOf = (text) => Number(/-(\d+)(?:&|$)/.exec(text || "")?.[1] || 0);

  const swap = async () => {
    if (asked) { waits = true; return; }
    asked = true;
    try {
      // Other pages like this one may be open: what was read for them a moment ago will do.
      const headers = { Accept: "text/html", "Cache-Control": "max-age=1" };
      const answer = await fetch(location.href, { headers, credentials: "same-origin" });
      if (answer.redirected) {
        events.close();
        status.textContent = "Not live: log in again, this page is old.";
      } else if (answer.ok) {
        let isCurrent = true;
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        // It was read before the last event, and there may be no other one.
        if (numberOf(page.body.dataset.events) < told) waits = true;
        for (const part of document.querySelectorAll("[data-live]")) {
          const other = page.getElementById(part.id);
          if (other && other.innerHTML === part.innerHTML) continue;
          // Who reads with the keyboard keeps the place.
          if (other && !part.contains(document.activeElement)) {
            part.replaceWith(document.importNode(other, true));
          } else {
            isCurrent = false;
          }
        }
        if (isCurrent && events.readyState !== EventSource.CLOSED) {
          status.textContent = "Live: as of " + new Date().toISOString().slice(11, 19) + "Z";
        }
      } else {
        status.textContent = "The server does not answer with this page: it may be old.";
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
  const hear = (event) => {
    told = numberOf(event.lastEventId);
    later();
  };
  events.addEventListener("change", hear);
  events.addEventListener("reload", hear);
  events.addEventListener("open", () => { if (!status.textContent) status.textContent = "Live"; });
  events.addEventListener("error", () => {
    // Any other error is one that the browser tries again after.
    if (events.readyState === EventSource.CLOSED) status.textContent = "Not live any more: load the page again.";
  });
  addEventListener("pagehide", () => events.close());
})();
