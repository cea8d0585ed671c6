// Conversations on this machine, in IndexedDB; the tokens of a reply lie apart, they are long.

const NAME = "nomoat";
let opened = null;

function database() {
  opened ??= new Promise((done, failed) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("chats", { keyPath: "id" });
      request.result.createObjectStore("tokens", { keyPath: "id" }).createIndex("chat", "chat");
    };
    request.onsuccess = () => done(request.result);
    request.onerror = () => failed(request.error);
  });
  return opened;
}

async function within(stores, mode, work) {
  const transaction = (await database()).transaction(stores, mode);
  const result = work(...stores.map((name) => transaction.objectStore(name)));
  return new Promise((done, failed) => {
    transaction.oncomplete = () => done(result?.result);
    transaction.onabort = () => failed(transaction.error);
  });
}

/** A conversation; undefined if there is none. */
export const chatOf = (id) => within(["chats"], "readonly", (chats) => chats.get(id));

/** All conversations, the latest first. */
export async function allChats() {
  const all = await within(["chats"], "readonly", (chats) => chats.getAll());
  return all.sort((a, b) => b.updated - a.updated);
}

export const putChat = (chat) => within(["chats"], "readwrite", (chats) => chats.put(chat));

/** `{id, chat, prompt: [ids], ids: [ids], tokens, experts}` of a reply; undefined if they were not kept. */
export const tokensOf = (id) => within(["tokens"], "readonly", (tokens) => tokens.get(id));

export const putTokens = (record) => within(["tokens"], "readwrite", (tokens) => tokens.put(record));

/** Forgets a conversation and its tokens. */
export function removeChat(id) {
  return within(["chats", "tokens"], "readwrite", (chats, tokens) => {
    chats.delete(id);
    tokens.index("chat").openKeyCursor(IDBKeyRange.only(id)).onsuccess = ({ target }) => {
      if (!target.result) return;
      tokens.delete(target.result.primaryKey);
      target.result.continue();
    };
  });
}

/** Asks the browser not to throw the conversations away when space is short. */
export const persist = () => navigator.storage?.persist?.().catch(() => false);
