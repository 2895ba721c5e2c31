"""The standard OTEL_* variables, as far as traces depend on them: what may stand in each.

OpenTelemetry's SDK reads them itself and replaces what it does not understand by a default; here
a bad value stops the start, as with every setting. Those without a rule are passed on as they are.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

PREFIX = "OTEL_"
SECRETS = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

SAMPLERS = (
    "always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off",
    "parentbased_traceidratio",
)  # fmt: skip

_PAIR = re.compile(r"[^\s=,]+\s*=[^,]*")


def among(variables: Mapping[str, str | None]) -> dict[str, str]:
    """Those of them that are set."""
    files = {f"{name}_FILE" for name in SECRETS}
    return {
        name: value
        for name, value in variables.items()
        if name.startswith(PREFIX) and name not in files and value
    }


def asking(variables: Mapping[str, str]) -> str | None:
    """The variable that asks for traces; None if none does."""
    exporter = variables.get("OTEL_TRACES_EXPORTER", "").lower()
    if exporter == "none" or variables.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    for name in ENDPOINTS:
        if name in variables:
            return name
    return "OTEL_TRACES_EXPORTER" if exporter else None


def complaint(variables: Mapping[str, str]) -> str | None:
    """Every variable that cannot be used, in one line without a value of theirs."""
    found = [
        f"{name}: {wrong}"
        for name, value in variables.items()
        if (rule := _RULES.get(name)) and (wrong := rule(value))
    ]
    if not found and _batch_exceeds_queue(variables):
        found = ["OTEL_BSP_MAX_EXPORT_BATCH_SIZE: is more than OTEL_BSP_MAX_QUEUE_SIZE"]
    return "; ".join(found) or None


def _batch_exceeds_queue(variables: Mapping[str, str]) -> bool:
    batch = variables.get("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "512")
    return int(batch) > int(variables.get("OTEL_BSP_MAX_QUEUE_SIZE", "2048"))


def _one_of(*words: str) -> Callable[[str], str | None]:
    def rule(value: str) -> str | None:
        return None if value.lower() in words else f"must be {' or '.join(words)}"

    return rule


def _url(value: str) -> str | None:
    parts = urlsplit(value)
    try:
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        whole = False
    return None if whole else "must begin with http:// or https:// and name a host"


def _number(value: str) -> str | None:
    try:
        fits = 0 < float(value) < float("inf")
    except ValueError:
        fits = False
    return None if fits else "must be a number above 0"


def _count(value: str) -> str | None:
    return None if value.isdecimal() and int(value) else "must be a whole number above 0"


def _limit(value: str) -> str | None:
    return None if value.isdecimal() else "must be a whole number"


def _fraction(value: str) -> str | None:
    try:
        fits = 0 <= float(value) <= 1
    except ValueError:
        fits = False
    return None if fits else "must be a number from 0 to 1"


def _pairs(value: str) -> str | None:
    whole = all(_PAIR.fullmatch(each.strip()) for each in value.split(",") if each.strip())
    return None if whole else "must be name=value, or several with commas between"


def _file(value: str) -> str | None:
    return None if Path(value).is_file() else "is no file"


_BY_SIGNAL: dict[str, Callable[[str], str | None]] = {
    "ENDPOINT": _url,
    "PROTOCOL": _one_of("http/protobuf"),
    "HEADERS": _pairs,
    "TIMEOUT": _number,
    "COMPRESSION": _one_of("none", "gzip", "deflate"),
    "CERTIFICATE": _file,
    "CLIENT_CERTIFICATE": _file,
    "CLIENT_KEY": _file,
}
_LIMITS = (
    "OTEL_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT", "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
)  # fmt: skip
_RULES: dict[str, Callable[[str], str | None]] = {
    "OTEL_SDK_DISABLED": _one_of("true", "false"),
    "OTEL_TRACES_EXPORTER": _one_of("otlp", "none"),
    "OTEL_TRACES_SAMPLER": _one_of(*SAMPLERS),
    "OTEL_TRACES_SAMPLER_ARG": _fraction,
    "OTEL_RESOURCE_ATTRIBUTES": _pairs,
    "OTEL_BSP_SCHEDULE_DELAY": _count,
    "OTEL_BSP_MAX_QUEUE_SIZE": _count,
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": _count,
    "OTEL_BSP_EXPORT_TIMEOUT": _count,
    **dict.fromkeys(_LIMITS, _limit),
    **{f"OTEL_EXPORTER_OTLP_{name}": rule for name, rule in _BY_SIGNAL.items()},
    **{f"OTEL_EXPORTER_OTLP_TRACES_{name}": rule for name, rule in _BY_SIGNAL.items()},
}
