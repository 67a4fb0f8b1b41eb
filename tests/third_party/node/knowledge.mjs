// dify-client's calls of knowledge bases. No published version has a class for them: its users call sendRequest, as here.
import { DifyClient } from "dify-client";

const [url, given] = process.argv.slice(2);
const client = new DifyClient(JSON.parse(given).knowledge, `${url}/v1`);
const send = async (...request) => (await client.sendRequest(...request)).data;

const base = `/datasets/${(await send("POST", "/datasets", { name: "Guides", indexing_technique: "economy" })).id}`;
const listed = await send("GET", "/datasets", null, { keyword: "Guides", page: 1, limit: 20 });

/** The states of a batch, once they are final. */
async function indexed({ batch }) {
  for (let attempt = 0; attempt < 600; attempt++) {
    const { data } = await send("GET", `${base}/documents/${batch}/indexing-status`);
    const states = data.map(({ indexing_status }) => indexing_status);
    if (states.every((state) => ["completed", "error", "paused"].includes(state))) return states;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error("not indexed after a minute");
}

const settings = { indexing_technique: "economy", process_rule: { mode: "automatic" } };
const text = "The pump starts when the valve is open.";
const written = await send("POST", `${base}/document/create-by-text`, { name: "pump", text, ...settings });
const form = new FormData();
form.append("data", JSON.stringify(settings));
form.append("file", new Blob(["# Motor\n\nThe motor needs oil."], { type: "text/markdown" }), "motor.md");
const multipart = { "Content-Type": "multipart/form-data" };
const uploaded = await send("POST", `${base}/document/create-by-file`, form, null, false, multipart);
const states = [...(await indexed(written)), ...(await indexed(uploaded))];
const document = `${base}/documents/${written.document.id}`;
const segments = [{ content: "A filter keeps sand away.", keywords: ["filter"] }];
const added = await send("POST", `${document}/segments`, { segments });
const segment = { content: "A sieve keeps sand away.", keywords: ["sieve"], enabled: true };
const changed = await send("POST", `${document}/segments/${added.data[0].id}`, { segment });
const retrieved = await send("POST", `${base}/retrieve`, { query: "Which sieve?" });
const field = await send("POST", `${base}/metadata`, { type: "string", name: "language" });
const metadata_list = [{ id: field.id, name: "language", value: "en" }];
const operation_data = [{ document_id: written.document.id, metadata_list }];
await send("POST", `${base}/documents/metadata`, { operation_data });
const fields = await send("GET", `${base}/metadata`);
const builtIn = await send("POST", `${base}/metadata/built-in/enable`);
const disabled = await send("PATCH", `${base}/documents/status/disable`, { document_ids: [uploaded.document.id] });
const deleted = await client.sendRequest("DELETE", `${document}/segments/${added.data[0].id}`);
await client.sendRequest("DELETE", `${base}/documents/${uploaded.document.id}`);
const left = await send("GET", `${base}/documents`);
await client.sendRequest("DELETE", base);
const gone = await send("GET", base).catch((error) => error.response.data);

console.log(
  JSON.stringify({
    datasets: listed.data.map(({ name }) => name),
    states,
    changed: changed.data.content,
    found: retrieved.records.map((record) => record.segment.content),
    fields: fields.doc_metadata.map(({ name, count }) => [name, count]),
    "built-in": builtIn,
    disabled,
    deleted: deleted.status,
    documents: left.data.map(({ name }) => name),
    gone: [gone.status, gone.code],
  }),
);
