"""What the description of the API cannot say: which app a call is for, in what order calls are made, and with what.

An operation that is not in STEPS gets into the collection all the same, at the end of its tag, as it is described.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

USER = "user-123"

INPUTS: Mapping[str, Mapping[str, Any]] = {
    "api_key": {"product_name": "Thermos Bottle"},
    "chat_api_key": {},
    "completion_api_key": {"product": "green tea"},
}
"""By the key of each app, what it takes: product-detail.yml, chat.yml and completion.yml."""

TAGS: Mapping[str, str] = {
    "Health": "api_key",
    "App": "api_key",
    "Runs": "api_key",
    "Asynchronous runs": "api_key",
    "Apps": "workspace_key",
    "Statistics": "workspace_key",
    "Human input": "api_key",
    "Callbacks": "api_key",
    "Batches": "api_key",
    "Triggers": "api_key",
    "Versions": "api_key",
    "Files": "api_key",
    "Keys": "workspace_key",
    "Chat": "chat_api_key",
    "Feedback": "chat_api_key",
    "Conversations": "chat_api_key",
    "Annotations": "chat_api_key",
    "Speech": "chat_api_key",
    "OpenAI": "chat_api_key",
    "Knowledge bases": "knowledge_key",
    "Documents": "knowledge_key",
    "Segments": "knowledge_key",
    "Metadata": "knowledge_key",
    "Tags": "knowledge_key",
    "Models": "knowledge_key",
    "Pipelines": "knowledge_key",
}
"""In what order the tags come, and which app their calls are for."""

ENVIRONMENT: Mapping[str, tuple[str, str]] = {
    "base_url": ("HEADRACE_URL", "http://127.0.0.1:8040"),
    "api_key": ("HEADRACE_API_KEY", ""),
    "chat_api_key": ("HEADRACE_CHAT_API_KEY", ""),
    "completion_api_key": ("HEADRACE_COMPLETION_API_KEY", ""),
    "workspace_key": ("HEADRACE_WORKSPACE_KEY", ""),
    "knowledge_key": ("HEADRACE_KNOWLEDGE_KEY", ""),
    "callback_url": ("HEADRACE_CALLBACK_URL", "http://127.0.0.1:8041/hook"),
}
"""What has to be known from outside: by the name of the variable, that of the environment's, and its usual value."""

QUERY: Mapping[str, str] = {"user": USER, "from": "{{version_id}}", "conversation_id": "{{conversation_id}}"}
"""Values of the query parameters that a call has to have; `user` goes with every call that takes one."""


@dataclass(frozen=True)
class Step:
    """One call of an operation. What is left out is as the operation is described.

    `saves`: by the name of a variable, where the answer has its value; `refusals`: statuses, beside the good ones, that
    are a right answer; `with_` is put into a JSON body; `path`: what parameters of the path stand for.
    """

    operation: str
    title: str = ""
    tag: str = ""
    key: str = ""
    url: str = ""
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    path: Mapping[str, str] = field(default_factory=dict[str, str])
    body: str = ""
    file: str = ""
    with_: Mapping[str, Any] = field(default_factory=dict[str, Any])
    saves: Mapping[str, str] = field(default_factory=dict[str, str])
    refusals: tuple[int, ...] = ()


_BATCH = '{"inputs": {"product_name": "Thermos Bottle"}}\n{"inputs": {"product_name": "Green Tea Set"}}\n'
_STREAM = {"response_mode": "streaming"}
_ECONOMY = {
    "name": "{{$guid}}",
    "indexing_technique": "economy",
    "embedding_model": None,
    "embedding_model_provider": None,
    "retrieval_model": None,
}
_DOCUMENTS = {"document_ids": ["{{document_id}}"]}
_SHORT = {"product_name": "Tea"}  # refused by the workflow: the run fails

