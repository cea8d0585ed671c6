// What Vercel's SDK asks through @ai-sdk/openai-compatible.
import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, Output, streamText, tool } from "ai";

const ANSWER = "The lamp is on.";
const lamp = createOpenAICompatible({
  name: "nomoat", baseURL: process.env.BASE + "/v1", apiKey: "none", includeUsage: true,
  supportsStructuredOutputs: true,
})("lamp");
const ask = { model: lamp, prompt: "What is it?", temperature: 0, maxRetries: 0 };
const inputSchema = jsonSchema({
  type: "object", properties: { city: { enum: ["Paris", "Rome"] } },
  required: ["city"], additionalProperties: false,
});

assert.equal((await generateText(ask)).text, ANSWER);
const stream = streamText(ask);
let text = "";
for await (const part of stream.textStream) text += part;
assert.equal(text, ANSWER);
assert.ok((await stream.usage).outputTokens > 0);
const once = { ...ask, tools: { weather: tool({ inputSchema }) }, toolChoice: "required" };
const called = await generateText(once);
assert.equal(called.toolCalls[0].toolName, "weather");
const calls = await streamText(once).toolCalls;
assert.ok(["Paris", "Rome"].includes(calls[0].input.city));
const held = await generateText({ ...ask, output: Output.object({ schema: inputSchema }) });
assert.ok(["Paris", "Rome"].includes(held.output.city));
const low = { nomoat: { reasoningEffort: "low" } };
const thought = await generateText({ ...ask, maxOutputTokens: 12, providerOptions: low });
assert.ok(thought.reasoningText.length > 0);
console.log("@ai-sdk/openai-compatible");
