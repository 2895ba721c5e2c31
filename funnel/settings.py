"""What an operator can set (CONTRACT.md 8): parsed once, at the start of a process, then frozen.

The environment counts before `.env`. In both a secret may be given as `NAME_FILE`, the path of a
file that holds it. No value is ever repeated in a message: it may be a secret in the wrong place.
"""

import os
import re
import secrets
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, FilePath, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from contract.topics import Topics
from domain.limits import BULK_CHUNK_ITEMS, BULK_CHUNK_ITEMS_MAX, DEAD_LETTERS_KEPT_DAYS
from funnel import otel_variables

SECRETS = (
    "DATABASE_URL",
    "KAFKA_SASL_PASSWORD",
    "FUNNEL_WRITE_LIMIT_STORAGE",
    "FUNNEL_CURSOR_KEY",
    *otel_variables.SECRETS,
)
TESTS_PREFIX = "FUNNEL_TEST_"
"""Variables that begin so are read by the tests: no reason to warn of them."""

ONLY_IF_SET = frozenset({"crash_at", "pause_at"})
"""For tests of this service: not shown to people who have not asked for them."""

WORDS = frozenset({"memory"})
"""Values of secret settings that are none."""

CONSUMER_ID_DEFAULT_BYTES = 4
PORT_MAX = 65_535

_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/@]+):(?P<port>[0-9]{1,5})")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?")


Variables = Mapping[str, str | None]


class BadSettings(Exception):
    """A setting cannot be used; the message is one line that names the variable."""


def _postgresql_url(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    if url and urlsplit(url).scheme not in ("postgresql", "postgres"):
        raise ValueError("must begin with postgresql://")
    if url and not _is_whole(url):
        raise ValueError("is not a valid URL; a password in it must be percent-encoded")
    return value


def _is_whole(url: str) -> bool:
    """Does it come apart as meant? A `/`, `?` or `#` in a password ends the address too early."""
    parts = urlsplit(url)
    try:
        _ = parts.port
    except ValueError:
        return False
    return not parts.fragment and "@" not in parts.path + parts.query


def _host_ports(value: str) -> str:
    addresses = [each.strip() for each in value.split(",")] if value else []
    for each in addresses:
        found = _HOST_PORT.fullmatch(each)
        if not found or not 0 < int(found["port"]) <= PORT_MAX:
            raise ValueError("must be host:port, or several with commas between")
    return ",".join(addresses)


def _https_url(value: str) -> str:
    """Plain HTTP only to this machine: whoever answers there decides who is let in."""
    parts = urlsplit(value)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if value and not (
        parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and local))
    ):
        raise ValueError("must begin with https://")
    return value


