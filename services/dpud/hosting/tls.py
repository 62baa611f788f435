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
class _Shown:
    """Key and certificate, and the authorities of those who call, as they are in their files."""

    key: bytes
    chain: bytes
    clients: bytes | None

    @classmethod
    def read(cls, files: Tls, clients: Path | None) -> _Shown:
        return cls(files.key.read_bytes(), files.certificate.read_bytes(), clients.read_bytes() if clients else None)

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], self.clients)


class Renewed:
    """Gives gRPC the certificate at the first handshake after its files changed.

    Who calls must show one too, where there is a file of authorities that vouch for `clients`.
    """

    def __init__(self, files: Tls, clients: Path | None = None) -> None:
        self._files = files
        self._clients = clients
        try:
            self._shown = _Shown.read(files, clients)
        except OSError as error:
            raise BadSetting(f"DPU_TLS_CERTIFICATE={str(files.certificate)!r}, DPU_TLS_KEY: {error}") from error

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a server's port is opened with."""
        fetch: Any = self._fresh  # its types do not know that it may answer None
        return grpc.dynamic_ssl_server_credentials(self._shown.configuration(), fetch, self._clients is not None)

    def _fresh(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the certificate where it is another than the one shown; None: that one is good."""
        try:
            found = _Shown.read(self._files, self._clients)
        except OSError as error:
            log.warning("the certificate cannot be read; the last one is shown", error=str(error))
            return None
        if found == self._shown:
            return None
        self._shown = found
        log.info("certificate renewed", file=str(self._files.certificate))
        return found.configuration()