STEPS: Sequence[Step] = (
    Step(
        "runWorkflow",
        saves={
            "task_id": "task_id",
            "workflow_run_id": "workflow_run_id",
            "workflow_id": "data.workflow_id",
        },
    ),
    Step("runWorkflow", "Run the workflow, and follow it", with_=_STREAM),
    Step("runWorkflowVersion"),
    Step("getWorkflowRun"),
    Step("followWorkflowRun"),
    Step("followWorkflowRun", "Follow a run from where it was cut off", headers={"Last-Event-ID": "3"}),
    Step("stopWorkflowTask"),
    Step("listWorkflowLogs"),
    Step("submitRun", headers={"Idempotency-Key": "order-{{$guid}}"}, saves={"submitted_run_id": "workflow_run_id"}),
    Step(
        "getRun",
        query={"wait": "30"},
        path={"workflow_run_id": "submitted_run_id"},
        saves={"ended_run_id": "id", "app_id": "app_id"},
    ),
    Step("listNodeExecutions", path={"workflow_run_id": "ended_run_id"}),
    Step("followRun", path={"workflow_run_id": "ended_run_id"}),
    Step("followRuns", query={"seconds": "1"}),
    Step("stopRun", path={"workflow_run_id": "submitted_run_id"}),
    Step(
        "submitRun", "Run a workflow that fails", with_={"inputs": _SHORT}, saves={"failing_run_id": "workflow_run_id"}
    ),
    Step(
        "getRun",
        "Wait until it has failed",
        query={"wait": "30"},
        path={"workflow_run_id": "failing_run_id"},
        saves={"failed_run_id": "id"},
    ),
    Step("retryRun", path={"workflow_run_id": "failed_run_id"}),
    Step("replayRun", path={"workflow_run_id": "ended_run_id"}, with_={"inputs": INPUTS["api_key"]}),
    Step(
        "forkRun",
        path={"workflow_run_id": "ended_run_id"},
        with_={"node_id": "end", "outputs": {"picture": {"output": "https://example.com/thermos.png"}}},
    ),
    Step("listRuns"),
    Step("getServerMeta"),
    Step("listApps"),
    Step("lintApp"),
    Step("createApp", saves={"new_app_id": "id"}),
    Step("getApp", path={"app_id": "new_app_id"}),
    Step("getAppGraph", path={"app_id": "new_app_id"}),
    Step("getAppForm", path={"app_id": "new_app_id"}),
    Step("getAppSource", path={"app_id": "new_app_id"}),
    Step("renameApp", path={"app_id": "new_app_id"}),
    Step("removeApp", path={"app_id": "new_app_id"}),
    Step("getStats"),
    Step("listForms"),
    # no example waits for a person, so there is no form
    Step("getHumanInputForm", path={"form_token": "=no-form"}, refusals=(404,)),
    Step("submitHumanInputForm", path={"form_token": "=no-form"}, refusals=(404,)),
    Step(
        "submitRun",
        "Run a workflow, and be called when it has ended",
        tag="Callbacks",
        with_={"callback_url": "{{callback_url}}"},
        saves={"calling_run_id": "workflow_run_id"},
    ),
    Step(
        "getRun",
        "Wait for its end",
        tag="Callbacks",
        query={"wait": "30"},
        path={"workflow_run_id": "calling_run_id"},
        saves={"called_run_id": "id"},
    ),
    Step("listCallbacks", path={"workflow_run_id": "called_run_id"}, saves={"callback_id": "data.0.id"}),
    Step("resendCallback"),
    Step("getCallbackSecret"),
    Step("beginBatch", body=_BATCH, saves={"batch_id": "batch_id"}),
    Step("getBatch"),
    Step("listBatches"),
    Step("getBatchResults"),
    Step("stopBatch"),
    Step("listTriggers"),
    # the app has none
    Step("pauseTrigger", path={"trigger_id": "workflow_id"}, refusals=(404,)),
    Step("resumeTrigger", path={"trigger_id": "workflow_id"}, refusals=(404,)),
    Step("fireTrigger", path={"trigger_id": "workflow_id"}, refusals=(404,)),
    Step("listSubscriptions", key="workspace_key"),
    # no plugin is installed
    Step("subscribe", key="workspace_key", refusals=(400,)),
    Step("refreshSubscription", key="workspace_key", path={"subscription_id": "workflow_id"}, refusals=(404,)),
    Step("unsubscribe", key="workspace_key", path={"subscription_id": "workflow_id"}, refusals=(404,)),
    Step("listWorkflowVersions"),
    Step(
        "publishWorkflowVersion",
        "Publish a version that calls do not run yet",
        query={"current": "false"},
        saves={"version_id": "id"},
    ),
    Step("getWorkflowVersion"),
    Step("diffWorkflowVersions"),
    Step("pinWorkflowVersion"),
    Step("rollBackWorkflow"),
    Step("pinWorkflowVersion", "Make the version from before the current one", path={"version_id": "workflow_id"}),
    Step(
        "uploadFile",
        file="files/hello.txt",
        saves={"file_id": "id", "end_user_id": "created_by", "source_url": "source_url"},
    ),
    Step("previewFile"),
    Step("getEndUser"),
    Step("signedFile", url="{{source_url}}"),
    Step("signedToolFile", url="{{base_url}}/files/tools/unsigned.png", refusals=(403,)),
    Step("createKey", with_={"apps": None}, saves={"key_id": "id"}),
    Step("listKeys"),
    Step("getKey"),
    Step("rotateKey", saves={"next_key_id": "id"}),
    Step("revokeKey"),
    Step("revokeKey", "Revoke its successor", path={"key_id": "next_key_id"}),
    Step("listKeyChanges"),
    Step(
        "sendChatMessage",
        with_={"query": "How do I make good tea?"},
        saves={
            "chat_task_id": "task_id",
            "message_id": "message_id",
            "conversation_id": "conversation_id",
        },
    ),
    Step(
        "sendChatMessage", "Go on with a conversation", with_={"query": "?", "conversation_id": "{{conversation_id}}"}
    ),
    Step("sendChatMessage", "Send a message, and follow the answer", with_=_STREAM),
    Step("stopChatMessage", path={"task_id": "chat_task_id"}),
    Step("sendCompletionMessage", key="completion_api_key", saves={"completion_task_id": "task_id"}),
    Step("sendCompletionMessage", "Complete a text, and follow it", key="completion_api_key", with_=_STREAM),
    Step("stopCompletionMessage", key="completion_api_key", path={"task_id": "completion_task_id"}),
    Step("giveFeedback"),
    Step("listFeedbacks"),
    Step("listConversations"),
    Step("listMessages"),
    Step("listSuggestedQuestions"),
    Step("listConversationVariables", saves={"variable_id": "data.0.id"}),
    Step("assignConversationVariable", with_={"value": "tea"}),
    Step("renameConversation"),
    Step("deleteConversation"),
    Step("addAnnotation", saves={"annotation_id": "id"}),
    Step("listAnnotations"),
    Step("changeAnnotation"),
    Step("switchAnnotationReply", saves={"job_id": "job_id"}),
    Step("getAnnotationReplyStatus"),
    Step("switchAnnotationReply", "Switch annotation reply off", path={"action": "=disable"}),
    Step("removeAnnotation"),
    # without a provider of speech, these are refused
    Step("audioToText", file="files/silence.wav", refusals=(400,)),
    Step("textToAudio", refusals=(400,)),
    Step("listModels", saves={"model": "data.0.id"}),
    Step("getModel"),
    Step("createChatCompletion", with_={"model": "{{model}}"}),
    Step(
        "createChatCompletion", "Call the app as a model, and follow it", with_={"model": "{{model}}", "stream": True}
    ),
    Step("createResponse", with_={"model": "{{model}}"}, saves={"response_id": "id"}),
    Step("getResponse"),
    Step("cancelResponse"),
    Step("createDataset", with_=_ECONOMY, saves={"dataset_id": "id"}),
    Step("listDatasets"),
    Step("getDataset"),
    Step("changeDataset", with_={"name": "a {{$guid}}"}),
    Step("retrieveSegments", with_={"retrieval_model": None}),
    Step("createDataset", "Create another one", with_=_ECONOMY, saves={"other_dataset_id": "id"}),
    Step("removeDataset", path={"dataset_id": "other_dataset_id"}),
    Step(
        "createDocumentByText",
        with_={"indexing_technique": "economy"},
        saves={"document_id": "document.id", "batch": "batch"},
    ),
    Step("createDocumentByFile", file="files/hello.txt", saves={"file_document_id": "document.id"}),
    Step("getIndexingStatus"),
    Step("listDocuments"),
    Step("getDocument"),
    Step("getDocumentUrl"),
    Step("downloadDocuments", with_=_DOCUMENTS),
    # documents that are still being indexed cannot be changed
    Step("changeDocumentStatus", with_=_DOCUMENTS, refusals=(400,)),
    Step("changeDocumentByText", refusals=(400,)),
    Step("changeDocumentByFile", file="files/hello.txt", refusals=(400,)),
    Step("changeDocument", file="files/hello.txt", refusals=(400,)),
    Step("listKnowledgeBases"),
    Step("getKnowledgeBase"),
    Step("listKnowledgeDocuments", tag="Documents"),
    Step("getKnowledgeDocument", tag="Documents"),
    Step("renameKnowledgeDocument", tag="Documents", with_={"name": "hello.txt"}),
    # whether it is still being indexed then is left to chance
    Step("pauseKnowledgeDocument", tag="Documents", refusals=(400,)),
    Step("resumeKnowledgeDocument", tag="Documents", refusals=(400,)),
    Step("removeDocument", path={"document_id": "file_document_id"}),
    Step("createSegments", refusals=(404,)),
    Step("listSegments"),
    # there is none before the document is indexed
    *(
        Step(name, path={"segment_id": "document_id", "child_chunk_id": "document_id"}, refusals=(404,))
        for name in (
            "getSegment",
            "changeSegment",
            "createChildChunk",
            "listChildChunks",
            "changeChildChunk",
            "removeChildChunk",
            "removeSegment",
        )
    ),
    Step("createMetadataField", saves={"metadata_id": "id"}),
    Step("renameMetadataField"),
    Step("listMetadataFields"),
    Step("listBuiltInFields"),
    Step("switchBuiltInFields"),
    Step(
        "changeDocumentsMetadata",
        with_={
            "operation_data": [
                {
                    "document_id": "{{document_id}}",
                    "metadata_list": [{"id": "{{metadata_id}}", "name": "language", "value": "en"}],
                    "partial_update": True,
                }
            ]
        },
    ),
    Step("removeMetadataField"),
    Step("createKnowledgeTag", with_={"name": "{{$guid}}"}, saves={"tag_id": "id"}),
    Step("listKnowledgeTags"),
    Step("changeKnowledgeTag", with_={"tag_id": "{{tag_id}}", "name": "{{$guid}}"}),
    Step("bindKnowledgeTags", with_={"tag_ids": ["{{tag_id}}"], "target_id": "{{dataset_id}}"}),
    Step("listDatasetTags"),
    Step("unbindKnowledgeTags", with_={"tag_ids": ["{{tag_id}}"], "target_id": "{{dataset_id}}"}),
    Step("removeKnowledgeTag", with_={"tag_id": "{{tag_id}}"}),
    Step("listKnowledgeModels"),
    # no knowledge base has a pipeline
    Step("uploadPipelineFile", file="files/hello.txt"),
    Step("listDatasourcePlugins", refusals=(400,)),
    Step("runDatasourceNode", path={"node_id": "=1"}, refusals=(400,)),
    Step("runPipeline", refusals=(400,)),
)
