// Keeps the whole page on the device, so that it works offline; build.py sets VERSION and FILES.
const NAME = `spoken-digits-${VERSION}`;
const stale = (name) => name.startsWith("spoken-digits-") && name !== NAME;
const removeStale = (names) => Promise.all(names.filter(stale).map((name) => caches.delete(name)));
const keep = () => caches.open(NAME).then((cache) => cache.addAll(FILES)).then(() => skipWaiting());
addEventListener("install", (event) => event.waitUntil(keep()));
addEventListener("activate", (event) => event.waitUntil(caches.keys().then(removeStale)));
addEventListener("fetch", (event) => event.respondWith(
  caches.match(event.request).then((kept) => kept ?? fetch(event.request))));
