"""A real node with Amazon SES (moto), FCM and WhatsApp carriers, from its settings to the provider and back."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.carriers.http import servers
from tests.carriers.http.moto import moto
from tests.carriers.http.sns_key import TOPIC, make_sns_key
from tests.node.harness import SOON_S, carrier, running, until

SECRETS = ("canary-aws-secret", "canary-wa-token", "canary-app-secret", "canary-access", "PRIVATE KEY", "text-canary")
APP_SECRET = "canary-app-secret"


@pytest.mark.slow
async def test_a_node_sends_by_ses_fcm_and_whatsapp_and_hears_what_became_of_it(tmp_path: Path, data: Path) -> None:
    key = make_sns_key(tmp_path / "sns")
    private_key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    account = {"private_key": private_key.decode(), "client_email": "h@demo.test", "token_uri": "http://unused.test"}
    (tmp_path / "fcm.json").write_text(json.dumps(account))
    async with moto() as aws, servers.provider() as provider:
        await aws.verify("news@acme.test")
        said = {"messages": [{"id": "wamid.1"}], "name": "projects/demo/messages/1"}
        granted = {"access_token": "canary-access", "expires_in": 3600}
        provider.answer = (200, {"content-type": "application/json"}, json.dumps({**said, **granted}).encode())
        carriers = [
            carrier(
                name="mail",
                kind="ses",
                channel="email",
                region="eu-west-1",
                access_key_id="AKID",
                secret_access_key="canary-aws-secret",
                from_="Acme <news@acme.test>",
                sns_topic_arns=[TOPIC],
                sns_cert_dir=str(key.folder),
                base_url=aws.url,
            ),
            carrier(
                name="push",
                kind="fcm",
                channel="push",
                project_id="demo",
                service_account="file:fcm.json",
                token_url=f"{provider.url}/token",
                base_url=provider.url,
            ),
            carrier(
                name="wa",
                kind="whatsapp",
                channel="whatsapp",
                phone_number_id="106540352242922",
                access_token="canary-wa-token",
                app_secret=APP_SECRET,
                base_url=provider.url,
            ),
        ]
        async with running(tmp_path, "".join(carriers), data=data) as node:
            tenant_key = (await node.tenant()).key

            # E-mail: taken by SES, delivered by a signed notification and by no other.
            content = {"text": "text-canary", "html": "<p>text-canary</p>", "subject": "Hi"}
            mail = await node.send(tenant_key, {"channel": "email", "to": "jane@example.test", "content": content})

            async def sent_id() -> str | None:
                attempts = (await node.message(mail["id"], tenant_key))["attempts"]
                return attempts[0]["carrier_message_ids"][0] if attempts[0]["carrier_message_ids"] else None

            message_id = await until(sent_id, SOON_S, "SES took it")
            assert [message["id"] for message in await aws.messages()] == [message_id]
            event = {"eventType": "Delivery", "mail": {"messageId": message_id}, "delivery": {}}
            signed = key.notify(event)
            forged = await node.ask("POST", "/v1/webhooks/mail", signed.replace(b"Delivery", b"Bounce  "))
            assert forged.status == 401
            assert (await node.ask("POST", "/v1/webhooks/mail", signed)).status == 200
            assert (await node.final(mail["id"]))["attempts"][0]["status"] == "delivered"

            # Push: over when FCM took it, by default.
            push = await node.send(tenant_key, {"channel": "push", "to": "tok:en", "content": {"text": "text-canary"}})
            assert push["cascade"][0]["success"] == "submitted"
            assert (await node.final(push["id"]))["status"] == "delivered"

            # WhatsApp: a template, read.
            template = {"name": "order_update", "language": "en_US"}
            chat = await node.send(
                tenant_key,
                {"channel": "whatsapp", "to": "+4520123456", "content": {"whatsapp": {"template": template}}},
            )

            async def is_submitted() -> bool:
                events = (await node.message(chat["id"], tenant_key))["events"]
                return any(event["type"] == "submitted" for event in events)

            await until(is_submitted, SOON_S, "Meta took it")
            assert json.loads(provider.asked[-1].body)["template"]["language"] == {"code": "en_US"}
            value = {"statuses": [{"id": "wamid.1", "status": "read", "timestamp": "1749416383"}]}
            change = {"field": "messages", "value": value}
            body = json.dumps({"object": "whatsapp_business_account", "entry": [{"changes": [change]}]}).encode()
            signature = "sha256=" + hmac.new(APP_SECRET.encode(), body, hashlib.sha256).hexdigest()
            assert (await node.ask("POST", "/v1/webhooks/wa", body)).status == 401
            headers = {"X-Hub-Signature-256": signature}
            assert (await node.ask("POST", "/v1/webhooks/wa", body, headers=headers)).status == 200
            assert (await node.final(chat["id"]))["attempts"][0]["status"] == "read"

            tree = json.dumps(await node.get("/v1/actors", node.operator_key))
            carriers_shown = json.dumps(await node.get("/v1/carriers", node.operator_key))
            for secret in SECRETS:
                assert secret not in node.log + tree + carriers_shown
