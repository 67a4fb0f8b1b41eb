// Gets responses of a served workflow through OpenAI's client, and prints what it got as one line of JSON.
import OpenAI from "openai";

const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const [model] = (await client.models.list()).data;
const request = { model: model.id, input: "tea" };

const whole = await client.responses.create(request);
const kinds = [];
for await (const event of await client.responses.create({ ...request, stream: true })) kinds.push(event.type);
const final = await client.responses.stream(request).finalResponse();
const schema = {
  type: "object",
  properties: { said: { type: "string" } },
  required: ["said"],
  additionalProperties: false,
};
const parsed = await client.responses.parse({
  ...request,
  text: { format: { type: "json_schema", name: "answer", strict: true, schema } },
});
const retrieved = await client.responses.retrieve(whole.id);
let resumed = "";
for await (const event of await client.responses.retrieve(whole.id, { stream: true, starting_after: 4 }))
  if (event.type === "response.output_text.delta") resumed += event.delta;
const items = [];
for await (const item of client.responses.inputItems.list(whole.id)) items.push(item.content[0].text);

let refused;
try {
  await client.responses.create({ ...request, tools: [{ type: "web_search" }] });
} catch (error) {
  refused = { status: error.status, param: error.param, code: error.code };
}

console.log(
  JSON.stringify({
    whole: whole.output_text,
    ends: [kinds[0], kinds.at(-1)],
    final: final.output_text,
    parsed: parsed.output_parsed,
    retrieved: retrieved.output_text ?? retrieved.output[0].content[0].text,
    resumed,
    items,
    refused,
  }),
);
