// Asks for this page again every few seconds and puts what changed in place: what is open stays open, focus stays where it is.
(() => {
  "use strict";
  const EVERY_MS = 5000, HIDDEN_MS = 30000, PATIENCE_MS = 10000;
  const main = document.querySelector("main"), trouble = document.getElementById("trouble");
  const pause = document.getElementById("pause"), root = document.documentElement;
  let timer = 0, paused = false, asking = false, heard = new Date();

  const key = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);
  const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && key(a) === key(b);

  function become(old, fresh) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    for (const { name } of [...old.attributes]) if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) {
      if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const keyed = new Map(), wanted = new Set([...fresh.childNodes].map(key));
    for (const child of old.childNodes) if (key(child) !== null) keyed.set(key(child), child);
    let place = old.firstChild;
    const drop = () => {
      const gone = place;
      place = place.nextSibling;
      gone.remove();
    };
    for (const child of [...fresh.childNodes]) {
      const known = key(child) === null ? place : keyed.get(key(child));
      keyed.delete(key(child));
      if (known && alike(known, child)) {
        // What stands before it and is to go, goes first: an element that is moved loses the focus.
        while (place && place !== known && (key(place) === null || !wanted.has(key(place)))) drop();
        become(known, child);
        if (known === place) place = place.nextSibling;
        else old.insertBefore(known, place);
      } else {
        old.insertBefore(document.importNode(child, true), place);
        if (place && key(place) === null && key(child) === null) drop();
      }
    }
    while (place) drop();
  }

  function say(sentence) {
    if (trouble.textContent !== sentence) trouble.textContent = sentence;
    trouble.hidden = !sentence;
    root.classList.toggle("old", Boolean(sentence));
  }

  async function ask() {
    const patience = new AbortController(), bell = setTimeout(() => patience.abort(), PATIENCE_MS);
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store", signal: patience.signal });
      const kind = answer.headers.get("Content-Type") || "";
      if (!kind.startsWith("text/html")) throw new Error(`HTTP ${answer.status}`);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (fresh.documentElement.dataset.version !== root.dataset.version) return location.reload();
      become(main, fresh.querySelector("main"));
      document.title = fresh.title;
      document.querySelector("link[rel=icon]").href = fresh.querySelector("link[rel=icon]").href;
      heard = new Date();
      say("");
    } catch {
      document.title = "No answer: litestream-sidecar";
      say(`The sidecar has not answered since ${heard.toLocaleTimeString()}. What stands below is old.`);
    } finally {
      clearTimeout(bell);
    }
  }

  async function turn() {
    clearTimeout(timer);
    if (paused || asking) return;
    asking = true;
    await ask();
    asking = false;
    if (!paused) timer = setTimeout(turn, document.hidden ? HIDDEN_MS : EVERY_MS);
  }

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "go on" : "pause";
    turn();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) turn(); });
  timer = setTimeout(turn, EVERY_MS);
})();
