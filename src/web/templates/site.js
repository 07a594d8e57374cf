// A live page asks for itself again when something has changed, and swaps the parts that are marked.
"use strict";
(() => {
  const address = document.body.dataset.events;
  if (!address || !window.EventSource) return;
  const status = document.getElementById("live");
  const pause = 1000;
  const longPause = 5000;
  let asked = false, waits = false, last = 0, told = "";
  // An id is that of the process, and a number: those of two processes say nothing of each other.
  const isBefore = (id, other) => {
    const [process, number] = id.split("-"), [otherProcess, otherNumber] = other.split("-");
    return process === otherProcess && Number(number) < Number(otherNumber);
  };

  // The newest event that a page has.
  const eventOf = (body) => new URL(body.dataset.events || "/", location.href).searchParams.get("after") || "";
  let shown = eventOf(document.body);

  const swap = async () => {
    if (asked) { waits = true; return; }
    asked = true;
    let hasFailed = false;
    try {
      // Other pages like this one may be open: what was read for them a moment ago will do.
      const headers = { Accept: "text/html", "Cache-Control": "max-age=2" };
      const answer = await fetch(location.href, { headers, credentials: "same-origin" });
      if (answer.redirected) {
        events.close();
        status.textContent = "Not live: log in again, this page is old.";
      } else if (answer.ok) {
        let isCurrent = true;
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        // It was read before the last event, and there may be no other one.
        const seen = eventOf(page.body);
        if (isBefore(seen, told)) waits = true;
        const isOlder = isBefore(seen, shown);
        if (!isOlder) shown = seen;
        for (const part of isOlder ? [] : document.querySelectorAll("[data-live]")) {
          const other = page.getElementById(part.id);
          if (other && other.innerHTML === part.innerHTML) continue;
          // Who reads with the keyboard keeps the place.
          if (other && !part.contains(document.activeElement)) {
            part.replaceWith(document.importNode(other, true));
          } else {
            isCurrent = false;
            part.addEventListener("focusout", later, { once: true });
          }
        }
        if (isCurrent && events.readyState !== EventSource.CLOSED) {
          status.textContent = "Live: as of " + new Date().toISOString().slice(11, 19) + "Z";
        }
      } else {
        status.textContent = "The server does not answer with this page: it may be old.";
        hasFailed = answer.status === 429 || answer.status >= 500;
      }
    } catch {
      status.textContent = "The server does not answer: this page may be old.";
      hasFailed = true;
    }
    last = Date.now() + (hasFailed ? longPause : 0);
    asked = false;
    if (waits || hasFailed) { waits = false; later(); }
  };

  let timer = 0;
  const later = () => {
    if (timer) return;
    timer = setTimeout(() => { timer = 0; swap(); }, Math.max(0, last + pause - Date.now()));
  };

  const events = new EventSource(address);
  const hear = (event) => {
    told = event.lastEventId;
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
