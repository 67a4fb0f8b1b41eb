// dify-client, the official client for Node, used as its README uses it.
import { ChatClient, CompletionClient, DifyClient } from "dify-client";

const [url, given] = process.argv.slice(2);
const keys = JSON.parse(given);
const base = `${url}/v1`;

/** The events of a stream, cut into lines and read as code for this client does. */
async function events(response) {
  const found = [];
  let rest = "";
  for await (const data of response.data) {
    rest += data.toString();
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: ")) found.push(JSON.parse(line.slice(6)));
      else if (line !== "" && line !== "event: ping") throw new Error(`not a line of Dify's: ${line}`);
    }
  }
  return found;
}

const completion = new CompletionClient(keys.completion, base);
const written = await completion.createCompletionMessage({ query: "Hello" }, "user-1");
const workflow = new CompletionClient(keys.workflow, base);
const run = await workflow.runWorkflow({ query: "Hello" }, "user-1");
const runEvents = await events(await workflow.runWorkflow({ query: "Hello" }, "user-1", true));

const chat = new ChatClient(keys.chat, base);
const chatEvents = await events(await chat.createChatMessage({}, "Hello", "user-1", true, null));
const conversation = chatEvents.at(-1).conversation_id;
const messages = await chat.getConversationMessages("user-1", conversation);
const renamed = await chat.renameConversation(conversation, "New name", "user-1");
const conversations = await chat.getConversations("user-1");
const parameters = await new DifyClient(keys.chat, base).getApplicationParameters("user-1");
const refused = await workflow.runWorkflow({}, "user-1").catch((error) => error.response.data.code);

console.log(
  JSON.stringify({
    completion: written.data.answer,
    workflow: [run.data.data.status, run.data.data.outputs],
    "workflow stream": runEvents.map(({ event }) => event),
    "chat stream": chatEvents.map(({ event, answer }) => (event === "message" ? answer : "")).join(""),
    messages: messages.data.data.map(({ query, answer }) => [query, answer]),
    renamed: renamed.data.name,
    conversations: conversations.data.data.map(({ name }) => name),
    opening: parameters.data.opening_statement,
    refused,
  }),
);
