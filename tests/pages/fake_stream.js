// An answer of the test's own in the place of the server's: `fake.think`, then `fake.text`, a token each
// `fake.ms`.  A reply that has begun already thinks no more.
window.asked = [];
window.sent = 0;
const plain = window.fetch;
window.fetch = (path, options) => {
  if (path !== "/v1/chat/completions") return plain(path, options);
  const body = JSON.parse(options.body);
  window.asked.push(body);
  return Promise.resolve(
    new Response(answer(options.signal, body.reply_tokens ? "" : window.fake.think), {
      headers: { "Content-Type": "text/event-stream" },
    }),
  );
};

function answer(signal, think) {
  const encoder = new TextEncoder();
  return new ReadableStream({
    async start(to) {
      const send = (choice, more = {}) =>
        to.enqueue(
          encoder.encode(`data: ${JSON.stringify({ choices: choice ? [choice] : [], ...more })}\n\n`),
        );
      signal.addEventListener("abort", () => to.error(new DOMException("stopped", "AbortError")));
      send({ delta: { role: "assistant", content: "" } }, { prompt_token_ids: [1, 2, 3] });
      for (const [field, text] of [
        ["reasoning_content", think ?? ""],
        ["content", window.fake.text ?? ""],
      ]) {
        for (const token of text.match(/\S*\s*/g).filter(Boolean)) {
          if (signal.aborted) return;
          window.sent += 1;
          const entry = { token, token_id: 7, logprob: -0.1, top_logprobs: [] };
          send({ delta: { [field]: token }, token_ids: [7], logprobs: { [field]: [entry] } });
          if (window.fake.ms) await new Promise((next) => setTimeout(next, window.fake.ms));
        }
      }
      send({ delta: {}, finish_reason: "stop" });
      send(null, { timings: { predicted_n: window.sent, predicted_per_second: 100 } });
      to.enqueue(encoder.encode("data: [DONE]\n\n"));
      to.close();
    },
  });
}
