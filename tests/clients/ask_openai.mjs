// What OpenAI's client for Node asks.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { VERSION } from "openai/version";

const ANSWER = "The lamp is on.";
const client = new OpenAI({ baseURL: process.env.BASE + "/v1", apiKey: "none", maxRetries: 0 });
const ask = { model: "lamp", messages: [{ role: "user", content: "What is it?" }], temperature: 0 };
const parameters = {
  type: "object", properties: { city: { enum: ["Paris", "Rome"] } },
  required: ["city"], additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "weather", parameters } }];

const whole = await client.chat.completions.create(ask);
assert.equal(whole.choices[0].message.content, ANSWER);
let text = "";
for await (const part of await client.chat.completions.create({ ...ask, stream: true }))
  text += part.choices[0]?.delta?.content ?? "";
assert.equal(text, ANSWER);
const wish = { ...ask, tools, tool_choice: "required", parallel_tool_calls: false };
const called = await client.chat.completions.stream(wish).finalChatCompletion();
assert.equal(called.choices[0].finish_reason, "tool_calls");
const [call] = called.choices[0].message.tool_calls;
assert.ok(["Paris", "Rome"].includes(JSON.parse(call.function.arguments).city));
const ran = client.chat.completions.runTools({
  ...ask, tool_choice: { type: "function", function: { name: "weather" } }, parallel_tool_calls: false,
  tools: [{
    type: "function",
    function: { name: "weather", parameters, parse: JSON.parse, function: () => "sunny" },
  }],
});
assert.equal(await ran.finalFunctionToolCallResult(), "sunny");
const schema = { name: "x", strict: true, schema: parameters };
const format = { type: "json_schema", json_schema: schema };
const held = await client.chat.completions.create({ ...ask, response_format: format });
assert.ok(JSON.parse(held.choices[0].message.content).city);
const response = await client.responses.create({ model: "lamp", input: "What is it?", temperature: 0 });
assert.equal(response.output_text, ANSWER);
const question = { model: "lamp", input: "What is it?", temperature: 0 };
const final = await client.responses.stream(question).finalResponse();
assert.equal(final.output_text, ANSWER);
await assert.rejects(
  client.chat.completions.create({ ...ask, messages: [] }),
  (error) => error.status === 400 && error.param === "messages",
);
console.log("openai for Node", VERSION);
