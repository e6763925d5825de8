"""What happens to a submitted message: decided once, when it comes, from the settings, chance and its number."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final, get_args

from carriers.smpp import constants as c
from hermes.smsc.settings import ReceiptForm, SmscSettings, status_of

FIRST: Final = 1  # the first try of a destination


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happens to one submit.

    Attributes:
        status: of the answer; anything but ESME_ROK refuses the message, and no receipt follows.
        answer: "resp", "nack" (generic_nack with the status), "lost" (taken, never answered), "late" (answered
            after `delay_s`), "reset" or "close" (taken, and the connection ends instead of the answer), "freeze"
            (taken, and the connection is half-open from then on), "unbind" (answered, then asked to unbind).
        state, err: what the receipt will say; state None: no receipt ever.
        receipt_delay_s: instead of the settings'.
        delay_s: more delay of the answer.
        form: of the receipt; None: the next of the settings'.
        early: the receipt goes before the answer.
        copies: how often the receipt is sent.
        before: state of a receipt that is not final, sent first; intermediate tells its esm_class.
        broken: an unreadable deliver_sm goes before the receipt.
    """

    status: int = c.ESME_ROK
    answer: str = "resp"
    state: str | None = "DELIVRD"
    err: int = 0
    receipt_delay_s: float | None = None
    delay_s: float = 0.0
    form: ReceiptForm | None = None
    early: bool = False
    copies: int = 1
    before: str | None = None
    intermediate: bool = False
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Magic:
    """An outcome of a destination's number.

    Attributes:
        says: what a user sees.
        outcome: what happens.
        tries: only to so many first submits of this destination; later ones are delivered. 0: to all.
    """

    says: str
    outcome: Outcome
    tries: int = 0


DELIVERED: Final = Outcome()

_FORMS: Final[tuple[ReceiptForm, ...]] = get_args(ReceiptForm)
# Last four digits of the destination -> what happens. 0001 to 0008 are those of Hermes's sandbox (docs/api.md).
MAGIC: Final[dict[str, Magic]] = {
    "0001": Magic("delivered", DELIVERED),
    "0002": Magic("refused, ESME_RINVDSTADR", Outcome(c.ESME_RINVDSTADR)),
    "0003": Magic("UNDELIV, err:027", Outcome(state="UNDELIV", err=27)),
    "0004": Magic("no receipt ever", Outcome(state=None)),
    "0005": Magic("ESME_RTHROTTLED twice, then delivered", Outcome(c.ESME_RTHROTTLED), tries=2),
    "0006": Magic("delivered, the receipt 3 s late", Outcome(receipt_delay_s=3.0)),
    "0007": Magic("ESME_RSYSERR each time", Outcome(c.ESME_RSYSERR)),
    "0008": Magic("REJECTD, err:008", Outcome(state="REJECTD", err=8)),
    "0010": Magic("EXPIRED", Outcome(state="EXPIRED", err=1)),
    "0011": Magic("DELETED", Outcome(state="DELETED", err=1)),
    "0012": Magic("UNKNOWN, and nothing after it", Outcome(state="UNKNOWN")),
    "0013": Magic("ACCEPTD as a receipt (not final), then DELIVRD", Outcome(before="ACCEPTD")),
    "0014": Magic("ENROUTE, esm_class 0x20, then DELIVRD", Outcome(before="ENROUTE", intermediate=True)),
    "0015": Magic("DELIVRD twice", Outcome(copies=2)),
    "0016": Magic("the receipt comes before the submit_sm_resp", Outcome(early=True)),
    "0017": Magic("an unreadable deliver_sm, then the receipt", Outcome(broken=True)),
    "0020": Magic("taken, never answered; the receipt comes", Outcome(answer="lost")),
    "0021": Magic("answered 35 s late; the receipt comes first", Outcome(answer="late", delay_s=35.0)),
    "0022": Magic("taken, the connection reset instead of the answer; once", Outcome(answer="reset"), tries=FIRST),
    "0023": Magic("taken, the connection closed instead of the answer; once", Outcome(answer="close"), tries=FIRST),
    "0024": Magic("the connection half-open from then on; once", Outcome(answer="freeze"), tries=FIRST),
    "0025": Magic("answered, then asked to unbind; once", Outcome(answer="unbind"), tries=FIRST),
    "0030": Magic("ESME_RMSGQFUL twice, then delivered", Outcome(c.ESME_RMSGQFUL), tries=2),
    "0031": Magic("generic_nack, ESME_RINVCMDLEN", Outcome(c.ESME_RINVCMDLEN, "nack")),
    "0032": Magic("refused, ESME_RINVSRCADR", Outcome(c.ESME_RINVSRCADR)),
    "0033": Magic("refused, ESME_RSUBMITFAIL", Outcome(c.ESME_RSUBMITFAIL)),
    "0034": Magic("refused, a vendor's status 0x401", Outcome(0x401)),
    **{
        f"01{n:02d}": Magic(f"delivered, receipt in the form {form}", Outcome(form=form))
        for n, form in enumerate(_FORMS, 1)
    },
}
for _status in c.STATUS_NAMES:  # every status there is: 09 and its two hexadecimal digits, while those are digits
    if _status and f"{_status:02x}".isdigit():
        MAGIC[f"09{_status:02x}"] = Magic(f"refused, {c.status_name(_status)}", Outcome(_status))


def magic_of(destination: str) -> Magic | None:
    """Find the outcome that a destination's number stands for."""
    return MAGIC.get(destination[-4:])


def decide(settings: SmscSettings, random: Random, destination: str, tries: int, number: int) -> Outcome:
    """Decide what happens to a submit.

    Args:
        settings: the centre's.
        random: all chance.
        destination: destination_addr as it came.
        tries: which submit to this destination it is, from 1; only magic numbers ask.
        number: which submit of all it is, from 1.
    """
    if settings.magic:
        magic = magic_of(destination)
        if magic is not None:
            return magic.outcome if not magic.tries or tries <= magic.tries else DELIVERED
    for end, status in settings.statuses.items():
        if destination.endswith(end):
            return Outcome(status_of(status))
    if settings.error_rate and random.random() < settings.error_rate:
        return Outcome(status_of(settings.error_status))
    answer = "resp"
    if settings.drop_every and number % settings.drop_every == 0:
        answer = settings.drop_how
    elif settings.lost_answer_rate and random.random() < settings.lost_answer_rate:
        answer = "lost"
    delivered = settings.delivered_rate >= 1 or random.random() < settings.delivered_rate
    early = settings.early_receipt_rate > 0 and random.random() < settings.early_receipt_rate
    twice = settings.duplicate_receipt_rate > 0 and random.random() < settings.duplicate_receipt_rate
    enroute = settings.intermediate_rate > 0 and random.random() < settings.intermediate_rate
    if delivered and answer == "resp" and not (early or twice or enroute):
        return DELIVERED
    return Outcome(
        answer=answer,
        state="DELIVRD" if delivered else "UNDELIV",
        err=0 if delivered else settings.undelivered_err,
        early=early,
        copies=2 if twice else 1,
        before="ENROUTE" if enroute else None,
        intermediate=enroute,
    )
