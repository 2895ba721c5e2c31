"""Settings: where they come from, and what is said about a bad one."""

import os
import ssl
from pathlib import Path

import pytest

from funnel.settings import BadSettings, Settings, load_settings, unknown_variables

SECRET = "postgresql://funnel:s3cret@db.example:5432/funnel?sslmode=require"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of this machine, no `.env` of this folder."""
    monkeypatch.chdir(tmp_path)
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)
    for name in [each for each in os.environ if each.startswith("OTEL_")]:
        monkeypatch.delenv(name)


def test_settings__defaults_are_for_a_developers_machine() -> None:
    settings = load_settings()

    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.partitions_total == 8
    assert settings.write_limit == "100/hour"  # CONTRACT.md 6
    assert settings.kafka_options() == {"bootstrap_servers": "", "security_protocol": "PLAINTEXT"}
    assert settings.topics.commands == "candidates.commands.v1"
    assert load_settings().consumer_id != settings.consumer_id


def test_settings__environment_counts_before_dotenv(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("PORT=1111\nHOST=10.0.0.1\nSOMETHING_ELSE=1\n")
    monkeypatch.setenv("PORT", "2222")

    settings = load_settings()

    assert (settings.host, settings.port) == ("10.0.0.1", 2222)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "eighty"),
        ("FUNNEL_PARTITIONS", "12"),
        ("FUNNEL_PHONE_REGION", "Norway"),
        ("DATABASE_URL", "mysql://root:s3cret@db/x"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:b:c"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:1,,b:2"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:ssl"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:70000"),
        ("KAFKA_BOOTSTRAP_SERVERS", "user:s3cret@a:1"),
        ("KAFKA_SSL_CAFILE", "/nowhere.pem"),
        ("LOG_LEVEL", "LOUD"),
        ("FUNNEL_EVENT_SOURCE", "x" * 201),
        ("FUNNEL_WRITE_LIMIT", "0"),
        ("FUNNEL_WRITE_LIMIT", "100/fortnight"),
        ("FUNNEL_WRITE_LIMIT_STORAGE", "memcached://s3cret"),
        ("FUNNEL_OIDC_ISSUER", "http://login.example"),
        ("FUNNEL_OIDC_JWKS_URL", "ftp://login.example/keys"),
        ("FUNNEL_OIDC_ALGORITHM", "HS256"),
        ("FUNNEL_FIREBASE_PROJECT", "Not a project"),
        ("FUNNEL_CORS_ORIGINS", "*"),
        ("FUNNEL_CORS_ORIGINS", "https://app.example/path"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://s3cret@collector:x"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere.pem"),
        ("OTEL_TRACES_EXPORTER", "jaeger"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_SDK_DISABLED", "maybe"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "-1"),
    ],
)
def test_settings__bad_value_is_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(BadSettings) as raised:
        load_settings()

    assert str(raised.value).startswith(f"{name}: ")
    assert "\n" not in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_settings__all_bad_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "x")
    monkeypatch.setenv("FUNNEL_PARTITIONS", "3")

    with pytest.raises(BadSettings, match=r"PORT: .*; FUNNEL_PARTITIONS: "):
        load_settings()


def test_settings__secret_from_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("secret").write_text(SECRET + "\n")
    monkeypatch.setenv("DATABASE_URL_FILE", "secret")

    assert load_settings().database_url.get_secret_value() == SECRET


def test_settings__secret_from_a_file_that_dotenv_names() -> None:
    Path("secret").write_text(SECRET + "\n")
    Path("headers").write_text("authorization=s3cret\n")
    Path(".env").write_text(
        "DATABASE_URL_FILE=secret\nOTEL_EXPORTER_OTLP_HEADERS_FILE=headers\nOTEL_SERVICE_NAME=f\n"
    )

    settings = load_settings()

    assert settings.database_url.get_secret_value() == SECRET
    assert settings.otel == {
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=s3cret",
        "OTEL_SERVICE_NAME": "f",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [("DATABASE_URL", "postgresql://env/funnel"), ("DATABASE_URL_FILE", "from-environment")],
)
@pytest.mark.parametrize(
    "dotenv", ["DATABASE_URL=postgresql://dotenv/x", "DATABASE_URL_FILE=nowhere"]
)
def test_settings__secret_of_the_environment_counts_before_dotenv(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, dotenv: str
) -> None:
    Path("from-environment").write_text("postgresql://env/funnel")
    Path(".env").write_text(dotenv)
    monkeypatch.setenv(name, value)

    assert load_settings().database_url.get_secret_value() == "postgresql://env/funnel"


def test_settings__secret_and_its_file_in_dotenv_is_one_too_many() -> None:
    Path("secret").write_text(SECRET)
    Path(".env").write_text(f"DATABASE_URL_FILE=secret\nDATABASE_URL={SECRET}\n")

    with pytest.raises(BadSettings, match="DATABASE_URL: is set, and so is DATABASE_URL_FILE"):
        load_settings()


def test_traces__asked_for_by_the_standard_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().traces_variable is None

    Path(".env").write_text("OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318\n")
    assert load_settings().traces_variable == "OTEL_EXPORTER_OTLP_ENDPOINT"

    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert load_settings().traces_variable is None

    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert load_settings().traces_variable is None


def test_settings__secret_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SASL_PASSWORD_FILE", "nowhere")

    with pytest.raises(BadSettings, match="KAFKA_SASL_PASSWORD_FILE: No such file"):
        load_settings()


def test_settings__secret_and_its_file_is_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("secret").write_text(SECRET)
    monkeypatch.setenv("DATABASE_URL_FILE", "secret")
    monkeypatch.setenv("DATABASE_URL", SECRET)

    with pytest.raises(BadSettings, match="DATABASE_URL: is set, and so is DATABASE_URL_FILE"):
        load_settings()


def test_settings__sasl_needs_a_user_and_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("KAFKA_SASL_USERNAME", "funnel")

    with pytest.raises(BadSettings, match=r"KAFKA_SASL_PASSWORD: is needed .*=SASL_SSL"):
        load_settings()


def test_kafka_options__sasl_over_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
    monkeypatch.setenv("KAFKA_SASL_USERNAME", "funnel")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "s3cret")

    options = load_settings().kafka_options()

    assert options["sasl_plain_password"] == "s3cret"
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert options["ssl_context"].verify_mode is ssl.CERT_REQUIRED


def test_kafka_options__ca_file_without_a_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("ca.pem").write_text("not one\n")
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SSL")
    monkeypatch.setenv("KAFKA_SSL_CAFILE", "ca.pem")

    with pytest.raises(BadSettings, match="KAFKA_SSL_CAFILE: holds no certificates"):
        load_settings().kafka_options()


def test_settings__one_issuer_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNNEL_OIDC_ISSUER", "https://login.example/")
    with pytest.raises(BadSettings, match="FUNNEL_OIDC_AUDIENCE: is needed"):
        load_settings()

    monkeypatch.setenv("FUNNEL_OIDC_AUDIENCE", "gulf-funnel")
    monkeypatch.delenv("FUNNEL_OIDC_ISSUER")
    with pytest.raises(BadSettings, match="FUNNEL_OIDC_ISSUER: is needed"):
        load_settings()

    monkeypatch.setenv("FUNNEL_OIDC_ISSUER", "https://login.example/")
    assert load_settings().oidc_issuer == "https://login.example/"

    monkeypatch.setenv("FUNNEL_FIREBASE_PROJECT", "gulf-recruiting")
    with pytest.raises(BadSettings, match="and so is FUNNEL_FIREBASE_PROJECT"):
        load_settings()


def test_kafka_options__several_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka-1.example:9092, [::1]:9093")

    options = load_settings().kafka_options()

    assert options["bootstrap_servers"] == "kafka-1.example:9092,[::1]:9093"


def test_shown__crash_points_only_if_set(monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_settings().shown()
    monkeypatch.setenv("FUNNEL_CRASH_AT", "x")

    assert load_settings().shown().keys() - before.keys() == {"FUNNEL_CRASH_AT"}


def test_shown__masks_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", SECRET)
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "s3cret")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3cret")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://me:s3cret@collector/otlp")

    shown = load_settings().shown()

    assert shown["OTEL_EXPORTER_OTLP_HEADERS"] == "***"
    assert shown["OTEL_EXPORTER_OTLP_ENDPOINT"] == "https://***@collector/otlp"

    assert shown["DATABASE_URL"] == "postgresql://***@db.example:5432/funnel"
    assert shown["KAFKA_SASL_PASSWORD"] == "***"
    assert "s3cret" not in repr(load_settings())


@pytest.mark.parametrize("password", ["s3/cret", "s3#cret", "s3?cret"])
def test_database_url__with_a_password_that_ends_the_address_is_refused(
    monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://u:{password}@host/db")

    with pytest.raises(BadSettings, match="DATABASE_URL") as refused:
        load_settings()

    assert "cret" not in str(refused.value)


def test_unknown_variables__names_misspelt_ones_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNNEL_PARTITION", "8")
    monkeypatch.setenv("FUNNEL_TOPIC_PREFIX", "x.")
    monkeypatch.setenv("FUNNEL_TEST_STACK", "embedded")
    monkeypatch.setenv("FUNNEL_TEST_FAULT_SECONDS", "300")

    assert unknown_variables() == ["FUNNEL_PARTITION"]
