"""What statuses mean."""

from __future__ import annotations

import pytest

from carriers.smpp import constants as c
from carriers.smpp.errors import CLASSES, ErrorTable
from hermes.domain.cascade import MOVES_ON


@pytest.mark.parametrize(
    ("status", "error_class", "retryable", "pressure", "alarm"),
    [
        (c.ESME_RINVDSTADR, "invalid_destination", False, False, False),
        (c.ESME_RSYSERR, "retryable_transient", True, False, False),
        (c.ESME_RSUBMITFAIL, "retryable_transient", True, False, False),
        (c.ESME_RTHROTTLED, "throttled", True, True, False),
        (c.ESME_RMSGQFUL, "throttled", True, True, False),
        (c.ESME_RINVSRCADR, "provider_config", False, False, True),
        (c.ESME_RINVPASWD, "provider_auth", False, False, True),
        (c.ESME_RINVMSGLEN, "message_too_large", False, False, False),
        (0x411, "unknown", False, False, False),
        (0x7FFFFFFF, "unknown", False, False, False),
    ],
)
def test_15_classes(status, error_class, retryable, pressure, alarm):
    fact = ErrorTable().status(status)
    assert (fact.error_class, fact.retryable, fact.pressure, fact.alarm) == (error_class, retryable, pressure, alarm)


def test_15_every_status_of_the_specification_has_a_row_and_a_known_class():
    table = ErrorTable()
    for status, name in c.STATUS_NAMES.items():
        if status:
            fact = table._statuses[status]
            assert fact.name == name
            assert fact.error_class in CLASSES
            assert not fact.retryable or fact.error_class in MOVES_ON


def test_11_15_a_carriers_own_classes_lie_over_the_general_ones():
    table = ErrorTable(
        {
            "0x45": "content_rejected",
            "ESME_RSYSERR": "provider_config",
            "1040": "insufficient_funds",
            "0x400-0x4FF": "retryable_transient",
            "0x500 - 0x501": "throttled",
            "err:027": "unreachable_handset",
            "err:0A1": "blocked_or_opted_out",
        }
    )
    assert table.status(0x45).error_class == "content_rejected"
    assert table.status(8).error_class == "provider_config"
    assert table.status(1_040).error_class == "insufficient_funds"
    assert table.status(0x411) == ("0x00000411", "retryable_transient", True, False, False)
    assert table.status(0x501).pressure
    assert table.receipt("27") == table.receipt("027") == "unreachable_handset"
    assert table.receipt("0a1") == "blocked_or_opted_out"
    assert table.receipt("000") is table.receipt(None) is None
    assert ErrorTable().status(0x45).error_class == "retryable_transient"


@pytest.mark.parametrize("wrong", [{"0x45": "no_such_class"}, {"ESME_NOTHING": "unknown"}, {"": "unknown"}])
def test_15_a_wrong_setting_is_refused(wrong):
    with pytest.raises(ValueError, match=r"class|key"):
        ErrorTable(wrong)
