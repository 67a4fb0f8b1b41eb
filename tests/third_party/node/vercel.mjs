// dify-ai-provider: a Dify app as a model of Vercel's AI SDK.
import { generateText, streamText } from "ai";
import { createDifyProvider } from "dify-ai-provider";

const [url, given] = process.argv.slice(2);
const keys = JSON.parse(given);
const provider = createDifyProvider({ baseURL: `${url}/v1` });
const headers = { "user-id": "user-1" };
const messages = [{ role: "user", content: "Hello" }];

const blocking = provider("app", { responseMode: "blocking", apiKey: keys.chat });
const first = await generateText({ model: blocking, messages, headers });
const { conversationId } = first.providerMetadata.difyWorkflowData;
const second = streamText({
  model: provider("app", { apiKey: keys.chat }),
  messages,
  headers: { ...headers, "chat-id": conversationId },
  onError: ({ error }) => {
    throw error;
  },
});
let streamed = "";
for await (const piece of second.textStream) streamed += piece;

console.log(
  JSON.stringify({
    chat: first.text,
    "chat stream": streamed,
    tokens: (await second.usage).totalTokens,
    finish: await second.finishReason,
  }),
);
