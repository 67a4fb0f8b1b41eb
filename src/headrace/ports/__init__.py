"""The protocols of storage and of communication between processes. Each has one contract suite that every
implementation passes (`tests/contracts`).

Only the journal and the catalog must be right; dispatch and the bus need only be fast: the journal restores what they
lose.
"""

from headrace.ports.async_api import (
    BATCH,
    CALLBACK,
    MAILTO,
    Batch,
    Batches,
    BatchLine,
    Callback,
    Callbacks,
    IdempotencyRecord,
    IdempotencyStore,
)
from headrace.ports.blobs import FileBlobs, RemoteContent
from headrace.ports.brokers import Bus
from headrace.ports.catalog import (
    WORKSPACE,
    WORKSPACE_NAME,
    App,
    Audited,
    Catalog,
    CodeFlow,
    EndUser,
    Identity,
    Key,
    Principal,
    SignInAttempt,
    StoredFile,
    Version,
)
from headrace.ports.conversations import (
    Annotation,
    Conversation,
    Conversations,
    ConversationVariable,
    Feedback,
    Message,
)
from headrace.ports.dispatch import Backlog, Claim, Dispatch, Drive, Priority, ReadyRun, RunQueue, Slots, priority_of
from headrace.ports.forms import Form, Forms, FormToken
from headrace.ports.journal import (
    BUCKETS_PER_OCTAVE,
    Claims,
    Journal,
    Leases,
    ListedRun,
    RunActivity,
    RunFilter,
    Runs,
    RunSums,
)
from headrace.ports.pruning import BlobStore, Pruned, Pruner, Snapshot
from headrace.ports.rate_limits import Bucket, Buckets, Slot, Taken
from headrace.ports.storage import Storage
from headrace.ports.triggers import PluginSubscription, SubscriptionStore, Triggers, TriggerState, TriggerSubscription
from headrace.ports.wire import RecordReceiver, Signal, Wire, WireCounts

__all__ = [
    "BATCH",
    "BUCKETS_PER_OCTAVE",
    "CALLBACK",
    "MAILTO",
    "WORKSPACE",
    "WORKSPACE_NAME",
    "Annotation",
    "App",
    "Audited",
    "Backlog",
    "Batch",
    "BatchLine",
    "Batches",
    "BlobStore",
    "Bucket",
    "Buckets",
    "Bus",
    "Callback",
    "Callbacks",
    "Catalog",
    "Claim",
    "Claims",
    "CodeFlow",
    "Conversation",
    "ConversationVariable",
    "Conversations",
    "Dispatch",
    "Drive",
    "EndUser",
    "Feedback",
    "FileBlobs",
    "Form",
    "FormToken",
    "Forms",
    "IdempotencyRecord",
    "IdempotencyStore",
    "Identity",
    "Journal",
    "Key",
    "Leases",
    "ListedRun",
    "Message",
    "PluginSubscription",
    "Principal",
    "Priority",
    "Pruned",
    "Pruner",
    "ReadyRun",
    "RecordReceiver",
    "RemoteContent",
    "RunActivity",
    "RunFilter",
    "RunQueue",
    "RunSums",
    "Runs",
    "SignInAttempt",
    "Signal",
    "Slot",
    "Slots",
    "Snapshot",
    "Storage",
    "StoredFile",
    "SubscriptionStore",
    "Taken",
    "TriggerState",
    "TriggerSubscription",
    "Triggers",
    "Version",
    "Wire",
    "WireCounts",
    "priority_of",
]
