"""Secrets at rest: what is sealed, by which key, and what is said when the key is not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from hermes.errors import SettingsError
from hermes.journal.sealing import CannotUnseal, Sealer

SECRET = {"auth_token": "canary", "nested": {"n": [1, "ü"]}}


def test_what_was_sealed_comes_back_and_shows_nothing(tmp_path: Path) -> None:
    sealer = Sealer(tmp_path / "secrets.key", own=True)
    sealed = sealer.seal("twilio", SECRET)
    assert sealer.unseal("twilio", sealed) == SECRET
    assert b"canary" not in sealed and b"twilio" not in sealed
    assert Sealer(tmp_path / "secrets.key", own=True).unseal("twilio", sealed) == SECRET


def test_our_own_key_is_made_when_it_is_needed_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "secrets.key"
    sealer = Sealer(path, own=True)
    assert not path.exists()
    sealer.seal("a", SECRET)
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert path.read_text().strip() not in repr(sealer)


def test_a_named_key_file_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"secrets_key_file: .*/k is missing; make one with: openssl"):
        Sealer(tmp_path / "k", own=False)


@pytest.mark.parametrize("content", ["", "nonsense", "ü", "a" * 44])
def test_a_file_without_a_key_is_refused_and_not_repeated(tmp_path: Path, content: str) -> None:
    (tmp_path / "k").write_text(content)
    with pytest.raises(SettingsError, match="holds no key") as refused:
        Sealer(tmp_path / "k", own=False)
    assert not content or content not in str(refused.value)


def test_the_first_line_seals_and_the_others_still_open(tmp_path: Path) -> None:
    path = tmp_path / "k"
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    path.write_text(old)
    sealed = Sealer(path, own=False).seal("a", SECRET)
    path.write_text(f"{new}\n{old}\n")
    both = Sealer(path, own=False)
    assert both.unseal("a", sealed) == SECRET
    path.write_text(new)
    assert Sealer(path, own=False).unseal("a", both.seal("a", SECRET)) == SECRET
    with pytest.raises(CannotUnseal, match="another key"):
        Sealer(path, own=False).unseal("a", sealed)


def test_what_belongs_to_another_name_or_was_changed_is_not_opened(tmp_path: Path) -> None:
    sealer = Sealer(tmp_path / "k", own=True)
    sealed = sealer.seal("a", SECRET)
    with pytest.raises(CannotUnseal, match="another name"):
        sealer.unseal("b", sealed)
    with pytest.raises(CannotUnseal, match="another key"):
        sealer.unseal("a", sealed[:-2] + b"00")
    with pytest.raises(CannotUnseal, match="is missing"):
        Sealer(tmp_path / "elsewhere", own=True).unseal("a", sealed)
