// A conversation is a tree of messages: a reply hangs from what was asked, the next question from a reply.
//
// chat:  {id, title, created, updated, nodes: {id: node}, chosen: {place: id}}
// asked: {id, role: "user", parent: reply's id | null, text, models: [ids], check: its problem | null}
// reply: {id, role: "assistant", parent: asked's id, model, text, thinking, finish, …}
// `chosen` says which branch is seen: of questions after a reply ("root" for the first), of replies to a
// question (its id), and of replies of one model among several side by side (its id and the model).

export const freshId = () => crypto.randomUUID();

export const newChat = () => ({
  id: freshId(),
  title: "",
  created: Date.now(),
  updated: Date.now(),
  nodes: {},
  chosen: {},
});

/** Lists of the nodes below each node, in the order of their making. */
export function below(chat) {
  const lists = new Map();
  for (const node of Object.values(chat.nodes)) {
    const parent = node.parent ?? "root";
    if (!lists.has(parent)) lists.set(parent, []);
    lists.get(parent).push(node);
  }
  for (const list of lists.values()) list.sort((a, b) => a.created - b.created);
  return lists;
}

const picked = (chat, place, list) => list.find(({ id }) => id === chat.chosen[place]) ?? list.at(-1);

/**
 * What is seen of a conversation: `{asked, branches, lanes: [{model, reply, branches}]}` for each turn.
 * `branches` are the alternatives, that which is seen among them.
 */
export function turns(chat) {
  const lists = below(chat);
  const seen = [];
  for (let place = "root"; lists.has(place);) {
    const branches = lists.get(place);
    const asked = picked(chat, place, branches);
    const replies = lists.get(asked.id) ?? [];
    const apart = asked.models.length > 1;
    const lanes = apart
      ? asked.models.map((model) => lane(chat, asked, replies, model))
      : [
          {
            model: asked.models[0],
            branches: replies,
            reply: picked(chat, asked.id, replies),
            place: asked.id,
          },
        ];
    seen.push({ asked, branches, place, lanes });
    place = lanes[0].reply?.id;
  }
  return seen;
}

function lane(chat, asked, replies, model) {
  const branches = replies.filter((reply) => reply.model === model);
  const place = `${asked.id}/${model}`;
  return { model, branches, place, reply: picked(chat, place, branches) };
}

/**
 * The messages that a model reads before it replies to `asked`: its own replies where several stand side by
 * side. A problem of a task is asked alone, as it is when a model is measured.
 */
export function history(chat, asked, model) {
  if (asked.check) return asked.check.messages ?? [{ role: "user", content: asked.text }];
  const messages = [];
  for (const turn of turns(chat)) {
    if (turn.asked.id === asked.id) break;
    const own = turn.lanes.find((each) => each.model === model) ?? turn.lanes[0];
    if (!own.reply?.text) continue;
    messages.push({ role: "user", content: turn.asked.text }, { role: "assistant", content: own.reply.text });
  }
  return [...messages, { role: "user", content: asked.text }];
}

/** Adds a question after what is seen last, or beside `beside` as a branch of it. */
export function addAsked(chat, { text, models, check = null, beside = null }) {
  const seen = turns(chat);
  const parent = beside ? beside.parent : (seen.at(-1)?.lanes[0].reply?.id ?? null);
  const asked = { id: freshId(), role: "user", parent, text, models, check, created: stamp(chat) };
  chat.nodes[asked.id] = asked;
  chat.chosen[parent ?? "root"] = asked.id;
  if (!chat.title) chat.title = titled(text);
  return asked;
}

/** Adds an empty reply of a model, and shows it. */
export function addReply(chat, asked, model, more = {}) {
  const reply = {
    id: freshId(),
    role: "assistant",
    parent: asked.id,
    model,
    text: "",
    thinking: "",
    finish: null,
    n: 0,
    created: stamp(chat),
    ...more,
  };
  chat.nodes[reply.id] = reply;
  chat.chosen[asked.models.length > 1 ? `${asked.id}/${model}` : asked.id] = reply.id;
  return reply;
}

const stamp = (chat) => {
  chat.updated = Date.now();
  return Math.max(chat.updated, 1 + Math.max(0, ...Object.values(chat.nodes).map(({ created }) => created)));
};

export function titled(text) {
  const line = text.trim().split("\n")[0];
  return line.length > 60 ? `${line.slice(0, 57).trimEnd()}…` : line;
}

/** Every text of a conversation, for a search. */
export function* texts(chat) {
  yield chat.title;
  for (const node of Object.values(chat.nodes)) {
    yield node.text;
    if (node.thinking) yield node.thinking;
  }
}
