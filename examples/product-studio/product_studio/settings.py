"""What the back end is told, by environment variables or a `.env` file in the folder it is started from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

FOLDER = Path(__file__).resolve().parents[1]


class SettingsError(Exception):
    """Settings that are missing or wrong, by name."""


class Settings(BaseSettings):
    """Each field is an environment variable of the same name, in capitals; an empty one counts as not there."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore")

    dify_workflow_api_endpoint: str
    """Where the workflow is served; ends in nothing, `/v1` or `/v1/workflows/run`."""
    dify_create_product_detail_api_key: SecretStr
    dify_user_id: str = "local-dev-test"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
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

    @field_validator("log_level", mode="before")
    @classmethod
    def _capitals(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value


def load() -> Settings:
    """The settings. SettingsError names each variable that is missing or wrong."""
    try:
        return Settings.model_validate({})
    except ValidationError as error:
        wrong: list[str] = []
        for each in error.errors(include_url=False, include_input=False):
            name, message = str(each["loc"][0]).upper(), each["msg"].removeprefix("Value error, ")
            wrong.append(f"{name} is not set" if each["type"] == "missing" else f"{name} is wrong: {message}")
        raise SettingsError("; ".join(wrong)) from None  # the cause would show values
