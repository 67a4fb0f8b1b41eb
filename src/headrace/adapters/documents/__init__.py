"""Extracts the text of documents of many formats, within fixed limits."""

from headrace.adapters.documents.reader import DocumentReader

__all__ = ["DocumentReader"]
