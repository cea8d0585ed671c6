// Keeps the pages, so that they open without their server: files alone, never an answer of the model.

const CACHE = "nomoat-1";
const SHELL = [
  "/",
  "/lab",
  "/manifest.webmanifest",
  "/assets/base.css",
  "/assets/chat.css",
  "/assets/lab.css",
  "/assets/icon.svg",
  "/assets/text/en.json",
  "/assets/text/de.json",
  "/assets/text/lab.en.json",
  "/assets/text/lab.de.json",
  "/assets/vendor/marked.js",
  "/assets/vendor/dompurify.js",
  "/assets/vendor/temml.js",
  "/assets/vendor/temml.css",
  "/assets/vendor/Temml.woff2",
  "/assets/vendor/uplot.css",
  "/assets/vendor/uplot.js",
  ...[
    "api",
    "dialog",
    "dom",
    "early",
    "i18n",
    "icons",
    "kept",
    "keys",
    "markdown",
    "mathematics",
    "shell",
    "theme",
    "trusted",
  ].map((name) => `/assets/app/${name}.js`),
  ...[
    "answering",
    "body",
    "composer",
    "empty",
    "experts",
    "exported",
    "floating",
    "health",
    "imported",
    "judging",
    "main",
    "models",
    "problems",
    "reply",
    "search",
    "session",
    "settings",
    "sidebar",
    "stages",
    "store",
    "switcher",
    "tokens",
    "transfer",
    "tree",
    "turn",
    "verdict",
    "view",
  ].map((name) => `/assets/chat/${name}.js`),
  ...[
    "compare",
    "cost",
    "figure",
    "heat",
    "list",
    "live",
    "main",
    "plot",
    "recipe",
    "rollouts",
    "routes",
    "rows",
    "scores",
    "story",
    "talk",
    "training",
    "transfer",
    "views",
    "words",
  ].map((name) => `/assets/lab/${name}.js`),
  "/assets/chat/exported.css",
];

self.addEventListener("install", (event) => {
  event.waitUntil(
    caches
      .open(CACHE)
      .then((cache) => cache.addAll(SHELL))
      .then(() => self.skipWaiting()),
  );
});

self.addEventListener("activate", (event) => {
  const old = caches
    .keys()
    .then((names) => Promise.all(names.filter((name) => name !== CACHE).map((name) => caches.delete(name))));
  event.waitUntil(old.then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  const { pathname, origin } = new URL(event.request.url);
  if (event.request.method !== "GET" || origin !== location.origin) return;
  if (SHELL.includes(pathname)) event.respondWith(fresh(event.request, pathname));
});

/** The file as the server has it, else as it was. */
async function fresh(request, name) {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request);
    if (response.ok) cache.put(name, response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match(name);
    if (kept) return kept;
    throw error;
  }
}
