"""Where spans are sent, by the rules of OpenTelemetry's specification. Pure."""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit


class OtlpAddress(NamedTuple):
    """A collector of OpenTelemetry, and what requests to it have."""

    url: str
    """For traces."""
    headers: dict[str, str]
    certificate: str | None
    service: str

    @property
    def host(self) -> str:
        """To be shown: an address may hold a key."""
        return urlsplit(self.url).hostname or ""


def otlp_address(endpoint: str, environment: Mapping[str, str]) -> OtlpAddress | None:
    """The collector at this address, or else at that of the environment; None if there is none.

    Of the environment, only addresses for OTLP over HTTP are used.
    """
    found = {name: value.strip() for name, value in environment.items() if value.strip()}
    prefix = "OTEL_EXPORTER_OTLP_"

    def variable(name: str) -> str | None:
        return found.get(f"{prefix}TRACES_{name}") or found.get(f"{prefix}{name}")

    url = endpoint
    if not endpoint:
        is_off = found.get("OTEL_SDK_DISABLED", "").lower() == "true"
        is_other = found.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp"
        if is_off or is_other or (variable("PROTOCOL") or "http/protobuf") != "http/protobuf":
            return None
        if traces := found.get(f"{prefix}TRACES_ENDPOINT"):
            url, endpoint = "", traces
        else:
            url = found.get(f"{prefix}ENDPOINT", "")
    if url:
        parts = urlsplit(url)
        path = parts.path.rstrip("/").removesuffix("/v1/traces")
        endpoint = parts._replace(path=f"{path}/v1/traces").geturl()
    if not endpoint.startswith(("http://", "https://")):
        return None
    pairs = (pair.partition("=") for pair in (variable("HEADERS") or "").split(",") if "=" in pair)
    headers = {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}
    return OtlpAddress(endpoint, headers, variable("CERTIFICATE"), found.get("OTEL_SERVICE_NAME", "orch"))
