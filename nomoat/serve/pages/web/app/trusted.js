// The one policy of Trusted Types that is ours: addresses of our own scripts, no HTML at all.

const OWN = ["/sw.js"];

const policy = globalThis.trustedTypes?.createPolicy("nomoat", {
  createScriptURL(url) {
    if (OWN.includes(url)) return url;
    throw new TypeError(`${url} is no script of this page`);
  },
});

/** The address of a worker, as the browser asks for it. */
export const scriptURL = (url) => (policy ? policy.createScriptURL(url) : url);
