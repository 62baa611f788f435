"""The certificate that a service shows, read anew when its files change: whoever renews it restarts nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from dpud.hosting.settings import BadSetting

if TYPE_CHECKING:
    from pathlib import Path

    from dpud.hosting.settings import Tls

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Key and certificate, as they are in their files."""

    key: bytes
    chain: bytes

    @classmethod
    def read(cls, key: Path, chain: Path) -> _Pair:
        return cls(key.read_bytes(), chain.read_bytes())

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)])


class Renewed:
    """Gives gRPC the certificate at the first handshake after its files changed."""

    def __init__(self, files: Tls) -> None:
        self._files = files
        try:
            self._shown = _Pair.read(files.key, files.certificate)
        except OSError as error:
            raise BadSetting(f"DPU_TLS_CERTIFICATE={str(files.certificate)!r}, DPU_TLS_KEY: {error}") from error

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a server's port is opened with."""
        fetch: Any = self._fresh  # its types do not know that it may answer None
        return grpc.dynamic_ssl_server_credentials(self._shown.configuration(), fetch)

    def _fresh(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the certificate where it is another than the one shown; None: that one is good."""
        try:
            found = _Pair.read(self._files.key, self._files.certificate)
        except OSError as error:
            log.warning("the certificate cannot be read; the last one is shown", error=str(error))
            return None
        if found == self._shown:
            return None
        self._shown = found
        log.info("certificate renewed", file=str(self._files.certificate))
        return found.configuration()
