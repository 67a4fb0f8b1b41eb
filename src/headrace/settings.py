"""Configuration: environment variables named HEADRACE_*, in one place. `serve` has a flag for those that want one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from headrace.resources import Limits


class Settings(BaseSettings):
    """What an installation is told. Sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="HEADRACE_", extra="ignore")

    data: Path = Field(Path(".headrace"), description="Folder of the database, the files and the installation's secret")
    database_url: str = Field("", description="sqlite:///PATH; empty: headrace.db in the data folder")
    full_sync: bool = Field(False, description="SQLite waits for the disk at each commit: safe from power cuts too")
    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8040, ge=0, le=65535, description="Port to listen on; 0 picks a free one")
    public_url: str = Field("", description="Where callers reach this server, for the links in answers")
    cors_origins: Annotated[list[str], NoDecode] = Field(["*"], description="Origins that browsers may call from")
    sandbox_url: str = Field("", description="A dify-sandbox to run code nodes in, instead of the built-in one")
    sandbox_api_key: str = Field("dify-sandbox", description="Its key")
    egress_allow: Annotated[list[str], NoDecode] = Field(
        [], description="Hosts, host:port or CIDRs that http-request may reach although they are private"
    )
    user_agent: str = Field("python-httpx/0.27.2", description="How http-request introduces itself: as Dify 1.12 does")
    dify_url: str = Field("", description="A Dify whose knowledge bases knowledge-retrieval asks")
    dify_dataset_key: str = Field("", description="Its key for knowledge bases")
    knowledge_url: str = Field("", description="A server of Dify's external knowledge API, without /retrieval")
    knowledge_api_key: str = Field("", description="Its key")
    knowledge_ids: Annotated[list[str], NoDecode] = Field(
        [], description="Where a file's knowledge bases are: ID_IN_THE_FILE=ID, also =dify:ID or =external:ID"
    )
    speech_provider: str = Field("", description="Whose speech API is used; empty: openai or openai_api_compatible")
    transcription_model: str = Field("", description="Its model that understands speech; empty: whisper-1")
    speech_model: str = Field("", description="Its model that speaks; empty: tts-1")
    demo_model: bool = Field(False, description="Models without credentials answer from the built-in demo provider")
    prices: Path | None = Field(None, description="A JSON or YAML file of model prices beyond the built-in ones")
    max_steps: int = Field(500, gt=0, description="Nodes a run may start")
    max_seconds: float = Field(1200, gt=0, description="How long a run may take")
    max_text: int = Field(1_000_000, gt=0, description="Characters of a text output")
    code_seconds: float = Field(60, gt=0, description="How long a code node may take")
    max_active_requests: int = Field(0, ge=0, description="Callers that may wait for one app at once; 0: any number")
    concurrency: int = Field(10_000, gt=0, description="Runs that this process drives at once")
    file_url_seconds: float | None = Field(None, description="How long a file's link works; unset: as long as the file")
    ping_seconds: float = Field(10, gt=0, description="A silent stream says so this often")
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")

    @field_validator("cors_origins", "egress_allow", "knowledge_ids", mode="before")
    @classmethod
    def _comma_separated(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.data.absolute() / 'headrace.db'}"

    @property
    def limits(self) -> Limits:
        return Limits(
            max_steps=self.max_steps,
            max_seconds=self.max_seconds,
            max_text=self.max_text,
            code_seconds=self.code_seconds,
        )