def _memory_or_redis(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text != "memory" and urlsplit(text).scheme not in ("redis", "rediss"):
        raise ValueError("must be memory, or begin with redis:// or rediss://")
    return value


def _origins(value: str) -> str:
    origins = [each.strip() for each in value.split(",")] if value else []
    if any(_ORIGIN.fullmatch(each) is None for each in origins):
        raise ValueError("must be origins as https://app.example, with commas between")
    return ",".join(origins)


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        raise ValueError("must be a power of two")
    return value


def _consumer_id() -> str:
    unique = secrets.token_hex(CONSUMER_ID_DEFAULT_BYTES)
    return f"{socket.gethostname()}-{os.getpid()}-{unique}"


class Settings(BaseSettings):
    """Every setting, under the name of its variable where that has no prefix."""

    model_config = SettingsConfigDict(
        frozen=True,
        case_sensitive=True,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
        validate_by_name=True,
    )

    database_url: Annotated[SecretStr, AfterValidator(_postgresql_url)] = Field(
        SecretStr(""), validation_alias="DATABASE_URL"
    )
    kafka_bootstrap_servers: Annotated[str, AfterValidator(_host_ports)] = Field(
        "", validation_alias="KAFKA_BOOTSTRAP_SERVERS"
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", validation_alias="KAFKA_SECURITY_PROTOCOL"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", validation_alias="KAFKA_SASL_MECHANISM"
    )
    kafka_sasl_username: str = Field("", validation_alias="KAFKA_SASL_USERNAME")
    kafka_sasl_password: SecretStr = Field(SecretStr(""), validation_alias="KAFKA_SASL_PASSWORD")
    kafka_ssl_cafile: FilePath | None = Field(None, validation_alias="KAFKA_SSL_CAFILE")

    host: str = Field("127.0.0.1", validation_alias="HOST")
    port: int = Field(8080, ge=0, le=65535, validation_alias="PORT")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", validation_alias="LOG_LEVEL"
    )
    log_format: Literal["json", "console", "auto"] = Field("auto", validation_alias="LOG_FORMAT")

    data_dir: Path = Field(Path(".funnel"), validation_alias="FUNNEL_DATA_DIR")
    topic_prefix: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]{0,200}$", validation_alias="FUNNEL_TOPIC_PREFIX"
    )
    partitions_total: Annotated[int, AfterValidator(_power_of_two)] = Field(
        8, ge=1, le=1024, validation_alias="FUNNEL_PARTITIONS"
    )
    phone_region: str | None = Field(
        None, pattern=r"^[A-Z]{2}$", validation_alias="FUNNEL_PHONE_REGION"
    )
    event_source: str = Field(
        "/gulf-funnel/candidates",
        min_length=1,
        max_length=200,
        validation_alias="FUNNEL_EVENT_SOURCE",
    )
    deduplication_days: int = Field(35, ge=1, le=3650, validation_alias="FUNNEL_DEDUPLICATION_DAYS")
    dead_letter_days: int = Field(
        DEAD_LETTERS_KEPT_DAYS, ge=1, le=3650, validation_alias="FUNNEL_DEAD_LETTER_DAYS"
    )
    seal_seconds: float = Field(60, ge=0, le=86_400, validation_alias="FUNNEL_SEAL_SECONDS")
    journal_archive: Path | None = Field(None, validation_alias="FUNNEL_JOURNAL_ARCHIVE")
    operations_retention_days: int = Field(
        30, ge=1, le=3650, validation_alias="FUNNEL_OPERATIONS_RETENTION_DAYS"
    )
    bulk_chunk_items: int = Field(
        BULK_CHUNK_ITEMS, ge=1, le=BULK_CHUNK_ITEMS_MAX, validation_alias="FUNNEL_BULK_CHUNK_ITEMS"
    )
    lease_seconds: float = Field(10, ge=2, le=300, validation_alias="FUNNEL_LEASE_SECONDS")
    batch_records_max: int = Field(
        1000, ge=1, le=10_000, validation_alias="FUNNEL_BATCH_RECORDS_MAX"
    )
    watchdog_seconds: float = Field(30, ge=1, validation_alias="FUNNEL_WATCHDOG_SECONDS")
    consumer_id: str = Field(
        default_factory=_consumer_id,
        min_length=1,
        max_length=200,
        validation_alias="FUNNEL_CONSUMER_ID",
    )
    cursor_key: SecretStr = Field(SecretStr(""), validation_alias="FUNNEL_CURSOR_KEY")
    metrics_port: int = Field(0, ge=0, le=65535, validation_alias="FUNNEL_METRICS_PORT")
    write_limit: str = Field(
        "100/hour",
        pattern=r"^(off|[1-9][0-9]{0,8}(/(second|minute|hour|day))?)$",
        validation_alias="FUNNEL_WRITE_LIMIT",
    )
    write_limit_storage: Annotated[SecretStr, AfterValidator(_memory_or_redis)] = Field(
        SecretStr("memory"), validation_alias="FUNNEL_WRITE_LIMIT_STORAGE"
    )
    oidc_issuer: Annotated[str, AfterValidator(_https_url)] = Field(
        "", validation_alias="FUNNEL_OIDC_ISSUER"
    )
    oidc_audience: str = Field("", validation_alias="FUNNEL_OIDC_AUDIENCE")
    oidc_jwks_url: Annotated[str, AfterValidator(_https_url)] = Field(
        "", validation_alias="FUNNEL_OIDC_JWKS_URL"
    )
    oidc_algorithm: Literal["RS256", "ES256", "EdDSA"] = Field(
        "RS256", validation_alias="FUNNEL_OIDC_ALGORITHM"
    )
    firebase_project: str = Field(
        "", pattern=r"^([a-z][a-z0-9-]{4,29})?$", validation_alias="FUNNEL_FIREBASE_PROJECT"
    )
    cors_origins: Annotated[str, AfterValidator(_origins)] = Field(
        "", validation_alias="FUNNEL_CORS_ORIGINS"
    )
    otel: Mapping[str, str] = Field({}, repr=False, validation_alias="OTEL_*")
    crash_at: str | None = Field(None, validation_alias="FUNNEL_CRASH_AT")
    pause_at: str | None = Field(None, validation_alias="FUNNEL_PAUSE_AT")

    @model_validator(mode="after")
    def _sasl_is_complete(self) -> Self:
        if self.kafka_security_protocol.startswith("SASL_"):
            for name in ("kafka_sasl_username", "kafka_sasl_password"):
                if not getattr(self, name):
                    raise BadSettings(
                        f"{name.upper()}: is needed with "
                        f"KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol}"
                    )
        return self

    @model_validator(mode="after")
    def _otel_is_understood(self) -> Self:
        if complaint := otel_variables.complaint(self.otel):
            raise BadSettings(complaint)
        return self

    @model_validator(mode="after")
    def _one_issuer(self) -> Self:
        if self.firebase_project and self.oidc_issuer:
            raise BadSettings("FUNNEL_OIDC_ISSUER: is set, and so is FUNNEL_FIREBASE_PROJECT")
        if self.oidc_issuer and not self.oidc_audience:
            raise BadSettings("FUNNEL_OIDC_AUDIENCE: is needed with FUNNEL_OIDC_ISSUER")
        if not self.oidc_issuer and (self.oidc_audience or self.oidc_jwks_url):
            raise BadSettings("FUNNEL_OIDC_ISSUER: is needed with the other FUNNEL_OIDC_ variables")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  the base class names it
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The dotenv source is one of variables, whatever its declared type says.
        dotenv: Variables = dotenv_settings.env_vars  # type: ignore[attr-defined]
        files = _files_secrets(os.environ)
        dotenv_files = _files_secrets(
            {name: value for name, value in dotenv.items() if not _is_told(name, os.environ)}
        )
        otel = {**dotenv, **dotenv_files, **os.environ, **files}
        return (
            init_settings,
            env_settings,
            InitSettingsSource(settings_cls, files),
            dotenv_settings,
            InitSettingsSource(settings_cls, dotenv_files),
            InitSettingsSource(settings_cls, {"OTEL_*": otel_variables.among(otel)}),
        )

    @property
    def traces_variable(self) -> str | None:
        """The variable that asks for traces; None if nobody wants them."""
        return otel_variables.asking(self.otel)

    @property
    def topics(self) -> Topics:
        """The names of the topics."""
        return Topics(prefix=self.topic_prefix)

    def kafka_options(self) -> dict[str, Any]:
        """Keyword arguments of every aiokafka client.

        Raises:
            BadSettings: KAFKA_SSL_CAFILE holds no certificates.
        """
        options: dict[str, Any] = {
            "bootstrap_servers": self.kafka_bootstrap_servers,
            "security_protocol": self.kafka_security_protocol,
        }
        if self.kafka_security_protocol.startswith("SASL_"):
            options |= {
                "sasl_mechanism": self.kafka_sasl_mechanism,
                "sasl_plain_username": self.kafka_sasl_username,
                "sasl_plain_password": self.kafka_sasl_password.get_secret_value(),
            }
        if self.kafka_security_protocol.endswith("SSL"):
            try:
                options["ssl_context"] = ssl.create_default_context(cafile=self.kafka_ssl_cafile)
            except ssl.SSLError as error:
                raise BadSettings("KAFKA_SSL_CAFILE: holds no certificates") from error
        return options

    def shown(self) -> dict[str, str | int | float | None]:
        """Every variable with its value, secrets masked; of OpenTelemetry's, those that are set."""
        ours = {
            str(field.validation_alias): _shown(getattr(self, name))
            for name, field in type(self).model_fields.items()
            if name != "otel" and (name not in ONLY_IF_SET or getattr(self, name))
        }
        return ours | {
            name: _masked(value) if name in SECRETS or "@" in value else value
            for name, value in sorted(self.otel.items())
        }


