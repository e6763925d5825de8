"""A throw-away key that signs as Amazon SNS does, and its certificate in a folder."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

NAME = "SimpleNotificationService-0000000000000000000000.pem"  # as in the payload cases
TOPIC = "arn:aws:sns:eu-west-1:888888888888:ses-events"
_FIELDS = ("Message", "MessageId", "SubscribeURL", "Subject", "Timestamp", "Token", "TopicArn", "Type")


@dataclass
class SnsKey:
    """Attributes:
    folder: holds the certificate under NAME.
    """

    key: RSAPrivateKey
    pem: bytes
    folder: Path

    def sign(self, message: dict[str, Any], version: str = "1", **changes: Any) -> bytes:
        """Write the message as SNS posts it, signed anew after the changes; None drops a field."""
        message = {name: value for name, value in {**message, **changes}.items() if value is not None}
        message["SignatureVersion"] = version
        signed = "".join(f"{name}\n{message[name]}\n" for name in _FIELDS if name in message)
        algorithm = SHA1() if version == "1" else SHA256()
        message["Signature"] = b64encode(self.key.sign(signed.encode(), PKCS1v15(), algorithm)).decode()
        return json.dumps(message).encode()

    def notify(self, event: dict[str, Any] | str, version: str = "2", **changes: Any) -> bytes:
        """Write a notification of an event."""
        message = {
            "Type": "Notification",
            "MessageId": "22b80b92-fdea-4c2c-8f9d-00000000000c",
            "TopicArn": TOPIC,
            "Message": event if isinstance(event, str) else json.dumps(event),
            "Timestamp": "2026-01-27T14:59:40.000Z",
            "SigningCertURL": f"https://sns.eu-west-1.amazonaws.com/{NAME}",
        }
        return self.sign(message, version, **changes)


def make_sns_key(folder: Path, valid_days: int = 10_000) -> SnsKey:
    key = generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    start = datetime(2020, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=valid_days))
        .sign(key, SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).write_bytes(pem)
    return SnsKey(key, pem, folder)
