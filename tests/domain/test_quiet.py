"""What keeps addresses and texts out of the reprs of structs."""

from __future__ import annotations

from datetime import UTC, datetime

from hermes.domain.events import Event
from hermes.domain.message import Content, Message, Step
from hermes.journal.base import OutboxEntry, Write

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


def test_neither_repr_nor_rich_tells_an_address_or_a_text_however_deep_it_lies() -> None:
    message = Message(
        message_id="msg_1",
        tenant="ten_1",
        to={"phone": "secret"},
        cascade=(Step("sms", 60.0, "delivered"),),
        content=Content("secret", "secret", "secret", "secret", *[{"text": "secret"}] * 5),
        created_at=NOW,
        expires_at=NOW,
        reference="secret",
        metadata={"a": "secret"},
        callback_url="https://secret.example",
    )
    event = Event(1, NOW, "accepted", None, None, {"error": "secret"})
    entry = OutboxEntry(1, "callback", "message.delivered", NOW, "secret")
    write = Write("msg_1", "ten_1", [event], message=message, outbox=[entry])
    assert repr(write).count("msg_1") == 2 and "message.delivered" in repr(write)
    assert "secret" not in repr(write)
    for told in (message, message.content, event, entry):
        assert "secret" not in repr(told.__rich_repr__())
