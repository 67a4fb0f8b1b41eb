"""What the operations on knowledge bases share: the caller's key, and what the path names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request

from headrace.access.keys import KNOWLEDGE
from headrace.api.auth import Knowledge, as_uuid
from headrace.api.http.errors import of_status
from headrace.api.http.params import paging
from headrace.api.http.routing import Routes, Security
from headrace.errors import Forbidden, NotFound
from headrace.ports import Principal
from headrace.ports.knowledge import Dataset, Document, Segment

if TYPE_CHECKING:
    from headrace.knowledge.service import KnowledgeService

KNOWLEDGE_KEY = Security(
    "KnowledgeKey",
    "`dataset-...`, a knowledge key, which opens all knowledge bases of its workspace and nothing else; "
    "`headrace keys create --knowledge`",
    has_permissions=False,
)
LARGEST_PAGE = 100  # Dify's limit, whatever a request asks for
PAGE, LIMIT = paging(99_999_999)
NO_DATASET = NotFound("Dataset not found.")
NO_DOCUMENT = NotFound("Document not found.")
NO_SEGMENT = NotFound("Segment not found.")
NO_API = Forbidden("Dataset api access is not enabled.")


class KnowledgeRoutes(Routes):
    """Operations on knowledge bases; see `Api.knowledge_principal` for who may call them."""

    @property
    def knowledge(self) -> KnowledgeService:
        return self.bases.service()

    @property
    def bases(self) -> Knowledge:
        """404 where this server has no knowledge bases."""
        if self.api.knowledge is None:
            raise of_status(404)
        return self.api.knowledge

    def clock(self) -> float:
        return self.api.run_service.environment.clock()

    async def dataset(self, request: Request, permission: str | None = None) -> tuple[Principal, Dataset]:
        """The caller, and the knowledge base that the path names."""
        principal = await self.api.knowledge_principal(request, permission)
        dataset = await self.knowledge.dataset(principal.workspace, path_uuid(request, "dataset_id"))
        if not dataset.enable_api and KNOWLEDGE in principal.permissions:
            raise NO_API
        return principal, dataset

    async def document(self, request: Request) -> tuple[Principal, Dataset, Document]:
        principal, dataset = await self.dataset(request)
        return principal, dataset, await self.knowledge.document(dataset, path_uuid(request, "document_id"))

    async def segment(self, request: Request) -> tuple[Principal, Dataset, Document, Segment]:
        principal, dataset, document = await self.document(request)
        return (
            principal,
            dataset,
            document,
            await self.knowledge.segments.segment(document, path_uuid(request, "segment_id")),
        )


def path_uuid(request: Request, name: str) -> str:
    """An id in the path; a path whose id is not a UUID leads nowhere."""
    return as_uuid(request.path_params[name], of_status(404))


def page_of(request: Request) -> tuple[int, int]:
    """(page, entries per page)"""
    return PAGE.of(request), min(LIMIT.of(request), LARGEST_PAGE)
