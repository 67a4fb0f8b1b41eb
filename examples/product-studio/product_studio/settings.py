"""The settings: environment variables, or a `.env` file in the folder the application is started from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

FOLDER = Path(__file__).resolve().parents[1]
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_DOTNET_LEVELS = {"TRACE": "DEBUG", "INFORMATION": "INFO"}


class SettingsError(Exception):
    """Settings that are missing or wrong, by name."""


def _level(value: object) -> object:
    """Python's name for a level: upper and lower case, and ASP.NET's names, mean the same."""
    return _DOTNET_LEVELS.get(value.upper(), value.upper()) if isinstance(value, str) else value


Level = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_level)]


class Logging(BaseModel):
    """Levels by the name of a logger and all below it; `default` is everything else."""

    loglevel: dict[str, Level] = {}


class Settings(BaseSettings):
    """Each field is an environment variable of the same name, in upper or lower case; an empty one counts as unset."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, env_nested_delimiter="__", extra="ignore", populate_by_name=True
    )

    dify_workflow_api_endpoint: str = Field(
        validation_alias=AliasChoices("DIFY_WORKFLOW_API_ENDPOINT", "DifyWorkFlowApiEndpoint")
    )
    """Where the workflow is served; ends in nothing, `/v1` or `/v1/workflows/run`."""
    dify_create_product_detail_api_key: SecretStr = Field(
        validation_alias=AliasChoices("DIFY_CREATE_PRODUCT_DETAIL_API_KEY", "DifyCreateProductDetailApiKey")
    )
    dify_user_id: str = Field("local-dev-test", validation_alias=AliasChoices("DIFY_USER_ID", "DifyUserId"))
    allowed_hosts: str = Field("", validation_alias=AliasChoices("ALLOWED_HOSTS", "AllowedHosts"))
    """The names under which browsers reach this server, separated by `;`. `*`: any; `*.example.com`: all below it."""
    log_level: Level = "INFO"
    logging: Logging = Logging()
    """`Logging__LogLevel__Default`, `Logging__LogLevel__product_studio.service` ..."""
    environment: str = "local"
    """Named in every log line."""
    studio_host: str = "127.0.0.1"
    studio_port: Annotated[int, Field(ge=0, le=65535)] = 8050
    """0 picks a free one."""
    studio_database: Path = FOLDER / "data" / "products.db"
    studio_page: Path = FOLDER / "web" / "dist"
    """The built front end."""

    @field_validator("dify_workflow_api_endpoint")
    @classmethod
    def _server(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("it must begin with http:// or https://")
        return value.rstrip("/").removesuffix("/workflows/run")

    @property
    def hosts(self) -> frozenset[str]:
        """The allowed hosts. A server that only this machine reaches allows its names only: without that, a page of
        any site could call it under a name that it has pointed here (DNS rebinding)."""
        names = frozenset(name.strip().lower() for name in self.allowed_hosts.split(";")) - {""}
        return names or frozenset(_LOOPBACK if self.studio_host in _LOOPBACK else "*")

    @property
    def log_levels(self) -> dict[str, str]:
        """Levels by logger; "" is the root of all."""
        levels: dict[str, str] = dict(self.logging.loglevel)
        root = levels.pop("default", self.log_level)
        # httpx logs a line for every request
        return {"": root, "httpx": root if root == "DEBUG" else "WARNING"} | levels


def load() -> Settings:
    """The settings. SettingsError names each variable that is missing or wrong."""
    try:
        return Settings.model_validate({})
    except ValidationError as error:
        problems: list[str] = []
        for problem in error.errors(include_url=False, include_input=False):
            name = "__".join(map(str, problem["loc"])).upper()
            message = problem["msg"].removeprefix("Value error, ")
            problems.append(f"{name} is not set" if problem["type"] == "missing" else f"{name} is wrong: {message}")
        raise SettingsError("; ".join(problems)) from None  # the cause would show values
