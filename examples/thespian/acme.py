"""Two actors written for Thespian, as a team may have them already. They know nothing of Hermes.

`FraudCheck` judges messages; `Pager` carries them to an old paging system that watches a folder. Both block as they
like: in Hermes they run on threads of their own.
"""

import json
import os
import time
from datetime import timedelta
from pathlib import Path

from thespian.actors import ActorTypeDispatcher

MOST_PER_MINUTE = 5  # messages to one number
SIGNS_OF_FRAUD = ("gift card", "wire transfer", "verify your account")
DELIVERED_AFTER = timedelta(milliseconds=200)  # the paging system takes the file within that


class FraudCheck(ActorTypeDispatcher):
    """Answers whether a message looks like fraud: too many to one number, or words that give it away."""

    def __init__(self):
        self.recent = {}  # number -> times of its last messages

    def receiveMsg_dict(self, message, sender):
        now = time.monotonic()
        times = [at for at in self.recent.get(message["to"], ()) if at > now - 60]
        self.recent[message["to"]] = [*times, now]
        text = (message["text"] or "").lower()
        if any(sign in text for sign in SIGNS_OF_FRAUD):
            reason = "words"
        elif len(times) >= MOST_PER_MINUTE:
            reason = "too_many"
        else:
            reason = None
        self.send(sender, ("verdict", message["message_id"], message["attempt"], reason))


class Pager(ActorTypeDispatcher):
    """Takes a message once the fraud check has let it pass: writes it where the paging system looks for it."""

    def __init__(self):
        self.folder = Path(os.environ.get("PAGER_FOLDER", "pages"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.fraud_check = None
        self.asked = {}  # (message id, attempt) -> the message and who wants to know

    def receiveMsg_dict(self, message, sender):
        if self.fraud_check is None:
            self.fraud_check = self.createActor(FraudCheck, globalName="fraud")  # found, if it is there already
        self.asked[message["message_id"], message["attempt"]] = message, sender
        self.send(self.fraud_check, message)

    def receiveMsg_tuple(self, verdict, sender):
        _, message_id, attempt, reason = verdict
        message, asker = self.asked.pop((message_id, attempt))
        if reason is not None:
            self.send(asker, {"error": {"class": "content_rejected", "code": reason, "detail": "fraud check"}})
            return
        page = self.folder / f"{message_id}-{attempt}.json"
        page.write_text(json.dumps({"to": message["to"], "text": message["text"]}))
        self.send(asker, {"carrier_message_ids": [page.stem]})
        self.wakeupAfter(DELIVERED_AFTER, (message["receipts"], page.stem))

    def receiveMsg_WakeupMessage(self, wakeup, sender):
        receipts, page = wakeup.payload
        self.send(receipts, {"carrier_message_id": page, "status": "delivered"})
