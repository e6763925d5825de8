"""Signatures of requests: what is signed passes, and no octet of it can be another."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hermes.domain.signing import WINDOW_S, BadSignature, check_signature, signature_of, signing_secret

NOW = 1_767_600_000
SECRET = signing_secret(b"installation", b"k" * 32)


@dataclass(frozen=True)
class Request:
    timestamp: str = str(NOW)
    nonce: str = "abcdefgh"
    method: str = "POST"
    target: str = "/v1/messages?x=1"
    body: bytes = b'{"to": "+4520123456"}'

    def signed(self, secret: str = SECRET) -> str:
        return signature_of(secret, self.timestamp, self.nonce, self.method, self.target, self.body)

    def check(self, signature: str, now: float = NOW) -> None:
        check_signature(SECRET, signature, self.timestamp, self.nonce, self.method, self.target, self.body, now)


LATIN = st.characters(max_codepoint=255)
REQUESTS = st.builds(
    Request,
    timestamp=st.integers(NOW - WINDOW_S, NOW + WINDOW_S).map(str),
    nonce=st.from_regex(r"[A-Za-z0-9_-]{8,64}", fullmatch=True),
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    target=st.text(LATIN, max_size=40).map(lambda text: "/" + text),
    body=st.binary(max_size=200),
)


@given(REQUESTS)
def test_what_was_signed_passes(request_: Request) -> None:
    request_.check(request_.signed())


@given(REQUESTS, st.sampled_from(["timestamp", "nonce", "method", "target"]), st.data())
def test_any_altered_character_is_refused(request_: Request, name: str, data: st.DataObject) -> None:
    text = getattr(request_, name)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(LATIN)
    assume(other != text[at])
    altered = replace(request_, **{name: text[:at] + other + text[at + 1 :]})
    with pytest.raises(BadSignature):
        altered.check(request_.signed())


@given(REQUESTS, st.data())
def test_any_altered_octet_of_the_body_is_refused(request_: Request, data: st.DataObject) -> None:
    assume(request_.body)
    at = data.draw(st.integers(0, len(request_.body) - 1))
    octet = data.draw(st.integers(1, 255)) ^ request_.body[at]
    altered = replace(request_, body=request_.body[:at] + bytes([octet]) + request_.body[at + 1 :])
    with pytest.raises(BadSignature):
        altered.check(request_.signed())


@given(REQUESTS, st.data())
def test_any_altered_character_of_the_signature_is_refused(request_: Request, data: st.DataObject) -> None:
    signature = request_.signed()
    at = data.draw(st.integers(0, len(signature) - 1))
    other = data.draw(LATIN)
    assume(other != signature[at])
    with pytest.raises(BadSignature):
        request_.check(signature[:at] + other + signature[at + 1 :])


@given(REQUESTS, REQUESTS)
def test_a_signature_is_of_one_request_only(one: Request, other: Request) -> None:
    assume(one != other)
    with pytest.raises(BadSignature):
        other.check(one.signed())


@pytest.mark.parametrize("away_s", [-WINDOW_S - 1, WINDOW_S + 1, -(10**9)])
def test_an_old_or_early_timestamp_is_refused_however_well_it_is_signed(away_s: int) -> None:
    request_ = Request(timestamp=str(NOW + away_s))
    with pytest.raises(BadSignature, match="more than 300 s"):
        request_.check(request_.signed())


@pytest.mark.parametrize(
    "wrong",
    [Request(timestamp=t) for t in ("", "-1", "1e9", "٣", "9" * 13)]
    + [Request(nonce=n) for n in ("", "short", "x" * 65, "a b")],
)
def test_a_timestamp_or_nonce_of_another_form_is_refused(wrong: Request) -> None:
    with pytest.raises(BadSignature, match="X-Hermes-"):
        wrong.check(wrong.signed())


def test_another_keys_or_installations_secret_does_not_sign() -> None:
    secrets = {signing_secret(i, k) for i in (b"a", b"b") for k in (b"k" * 32, b"l" * 32)}
    assert len(secrets) == 4
    for secret in secrets:
        with pytest.raises(BadSignature):
            Request().check(Request().signed(secret))


def test_the_form_is_the_documented_one() -> None:
    """Made with: printf 'v1\\n...' | openssl dgst -sha256 -hmac hss_documented."""
    signature = signature_of("hss_documented", "1767600000", "abcdefgh", "GET", "/v1/messages", b"")
    assert signature == "v1=6b0af613fa8dd44b42204b7629f87b0028ee7f1dfd0824ba3db865affcee7285"
