"""Configuration: environment variables named HEADRACE_*, in one place. `serve` has a flag for those that want one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from headrace.ports import WORKSPACE, WORKSPACE_NAME
from headrace.ports.mail import MailSetup
from headrace.ports.services import Limits
from headrace.retention import DAY, days_kept
from headrace.setting_types import (
    BaseUrl,
    BucketUrl,
    Members,
    MirrorUrl,
    ModelLimits,
    Networks,
    OptionalPath,
    Origins,
    RetentionDays,
    RootPath,
    TextList,
    WireUrl,
)

PREFIX = "HEADRACE_"
_DATA = Path(".headrace")


class Settings(BaseModel):
    """The settings of an installation: arguments, or else environment variables. Sizes in bytes, times in seconds."""

    model_config = ConfigDict(extra="ignore", validate_default=True, allow_inf_nan=False)

    data: Annotated[Path, BeforeValidator(lambda value: value or _DATA)] = Field(
        _DATA, description="Folder of the database, the files and the installation's secret"
    )
    workspace: str = Field(
        WORKSPACE, pattern=WORKSPACE_NAME, description="Workspace of the files that are served: letters, digits, . _ -"
    )
    database_url: str = Field(
        "", description="sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME; empty: headrace.db in the data folder"
    )
    wire_url: WireUrl = Field(
        "",
        description="What carries streams, stops and wake-ups between processes: redis://, rediss://, valkey:// or "
        "postgresql:// (a direct connection, not a pooler's); empty: the database, if it is PostgreSQL; off: nothing",
    )
    secret: str = Field(
        "",
        description="Secret that all processes of the installation share: 64 hexadecimal digits; empty: one is created "
        "in the data folder or, with PostgreSQL, in the database",
    )
    secret_file: OptionalPath = Field(None, description="A file with it")
    files_url: BucketUrl = Field(
        "",
        description="Where files are stored: s3://BUCKET/PREFIX, with the AWS_* variables; empty: in the data folder",
    )
    full_sync: bool = Field(False, description="SQLite waits for the disk at each commit: safe from power cuts too")
    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8040, ge=0, le=65535, description="Port to listen on; 0 picks a free one")
    public_url: BaseUrl = Field("", description="URL at which callers reach this server, for links in responses")
    root_path: RootPath = Field(
        "", description="Path prefix of a proxy, such as /api; empty: the path of the public URL"
    )
    trusted_proxies: Networks = Field(
        ["127.0.0.1", "::1"], description="Proxies (addresses, CIDRs) whose X-Forwarded headers are trusted; * for all"
    )
    tls_certificate: OptionalPath = Field(None, description="PEM file of the server's certificate and its chain: HTTPS")
    tls_key: OptionalPath = Field(None, description="PEM file of its key; unset: the key is in the certificate's file")
    tls_key_password: str = Field("", description="Password of the key's file")
    tls_client_ca: OptionalPath = Field(None, description="PEM file of the authorities that sign client certificates")
    tls_client_required: bool = Field(True, description="Reject clients without a certificate, if authorities are set")
    console: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Serve the console: auto (not on a public address without TLS or single sign-on), on or off",
    )
    max_body: int = Field(10 * 1024 * 1024, gt=0, description="Bytes of a request's body, except file uploads")
    request_seconds: float = Field(30, gt=0, description="How long a request may take to arrive")
    keep_alive_seconds: float = Field(75, gt=0, description="How long a connection may be idle: longer than a proxy's")
    drain_seconds: float = Field(10, ge=0, description="How long runs and streams may continue after SIGTERM")
    cors_origins: Origins = Field(["*"], description="Origins that browsers may call from")
    sandbox_url: BaseUrl = Field("", description="A dify-sandbox to run code nodes in, instead of the built-in one")
    sandbox_api_key: str = Field("dify-sandbox", description="Its key")
    code_packages: OptionalPath = Field(
        None,
        description="A requirements file: packages that Python code nodes may import; uv installs them at the start",
    )
    code_egress: TextList = Field(
        [],
        description="Hosts, host:port or CIDRs that code nodes may make HTTP requests to, where http-request may; "
        "*: all of these; empty: none",
    )
    egress_allow: TextList = Field(
        [], description="Hosts, host:port or CIDRs that http-request may reach although they are private"
    )
    user_agent: str = Field("python-httpx/0.27.2", description="User-Agent of http-request; the default is Dify 1.12's")
    dify_url: str = Field("", description="A Dify whose knowledge bases knowledge-retrieval searches")
    dify_dataset_key: str = Field("", description="Its key for knowledge bases")
    knowledge_url: str = Field("", description="A server of Dify's external knowledge API, without /retrieval")
    knowledge_api_key: str = Field("", description="Its key")
    knowledge_ids: TextList = Field(
        [],
        description="Ids of the knowledge bases that files name: ID_IN_THE_FILE=ID, also =local:ID, =dify:ID or "
        "=external:ID",
    )
    mcp_servers: OptionalPath = Field(
        None, description="A file of MCP servers (`mcpServers`), whose tools workflows call; see tools.md"
    )
    tools: OptionalPath = Field(
        None,
        description="A file or folder: APIs, with their OpenAPI descriptions, and apps that are tools; see tools.md",
    )
    plugins: OptionalPath = Field(
        None, description="Folder of the installed plugins; unset: plugins in the data folder; see plugins.md"
    )
    credentials: OptionalPath = Field(None, description="A YAML file of the credentials of plugins, in named sets")
    plugin_endpoints: OptionalPath = Field(
        None, description="A YAML file of the HTTP endpoints of plugins that are served, below `/e/`; see plugins.md"
    )
    plugin_triggers: OptionalPath = Field(
        None, description="A YAML file of the subscriptions of plugins that start workflows; see triggers.md"
    )
    plugin_keys: TextList = Field(
        [], description="PEM files of public keys that sign packages of plugins, besides Dify's own"
    )
    plugin_idle: float = Field(600, gt=0, description="Seconds without a call after which a plugin is stopped")
    plugin_seconds: float = Field(600, gt=0, description="How long a call of a plugin may take")
    plugin_memory: int = Field(1024**3, gt=0, description="Bytes that a plugin may allocate")
    plugin_python: str = Field(
        "", description="Python that plugins are installed with; empty: 3.12 or 3.13 where there is one, else this one"
    )
    marketplace_url: MirrorUrl = Field(
        "https://marketplace.dify.ai", description="A marketplace, or a mirror of one, to get plugins from"
    )
    summary_model: str = Field(
        "", pattern=r"^(\S+/\S+)?$", description="PROVIDER/MODEL that summarizes pages, and writes questions"
    )
    vector_index: Literal["signs", "usearch", "pgvector"] = Field(
        "signs",
        description="What finds similar chunks: signs (in memory, up to some 300,000 in a knowledge base), usearch (in "
        "memory, more) or pgvector (in PostgreSQL)",
    )
    embedding_model: str = Field("", pattern=r"^(\S+/\S+)?$", description="PROVIDER/MODEL that embeds knowledge bases")
    speech_provider: str = Field("", description="Provider of speech models; empty: openai or openai_api_compatible")
    transcription_model: str = Field("", description="Its speech-to-text model; empty: whisper-1")
    speech_model: str = Field("", description="Its text-to-speech model; empty: tts-1")
    demo_model: bool = Field(False, description="Models without credentials answer from the built-in demo provider")
    prices: OptionalPath = Field(None, description="A JSON or YAML file of model prices beyond the built-in ones")
    max_steps: int = Field(500, gt=0, description="Nodes a run may start")
    max_seconds: float = Field(1200, gt=0, description="How long a run may take")
    max_chunks: int = Field(100_000, gt=0, description="Chunks that a document of a knowledge base may have")
    max_text: int = Field(1_000_000, gt=0, description="Characters of a text output")
    max_form_seconds: float = Field(
        604_800, ge=0, description="How long a form may wait for a person before its run is stopped; 0: no limit"
    )
    code_seconds: float = Field(60, gt=0, description="How long a code node may take")
    model_concurrency: ModelLimits = Field([], description="Calls of models at once: PROVIDER=20 or PROVIDER/MODEL=5")
    max_active_requests: int = Field(0, ge=0, description="Requests that may wait for one app at once; 0: any number")
    plans: OptionalPath = Field(None, description="A YAML or JSON file with the limits of workspaces, apps and keys")
    temporal_address: str = Field("", pattern=r"^([^\s/]+:\d{1,5})?$", description="HOST:PORT of Temporal: temporal.md")
    temporal_namespace: str = Field(
        "", description="Its namespace; empty: as Temporal's configuration says, or default"
    )
    temporal_task_queue: str = Field("headrace", min_length=1, max_length=200, description="Its task queue")
    temporal_heartbeat: float = Field(15, ge=1, description="Seconds of a worker's silence until others have its runs")
    workers: int = Field(1, ge=1, le=512, description="Processes of `headrace serve`, which share its port")
    concurrency: int = Field(10_000, gt=0, description="Runs that this process drives at once")
    max_queued: int = Field(0, ge=0, description="Runs that may wait for a worker; 0: any number")
    max_queued_of_workspace: int = Field(
        0, ge=0, description="Runs of a workspace that may wait for a worker; 0: any number"
    )
    retention_days: RetentionDays = Field(
        "",
        description="How many days runs are kept after they end: 30, or by status as in failed=90 or 30,failed=90; "
        "empty: for ever",
    )
    file_url_seconds: float | None = Field(
        None, gt=0, description="How long a file's link is valid; unset: as the file"
    )
    trigger_grace: float = Field(
        3600,
        ge=60,
        description="Seconds by which the run of a schedule may be late, if no process was running when it was due",
    )
    ping_seconds: float = Field(10, gt=0, description="Seconds between pings of a silent stream")
    smtp_url: str = Field(
        "", description="Mail server: smtp://USER:PASSWORD@HOST:587 (STARTTLS) or smtps://HOST:465; empty: no e-mail"
    )
    smtp_from: str = Field("", description="Address that e-mails are from; a name may be before it, as in From lines")
    members: Members = Field(
        [], description="E-mail addresses of members that files name by their id in Dify: ID=ADDRESS"
    )
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")
    log_format: Literal["json", "console"] = Field("console", description="How `serve` logs: json or console")
    access_log: bool = Field(False, description="Log every request")
    metrics: str = Field("on", description="Prometheus metrics at /metrics: on, off, or a required bearer token")
    otel_endpoint: BaseUrl = Field(
        "", description="An OpenTelemetry collector (OTLP over HTTP); OTEL_EXPORTER_OTLP_ENDPOINT works as well"
    )
    oidc_issuer: str = Field("", description="An OpenID Connect issuer whose bearer tokens are accepted")
    oidc_audience: TextList = Field([], description="Audiences of its tokens: any of these")
    oidc_workspace_claim: str = Field("", description="Claim with a token's workspace; empty: all have the same one")
    oidc_workspace: str = Field(
        "",
        pattern=rf"^$|{WORKSPACE_NAME}",
        description="Workspace of tokens without that claim; empty: they are rejected, or HEADRACE_WORKSPACE if no "
        "claim is set",
    )
    oidc_permissions_claim: TextList = Field(
        ["scope", "scp", "roles", "permissions"],
        description="Claims with permissions; dots separate nested names, as in realm_access.roles",
    )
    oidc_permissions: TextList = Field(
        ["headrace.run=run", "headrace.read=read", "headrace.manage=manage"],
        description="Permissions of their values: VALUE=run, also VALUE=run+read+manage",
    )
    oidc_default_permissions: TextList = Field([], description="Permissions of every valid token")
    oidc_apps_claim: str = Field("", description="Claim with the ids of a token's apps, * for all; empty: all")
    oidc_algorithms: TextList = Field(["RS256", "PS256", "ES256", "EdDSA"], description="Accepted signature algorithms")
    oidc_leeway: float = Field(30, ge=0, le=600, description="Seconds by which the issuer's clock may differ")
    oidc_client_id: str = Field(
        "", description="Client id with which people sign in to the console at the issuer; empty: they cannot"
    )
    oidc_client_secret: str = Field("", description="Its secret; empty for a public client")
    oidc_scopes: str = Field("openid profile", description="Scopes that are requested when people sign in")
    oidc_allow_http: bool = Field(False, description="Allow an issuer on another machine without TLS")

    @model_validator(mode="before")
    @classmethod
    def _add_environment(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Variables that are not given as well, whose names may be in lower case."""
        variables = {name.upper(): value for name, value in os.environ.items()}
        names = {name: PREFIX + name.upper() for name in cls.model_fields}
        return {name: variables[variable] for name, variable in names.items() if variable in variables} | given

    @property
    def mail(self) -> MailSetup:
        names = ("smtp_url", "smtp_from", "public_url")
        missing = [PREFIX + name.upper() for name in names if not getattr(self, name)]
        return MailSetup(missing, dict(member.split("=", 1) for member in self.members))

    @property
    def root(self) -> str:
        """The prefix of all paths: "", or a path without a slash at its end."""
        return self.root_path or urlsplit(self.public_url).path

    @property
    def retention(self) -> dict[str, float]:
        """How many seconds runs are kept, by final status; for ever without one."""
        return {status: days * DAY for status, days in days_kept(self.retention_days).items()}

    @property
    def plugin_folder(self) -> Path:
        """The folder of the installed plugins."""
        return self.plugins or self.data / "plugins"

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.data.absolute() / 'headrace.db'}"

    @property
    def database_kind(self) -> str:
        """The kind of the database: sqlite or postgresql."""
        return self.database.partition(":")[0].partition("+")[0]

    @property
    def wire(self) -> str:
        """The URL of the wire between processes; empty if there is none."""
        if self.wire_url:
            return self.wire_url.removeprefix("off")
        pooled = "pgbouncer=true" in self.database_url  # which does not pass notifications on
        return self.database_url if self.database_url.startswith("postgres") and not pooled else ""

    @property
    def model_limits(self) -> dict[str, int]:
        """How many calls of models may be in progress at once, by PROVIDER or PROVIDER/MODEL."""
        return {name.strip(): int(count) for name, count in (limit.split("=") for limit in self.model_concurrency)}

    @property
    def limits(self) -> Limits:
        return Limits(
            max_steps=self.max_steps,
            max_seconds=self.max_seconds,
            max_text=self.max_text,
            max_form_seconds=self.max_form_seconds,
            code_seconds=self.code_seconds,
        )
