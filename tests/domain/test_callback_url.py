"""Which hosts webhooks may reach, as a table: every spelling of what is not the public internet is refused."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.domain.callback_url import BadUrl, callback_host, is_refused_address, is_refused_host, literal_address

REFUSED = [
    "http://127.0.0.1/", "http://127.1/", "http://127.0.1/", "http://2130706433/", "http://0x7f000001/",
    "http://0x7f.0.0.1/", "http://0177.0.0.1/", "http://017700000001/", "http://0x7F.1/", "http://127.0.0.1./",
    "http://０x7f.1/", "http://１２７.０.０.１/", "http://127。0。0。1/", "http://①②⑦.⓪.⓪.①/", "http://127%2e0%2e0%2e1/",
    "http://0/", "http://0.0.0.0/", "http://localhost/", "http://LOCALHOST./", "http://a.localhost/",
    "http://ⓛocalhost/", "http://loc%61lhost/", "http://10.0.0.1/", "http://172.16.0.1/", "http://172.31.255.255/",
    "http://192.168.0.1/", "http://169.254.169.254/latest/", "http://100.64.0.1/", "http://192.0.0.1/",
    "http://192.0.2.1/", "http://198.18.0.1/", "http://224.0.0.1/", "http://240.0.0.1/", "http://255.255.255.255/",
    "http://[::1]/", "http://[::]/", "http://[0:0:0:0:0:0:0:1]/", "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/", "http://[64:ff9b::127.0.0.1]/", "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b:1::1]/", "http://[2002:7f00:1::]/", "http://[2001::1]/", "http://[2001:db8::1]/",
    "http://[fe80::1]/", "http://[fe80::1%25eth0]/", "http://[fe80::1%eth0]/", "http://[fec0::1]/", "http://[fc00::1]/",
    "http://[fd12::1]/", "http://[ff02::1]/", "http://[100::1]/",
    "http://256.1.1.1/", "http://1.2.3.4.5/", "http://example.1/", "http://example.0x1/",  # no names; resolvers differ
]  # fmt: skip
FINE = [
    ("https://customer.example/hook", "customer.example"),
    ("HTTPS://Customer.Example:8443/Hook?a=b", "customer.example"),
    ("https://customer.example./", "customer.example"),
    ("https://bücher.example/", "xn--bcher-kva.example"),
    ("https://xn--bcher-kva.example/", "xn--bcher-kva.example"),
    ("http://8.8.8.8/", "8.8.8.8"),
    ("http://134744072/", "134744072"),
    ("http://[2606:4700::1111]/", "2606:4700::1111"),
    ("http://[64:ff9b::8.8.8.8]/", "64:ff9b::8.8.8.8"),
    ("https://localhost.example/", "localhost.example"),
    ("https://a_b.example/", "a_b.example"),
    ("https://hook/", "hook"),
]
BAD = [
    "", "hook", "//example.com/", "ftp://example.com/", "javascript:alert(1)", "http://", "https:///x", "http://:80/",
    "https://u@example.com/", "https://u:p@example.com/", "https://@example.com/", "http://example.com:99999/",
    "http://example.com:0/", "http://example.com:x/", "http://[::1/", "http://[x]/", "http://a..b/", "http://.a/",
    "http://a b/", "http://a\tb/", "http://a\nb/", "http://a\\b/", "http://a<b/", "http://a%20b/", "http://%00/",
    "http://" + "a" * 64 + ".example/", "http://" + "a." * 127 + "example/", "https://example.com/" + "x" * 2048,
]  # fmt: skip


@pytest.mark.parametrize("url", REFUSED)
def test_what_is_not_the_public_internet_is_refused_in_any_spelling(url: str) -> None:
    assert is_refused_host(callback_host(url))


@pytest.mark.parametrize(("url", "host"), FINE)
def test_public_hosts_are_fine(url: str, host: str) -> None:
    assert callback_host(url) == host
    assert not is_refused_host(host)


@pytest.mark.parametrize("url", BAD)
def test_what_is_no_webhook_url_says_why(url: str) -> None:
    with pytest.raises(BadUrl) as caught:
        callback_host(url)
    assert str(caught.value)


@given(st.ip_addresses(v=4))
def test_every_spelling_of_an_ipv4_address_is_judged_alike(address: ipaddress.IPv4Address) -> None:
    a, b, c, d = address.packed
    n = int(address)
    for text in (
        str(address), str(n), hex(n), f"0{n:o}", f"{a}.{n & 0xFFFFFF}", f"{a}.{b}.{n & 0xFFFF}",
        f"{a:#x}.{b:#o}.{c}.{d}".replace("0o", "0"),
    ):  # fmt: skip
        assert literal_address(text) == address, text
        assert is_refused_host(text) == is_refused_address(address)
    mapped = ipaddress.IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)
    assert is_refused_address(mapped) == is_refused_address(address)


@given(st.ip_addresses())
def test_what_the_registries_call_private_is_refused(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if not address.is_global or address.is_multicast:
        assert is_refused_address(address) and is_refused_address(str(address))


@given(st.text(max_size=40))
def test_any_text_is_a_host_or_bad(text: str) -> None:
    for url in (text, "http://" + text, "http://" + text + "/", "https://[" + text + "]/"):
        try:
            host = callback_host(url)
        except BadUrl:
            continue
        assert host == host.lower() and len(host) <= 253
        is_refused_host(host)
