// Keeps the page, so that it opens without its server: files alone, never an answer of the model.

const CACHE = "nomoat-1";
const SHELL = [
  "/",
  "/manifest.webmanifest",
  "/assets/base.css",
  "/assets/chat.css",
  "/assets/icon.svg",
  "/assets/text/en.json",
  "/assets/text/de.json",
  "/assets/vendor/marked.js",
  "/assets/vendor/dompurify.js",
  "/assets/vendor/temml.js",
  "/assets/vendor/temml.css",
  "/assets/vendor/Temml.woff2",
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
