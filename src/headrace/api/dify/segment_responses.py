"""Segments and child chunks, as Dify's API returns them."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.api.dify.schemas import segments
from headrace.ports import Catalog, StoredFile
from headrace.ports.knowledge import ChildChunk, Segment
from headrace.times import whole_seconds


def segment_base(segment: Segment) -> segments.SegmentBase:
    return {
        "id": segment.id,
        "position": segment.position,
        "document_id": segment.document,
        "content": segment.content,
        "sign_content": segment.content,
        "answer": segment.answer,
        "word_count": segment.word_count,
        "tokens": segment.tokens,
        "keywords": list(segment.keywords),
        "index_node_id": segment.index_node_id or None,
        "index_node_hash": segment.index_node_hash or None,
        "hit_count": segment.hit_count,
        "enabled": segment.enabled,
        "disabled_at": whole_seconds(segment.disabled_at),
        "disabled_by": segment.disabled_by,
        "status": segment.status,
        "created_by": segment.created_by,
        "created_at": int(segment.created_at),
        "indexing_at": whole_seconds(segment.indexing_at),
        "completed_at": whole_seconds(segment.completed_at),
        "error": segment.error,
        "stopped_at": whole_seconds(segment.stopped_at),
    }


def segment_body(
    segment: Segment, chunks: Sequence[ChildChunk], attachments: Sequence[segments.Attachment]
) -> segments.Segment:
    return {
        **segment_base(segment),
        "updated_at": int(segment.updated_at),
        "updated_by": segment.updated_by,
        "child_chunks": [chunk_body(chunk) for chunk in chunks],
        "attachments": list(attachments),
        "summary": segment.summary,
    }


def chunk_body(chunk: ChildChunk) -> segments.ChildChunk:
    return {
        "id": chunk.id,
        "segment_id": chunk.segment,
        "content": chunk.content,
        "position": chunk.position,
        "word_count": chunk.word_count,
        "type": chunk.type,
        "created_at": int(chunk.created_at),
        "updated_at": int(chunk.updated_at),
    }


async def attachments_of(segment: Segment, workspace: str, catalog: Catalog) -> list[segments.Attachment]:
    """The files of a segment; those that are gone, or of another workspace, are left out."""
    files = [await catalog.find_file(file) for file in segment.attachments]
    return [_attachment(file) for file in files if file is not None and await _is_of(workspace, file, catalog)]


async def _is_of(workspace: str, file: StoredFile, catalog: Catalog) -> bool:
    """Whether a file was uploaded in a workspace: for a pipeline, or for an app."""
    if file.app is None:
        return file.owner == workspace
    app = await catalog.app(file.app)
    return app is not None and app.workspace == workspace


def _attachment(file: StoredFile) -> segments.Attachment:
    return {
        "id": file.id,
        "name": file.file.filename or file.id,
        "size": file.file.size,
        "extension": (file.file.extension or "").lstrip("."),
        "mime_type": file.file.mime_type or "",
        "source_url": file.file.url or "",
    }
