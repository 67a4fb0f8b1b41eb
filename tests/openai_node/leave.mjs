// Leaves a stream in the middle, then gives up a call and every new attempt at it; prints what it saw as JSON.
import OpenAI from "openai";

const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey });
const messages = [{ role: "user", content: "hello" }];

let heard = "";
for await (const chunk of await client.chat.completions.create({ model: "chat", messages, stream: true })) {
  heard += chunk.choices[0]?.delta.content ?? "";
  if (heard) break;
}

let gaveUp;
try {
  await client.chat.completions.create({ model: "chat", messages }, { timeout: 700, maxRetries: 2 });
} catch (error) {
  gaveUp = error instanceof OpenAI.APIConnectionTimeoutError;
}

console.log(JSON.stringify({ heard, gaveUp }));
