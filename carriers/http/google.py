"""Access tokens of a Google service account: google-auth gets them, in a thread, once for all who wait."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any, Final

from google.auth.credentials import TokenState
from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
from google.auth.transport.requests import Request
from google.oauth2.service_account import Credentials

from carriers.base import SendError

REFRESH_TIMEOUT_S: Final = 10.0  # of one call to the token endpoint; google-auth makes at most three

_Failure = tuple[str, str | None, str, bool]  # class, code, detail, retryable
_TOO_LATE: Final[_Failure] = ("retryable_transient", None, "access token: none in time", True)


class GoogleTokens:
    """Access tokens for one scope.

    Args:
        account: a service account's key file, its JSON text.
        token_url: where tokens are had; None: where the account says.

    Raises:
        ValueError: it is no service account's key. Never shows it.
    """

    def __init__(self, account: str, scope: str, token_url: str | None) -> None:
        try:
            info = json.loads(account)
            if token_url is not None:
                info = {**info, "token_uri": token_url}
            self._credentials: Any = Credentials.from_service_account_info(info, scopes=[scope])  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, AttributeError, KeyError, GoogleAuthError, RecursionError):
            problem = True
        else:
            problem = False
        if problem:  # outside of `except`: its text may show the key
            raise ValueError("is not the JSON key file of a service account")
        self._renewing: asyncio.Task[_Failure | None] | None = None

    async def current(self, limit_s: float | None) -> str:
        """Give a token that is valid, for what Google has said until now; wait for one `limit_s` at most.

        Raises:
            SendError: there is none. Nothing was sent.
        """
        state = self._credentials.token_state
        if state is not TokenState.FRESH:
            renewing = self._begin()
            if state is TokenState.INVALID:
                await self._wait(renewing, limit_s)
        token: str = self._credentials.token
        return token

    async def another(self, refused: str, limit_s: float | None) -> str:
        """Give a token other than the one that was refused; waits and raises as `current`."""
        if self._credentials.token == refused:
            await self._wait(self._begin(), limit_s)
        token: str = self._credentials.token
        return token

    async def close(self) -> None:
        """Stop getting tokens."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
            self._renewing = None

    def _begin(self) -> asyncio.Task[_Failure | None]:
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew())
        return self._renewing

    async def _wait(self, renewing: asyncio.Task[_Failure | None], limit_s: float | None) -> None:
        done, _ = await asyncio.wait({renewing}, timeout=limit_s)
        failure = renewing.result() if done else _TOO_LATE
        if failure is not None:
            error_class, code, detail, retryable = failure
            raise SendError(error_class, code, detail, retryable=retryable)

    async def _renew(self) -> _Failure | None:
        try:
            request = partial(Request(), timeout=REFRESH_TIMEOUT_S)
            await asyncio.to_thread(self._credentials.refresh, request)
        except RefreshError as error:
            said = error.args[1] if len(error.args) > 1 and isinstance(error.args[1], dict) else {}
            code = str(said["error"])[:64] if isinstance(said.get("error"), str) else None
            if error.retryable or code is None:  # without a code of OAuth it may be anybody's answer
                return "retryable_transient", code, "access token: the token endpoint is not well", True
            return "provider_auth", code, "access token: refused", False
        except (TransportError, OSError):
            return "retryable_transient", None, "access token: the token endpoint cannot be reached", True
        except (TypeError, ValueError, KeyError, AttributeError):  # google-auth's, on a 200 that is no JSON object
            return "retryable_transient", None, "access token: the answer cannot be understood", True
        except GoogleAuthError:
            return "provider_auth", None, "access token: cannot be had", False
        return None
