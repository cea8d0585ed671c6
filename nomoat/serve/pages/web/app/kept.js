// Small choices kept on this machine (localStorage); without storage they last as long as the page.

const MEMORY = new Map();

/** A kept choice; `otherwise` where there is none, or none that can be read. */
export function kept(name, otherwise) {
  try {
    const text = localStorage.getItem(`nomoat.${name}`) ?? MEMORY.get(name);
    return text === undefined || text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise;
  }
}

export function keep(name, value) {
  const text = JSON.stringify(value);
  MEMORY.set(name, text);
  try {
    localStorage.setItem(`nomoat.${name}`, text);
  } catch {
    // full or forbidden: it is in memory
  }
}

/** As `kept` and `keep`, of this tab; a new one begins with what the last tab kept. */
export function keptHere(name, otherwise) {
  try {
    const text = sessionStorage.getItem(`nomoat.${name}`);
    return text === null ? kept(name, otherwise) : JSON.parse(text);
  } catch {
    return kept(name, otherwise);
  }
}

export function keepHere(name, value) {
  keep(name, value);
  try {
    sessionStorage.setItem(`nomoat.${name}`, JSON.stringify(value));
  } catch {
    // the last tab's it is
  }
}

/** As `kept` and `keep`, for a bare word, which `early.js` reads before anything else. */
export function keptWord(name, allowed) {
  try {
    const word = localStorage.getItem(`nomoat.${name}`);
    return allowed.includes(word) ? word : null;
  } catch {
    return null;
  }
}

export function keepWord(name, word) {
  try {
    if (word === null) localStorage.removeItem(`nomoat.${name}`);
    else localStorage.setItem(`nomoat.${name}`, word);
  } catch {
    // it lasts as long as the page
  }
}
