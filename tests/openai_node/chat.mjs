// Chats with a served app through OpenAI's client, and prints what it got as one line of JSON.
import OpenAI from "openai";

const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [
  { role: "user", content: "My name is Ada." },
  { role: "assistant", content: "Hello Ada." },
  { role: "user", content: "Who am I?" },
];

const [model] = (await client.models.list()).data;
const whole = await client.chat.completions.create({ model: model.id, messages });

const chunks = [];
const stream = await client.chat.completions.create({
  model: model.id,
  messages,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) chunks.push(chunk);

const final = await client.chat.completions.stream({ model: model.id, messages }).finalContent();

let refused;
try {
  await client.chat.completions.create({ model: model.id, messages, n: 2 });
} catch (error) {
  refused = { status: error.status, param: error.param, code: error.code };
}

console.log(
  JSON.stringify({
    model: model.id,
    whole: whole.choices[0].message.content,
    streamed: chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""),
    pieces: chunks.length,
    finish: chunks.map((chunk) => chunk.choices[0]?.finish_reason).filter(Boolean),
    usage: chunks.at(-1).usage,
    final,
    refused,
  }),
);