def load_settings() -> Settings:
    """The settings of this process.

    Raises:
        BadSettings: one line with every variable that cannot be used.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in each['loc'])}: "
            f"{each['msg'].removeprefix('Value error, ')}"
            for each in error.errors(include_url=False, include_input=False)
        ]
        raise BadSettings("; ".join(lines)) from None


def unknown_variables() -> list[str]:
    """Variables with our prefix that mean nothing: misspelt, or of another version."""
    known = {str(field.validation_alias) for field in Settings.model_fields.values()}
    known |= {f"{name}_FILE" for name in SECRETS}
    ours = {name for name in os.environ if name.startswith("FUNNEL_")}
    return sorted(name for name in ours - known if not name.startswith(TESTS_PREFIX))


def _is_told(name: str, variables: Variables) -> bool:
    """Is this secret, or the file of it, among the variables?"""
    secret = name.removesuffix("_FILE")
    return bool(variables.get(secret) or variables.get(f"{secret}_FILE"))


def _files_secrets(variables: Variables) -> dict[str, str]:
    """What is in the files that `NAME_FILE` names, for each secret NAME."""
    return {
        name: _secret_in(name, path, variables)
        for name in SECRETS
        if (path := variables.get(f"{name}_FILE"))
    }


def _secret_in(name: str, path: str, variables: Variables) -> str:
    if variables.get(name):
        raise BadSettings(f"{name}: is set, and so is {name}_FILE; which one is meant?")
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise BadSettings(f"{name}_FILE: {error.strerror}") from error
    except UnicodeDecodeError:
        raise BadSettings(f"{name}_FILE: is not text in UTF-8") from None


def _shown(value: object) -> str | int | float | None:
    match value:
        case SecretStr():
            return _masked(value.get_secret_value())
        case int() | float() | None:
            return value
    return str(value)


def _masked(secret: str) -> str:
    """Of a URL the server and the database stay readable, credentials and options do not."""
    if secret in WORDS:
        return secret
    parts = urlsplit(secret)
    if parts.hostname is None or not _is_whole(secret):
        return "***" if secret else ""
    return f"{parts.scheme}://***@{parts.netloc.rpartition('@')[2]}{parts.path}"
