"""The routes of Dify's API of knowledge bases, with the older spellings of their paths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from headrace.api.auth import Api
from headrace.api.dify.dataset_access import KNOWLEDGE_KEY
from headrace.api.dify.dataset_documents import DocumentRoutes
from headrace.api.dify.dataset_metadata import MetadataRoutes
from headrace.api.dify.dataset_models import DatasetModelRoutes
from headrace.api.dify.dataset_pipelines import PipelineRoutes
from headrace.api.dify.dataset_retrieval import RetrievalRoutes
from headrace.api.dify.dataset_segments import SegmentRoutes
from headrace.api.dify.dataset_tags import DatasetTagRoutes
from headrace.api.dify.dataset_uploads import DocumentUploadRoutes
from headrace.api.dify.datasets import DatasetRoutes
from headrace.api.http.routing import ApiRoute

PREFIX = "/v1"
OLD_SPELLINGS = (("-by-text", "_by_text"), ("-by-file", "_by_file"), ("/retrieve", "/hit-testing"))
"""Ends of paths, and what clients of older versions of Dify call instead."""


def knowledge_routes(api: Api) -> list[ApiRoute]:
    subjects = (
        DatasetTagRoutes,  # first: the word tags would match {dataset_id}, too
        DatasetRoutes,
        RetrievalRoutes,
        DocumentUploadRoutes,
        DocumentRoutes,
        SegmentRoutes,
        MetadataRoutes,
        DatasetModelRoutes,
        PipelineRoutes,
    )
    routes = [route for subject in subjects for route in subject(api).mounted(PREFIX, KNOWLEDGE_KEY)]
    return [*routes, *_old_spellings(routes)]


def _old_spellings(routes: list[ApiRoute]) -> Iterator[ApiRoute]:
    for route in routes:
        for end, old in OLD_SPELLINGS:
            if route.path.endswith(end):
                path = route.operation.path.removesuffix(end) + old
                alias = ApiRoute(replace(route.operation, path=path), route.endpoint, route.tag, PREFIX, route.security)
                alias.include_in_schema = False
                yield alias
