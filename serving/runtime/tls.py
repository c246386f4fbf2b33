"""TLS of the gRPC port, from TensorFlow Serving's SSLConfig: a text proto that holds PEM contents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ladle.clients.wire import messages as pb
from ladle.serving.errors import InvalidArgument
from ladle.serving.runtime.text_proto import read_text_proto


def read_credentials(path: Path) -> Any:
    """Reads grpc.ServerCredentials from an SSLConfig file; InvalidArgument when a key or certificate is missing.

    With `client_verify`, the server accepts only clients with a certificate from `custom_ca`.
    """
    import grpc

    ssl = read_text_proto(path, pb.SSLConfig)
    for field, begin in (("server_key", "PRIVATE KEY"), ("server_cert", "CERTIFICATE")):
        if f"{begin}-----" not in getattr(ssl, field):
            raise InvalidArgument(
                f"ssl_config_file: {field} is not PEM text; expected the contents of the file, from "
                f"-----BEGIN {begin}----- on; paste them in place of a path"
            )
    if ssl.client_verify and "CERTIFICATE-----" not in ssl.custom_ca:
        raise InvalidArgument(
            "ssl_config_file: client_verify needs custom_ca; add the PEM text of the authority that signs clients"
        )
    return grpc.ssl_server_credentials(
        [(ssl.server_key.encode(), ssl.server_cert.encode())],
        root_certificates=ssl.custom_ca.encode() or None,
        require_client_auth=ssl.client_verify,
    )
