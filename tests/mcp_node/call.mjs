// call.mjs URL KEY MODE: lists the tools, calls the first with progress and without arguments, cancels a call. Ends with
// its input.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const [url, key, mode] = process.argv.slice(2);
const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode } });
const headers = { Authorization: `Bearer ${key}` };
await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }));
const [tool] = (await client.listTools()).tools;
const progress = [];
const onprogress = (update) => progress.push(update.message);
const result = await client.callTool({ name: tool.name, arguments: { query: "hello" } }, { onprogress });
const wrong = await client.callTool({ name: tool.name, arguments: {} });
const unknown = await client.callTool({ name: "nothing", arguments: {} }).catch((error) => error);
const abort = new AbortController();
const waiting = client.callTool(
  { name: tool.name, arguments: { query: "wait" } },
  { signal: abort.signal, onprogress: (update) => update.message === "Hold" && abort.abort() },
);
const cancelled = await waiting.catch(() => "cancelled");
process.stdout.write(
  JSON.stringify({
    version: client.getNegotiatedProtocolVersion(),
    tool: tool.name,
    outputs: result.structuredContent,
    progress,
    wrong: [wrong.isError, wrong.content[0].text],
    unknown: unknown.code,
    cancelled,
  }),
);
await new Promise((resolve) => process.stdin.on("end", resolve).resume()); // closing would cut short what is being sent
await client.close();
