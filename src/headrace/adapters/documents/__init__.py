"""The text of documents, whatever their format, within bounds that no document can leave."""

from headrace.adapters.documents.reader import DocumentReader

__all__ = ["DocumentReader"]
