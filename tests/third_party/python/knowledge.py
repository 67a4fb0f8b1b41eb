"""dify-python-sdk's client of knowledge bases, from an empty base to what a search finds in it."""

import json
import pathlib
import sys
import tempfile
import time

from dify_client.client import KnowledgeBaseClient

url, keys = sys.argv[1], json.loads(sys.argv[2])
base, key = f"{url}/v1", keys["knowledge"]
economy = {"indexing_technique": "economy"}


def indexed(client, created):
    """The states of a batch, once they are final."""
    for _ in range(600):
        states = [item["indexing_status"] for item in client.batch_indexing_status(created["batch"]).json()["data"]]
        if all(state in ("completed", "error", "paused") for state in states):
            return states
        time.sleep(0.1)
    raise SystemExit(f"not indexed after a minute: {states}")


with KnowledgeBaseClient(key, base_url=base) as client:
    dataset = client.create_dataset("Manuals").json()
    names = [item["name"] for item in client.list_datasets().json()["data"]]

with KnowledgeBaseClient(key, base_url=base, dataset_id=dataset["id"]) as client:
    written = client.create_document_by_text("pump", "The pump starts when the valve is open.", economy).json()
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "motor.md"
        file.write_text("# Motor\n\nThe motor needs oil.")
        uploaded = client.create_document_by_file(str(file), extra_params=economy).json()
    states = indexed(client, written) + indexed(client, uploaded)
    document = written["document"]["id"]
    added = client.add_segments(document, [{"content": "A filter keeps sand away.", "keywords": ["filter"]}]).json()
    segments = client.query_segments(document, keyword="filter").json()
    changed = client.update_document_segment(
        document, added["data"][0]["id"], {"content": "A sieve keeps sand away.", "keywords": ["sieve"]}
    ).json()
    passages = client.hit_testing("Which sieve?").json()
    field = client.create_dataset_metadata({"type": "string", "name": "language"}).json()
    client.update_documents_metadata(
        [{"document_id": document, "metadata_list": [{"id": field["id"], "name": "language", "value": "en"}]}]
    )
    fields = client.get_dataset_metadata().json()["doc_metadata"]
    built_in = client.manage_built_in_metadata("enable").json()
    documents = client.list_documents(keyword="pump").json()
    client.delete_document_segment(document, added["data"][0]["id"])
    client.delete_document(uploaded["document"]["id"])
    left = client.list_documents().json()["total"]
    deleted = client.delete_dataset().status_code

print(
    json.dumps(
        {
            "datasets": names,
            "states": states,
            "segments": [item["content"] for item in segments["data"]],
            "changed": changed["data"]["content"],
            "found": [record["segment"]["content"] for record in passages["records"]],
            "fields": [[item["name"], item["count"]] for item in fields],
            "built-in": built_in,
            "documents": [item["name"] for item in documents["data"]],
            "left": left,
            "deleted": deleted,
        }
    )
)
