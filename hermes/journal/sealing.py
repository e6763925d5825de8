"""Encrypts what is secret before it is stored in the database, under a key that is not in the database.

The key file holds Fernet keys, one a line: the first encrypts, each may decrypt. To change keys, put a new one on
top and keep the old line until every secret has been written again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from hermes.data_dir import write_private
from hermes.errors import HermesError, SettingsError

MAKE_ONE = "make one with: openssl rand -base64 32 | tr '+/' '-_'"


class CannotUnseal(HermesError):
    """The secret was encrypted under another key, or belongs to something else. Says which file was tried."""


class Sealer:
    """Seals and unseals JSON objects.

    Args:
        path: the key file.
        own: it lies in our data folder: a missing one is made (0600) when something is sealed.

    Raises:
        SettingsError: a file that is not ours is missing, or it holds no key.
    """

    def __init__(self, path: Path, *, own: bool) -> None:
        self.path = path
        self._keys: MultiFernet | None = None
        if path.exists() or not own:
            self._keys = _read(path)

    def __repr__(self) -> str:
        return f"Sealer({str(self.path)!r})"

    def make_key(self) -> None:
        """Make the key file if there is none.

        Raises:
            SettingsError: it cannot be made.
        """
        if self._keys is None:
            if not self.path.exists():
                write_private(self.path, Fernet.generate_key().decode() + "\n")
            self._keys = _read(self.path)

    def seal(self, name: str, values: dict[str, Any]) -> bytes:
        """Encrypt an object, bound to the name of what it belongs to.

        Raises:
            SettingsError: the key file cannot be made.
        """
        self.make_key()
        assert self._keys is not None
        return self._keys.encrypt(json.dumps([name, values]).encode())

    def unseal(self, name: str, sealed: bytes) -> dict[str, Any]:
        """Decrypt what `seal` made for this name.

        Raises:
            CannotUnseal: this key file is not the one, or the secret is another's.
        """
        if self._keys is None and self.path.exists():  # another worker has made it
            self._keys = _read(self.path)
        if self._keys is None:
            raise CannotUnseal(f"the key file {self.path} is missing")
        try:
            owner, values = json.loads(self._keys.decrypt(sealed))
        except InvalidToken:
            raise CannotUnseal(f"the key file {self.path} holds another key") from None
        if owner != name:
            raise CannotUnseal("it was stored for another name")
        opened: dict[str, Any] = values
        return opened


def _read(path: Path) -> MultiFernet:
    try:
        keys = path.read_text(encoding="ascii").split()
        return MultiFernet([Fernet(key) for key in keys])
    except FileNotFoundError:
        raise SettingsError(f"database.secrets_key_file: {path} is missing; {MAKE_ONE}") from None
    except OSError as exc:
        raise SettingsError(f"database.secrets_key_file: {path} cannot be read: {exc.strerror or exc}") from exc
    except ValueError:  # no key at all, or a line that is none
        raise SettingsError(f"database.secrets_key_file: {path} holds no key; {MAKE_ONE}") from None
