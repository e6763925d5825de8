"""What is posted is what aiohttp's own session would post, and what comes back is read as it reads it."""

import asyncio
import gzip

import aiohttp
import pytest

from carriers.http import common
from carriers.http.common import HttpClient
from carriers.http.post import MAX_HEADS, Poster
from tests.carriers.http import servers

DEFAULTS = {"User-Agent": "Hermes/1", "Accept": "application/json"}


class OneAfterAnother:
    """Connections, each told what to answer to each of its requests."""

    def __init__(self, *answers):
        self.answers = answers
        self.connections = 0
        self.bodies = []

    async def talk(self, reader, writer):
        self.connections += 1
        for answer in self.answers:
            self.bodies.append(await servers.read_request(reader))
            writer.write(answer)
            await writer.drain()


def over(session, headers, **options):
    return Poster(session.connector, headers, 100, **options)


async def _posted(provider, poster, session, url, data, headers):
    await poster.post(url, data, headers)
    response = await session.post(url, data=data, headers=headers, allow_redirects=False)
    await response.read()
    return provider.asked[-2:]


@pytest.mark.parametrize("path", ["/send", "/a%20b/%C3%A6?key=1%2B2&x=%20", "/æ?ø=å", ""])
@pytest.mark.parametrize(
    ("defaults", "headers"),
    [
        (DEFAULTS, None),
        (DEFAULTS, {"Content-Type": "application/json", "Authorization": "Bearer x"}),
        (DEFAULTS | {"Content-Type": "text/plain"}, {"content-type": "application/json", "ACCEPT": "*/*"}),
        ({}, {"X-Name": "Blåbær", "Host": "elsewhere.example"}),
    ],
)
async def test_a_post_is_what_a_session_posts(path, defaults, headers):
    async with servers.provider() as provider, aiohttp.ClientSession(headers=defaults) as session:
        poster = over(session, defaults)
        for data in (b"", b"text=\x00\xff", b"x" * 100_000):
            ours, theirs = await _posted(provider, poster, session, provider.url + path, data, headers)
            assert ours == theirs
            assert ours.body == data


async def test_the_headers_of_one_call_are_not_those_of_the_next():
    async with servers.provider() as provider, aiohttp.ClientSession() as session:
        poster = over(session, DEFAULTS)
        for token in ("one", "two"):
            await poster.post(provider.url, b"x", {"Authorization": token})
        await poster.post(provider.url, b"x")
        assert [asked.headers.get("authorization") for asked in provider.asked] == ["one", "two", None]


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\rb", "a\nb", "a\0b"])
async def test_a_header_that_is_more_than_its_line_is_never_sent(value):
    async with servers.provider() as provider, aiohttp.ClientSession() as session:
        for poster, headers in (
            (over(session, {}), {"X-Name": value}),
            (over(session, {"X-Name": value}), None),
        ):
            with pytest.raises(ValueError, match="line break"):
                await poster.post(provider.url, b"x", headers)
        assert not provider.asked


@pytest.mark.parametrize("url", ["/send", "ftp://127.0.0.1/", "http:///x"])
async def test_what_is_no_address_is_refused(url):
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ValueError):  # yarl's words or ours
            await over(session, {}).post(url, b"x")


async def test_provisional_answers_come_before_the_answer():
    answers = OneAfterAnother(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"
    )
    async with servers.raw_server(answers.talk) as url, aiohttp.ClientSession() as session:
        status, _, body = await over(session, {}).post(url, b"x")
        assert (status, body) == (201, b"{}")


@pytest.mark.parametrize(
    ("answer", "body", "connections"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"{}", 1),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", b"{}", 1),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", 1),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", b"{}", 2),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + b"x" * 101, b"", 2),  # more than is read
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" * 2, b"{}", 2),  # one more than was asked for
    ],
)
async def test_a_connection_is_used_again_only_when_its_answer_ended_well(answer, body, connections):
    answers = OneAfterAnother(answer, answer)
    async with servers.raw_server(answers.talk) as url, aiohttp.ClientSession() as session:
        poster = over(session, {})
        for n in range(2):
            assert (await poster.post(url, b"%d" % n))[2] == body
        assert answers.bodies == [b"0", b"1"]
        assert answers.connections == connections


async def test_an_answer_may_end_with_its_connection():
    answers = OneAfterAnother(b"HTTP/1.0 200 OK\r\n\r\n{}")
    async with servers.raw_server(answers.talk) as url, aiohttp.ClientSession() as session:
        assert (await over(session, {}).post(url, b"x"))[2] == b"{}"


async def test_an_answer_before_the_whole_body_was_read_is_the_answer():
    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        await asyncio.Event().wait()

    async with servers.raw_server(talk) as url, aiohttp.ClientSession() as session:
        status, _, _ = await over(session, {}).post(url, b"x" * 8_000_000)
        assert status == 413


async def test_addresses_without_end_take_no_memory_without_end():
    async with servers.provider() as provider, aiohttp.ClientSession() as session:
        poster = over(session, {})
        for n in range(MAX_HEADS + 2):
            await poster.post(f"{provider.url}/{n}", b"x")
        assert len(poster._heads) <= MAX_HEADS
        assert provider.asked[-1].path == f"/{MAX_HEADS + 1}"
        assert any(f"{provider.url}/2" in key for key in poster._heads)  # the oldest went, not all


async def test_headers_that_nobody_wants_are_not_added():
    async with servers.provider() as provider, aiohttp.ClientSession() as session:
        poster = over(session, DEFAULTS, without=("Accept-Encoding",))
        await poster.post(provider.url, b"x")
        assert set(provider.asked[0].headers) == {"host", "user-agent", "accept", "content-type", "content-length"}


async def test_a_compressed_body_may_stay_as_it_is():
    body = gzip.compress(b"x" * 1_000)
    answers = OneAfterAnother(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )
    async with servers.raw_server(answers.talk) as url, aiohttp.ClientSession() as session:
        assert (await over(session, {}, decompress=False).post(url, b"x"))[2] == body


async def test_the_head_of_an_answer_is_told_before_its_body_came():
    more = asyncio.Event()

    async def talk(reader, writer):
        await servers.read_request(reader)
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{")
        await more.wait()
        writer.write(b"}")

    async with servers.raw_server(talk) as url, aiohttp.ClientSession() as session:
        answer = await over(session, {}).start(url, b"x")
        assert answer.status == 202
        assert not answer.end()
        more.set()
        assert await answer.read(2) == b"{}"
        assert answer.end()


async def test_cancelled_calls_leave_no_connection_behind(monkeypatch):
    monkeypatch.setattr(common, "CONNECTIONS", 1)
    client = HttpClient(0)
    await client.open()
    try:
        asked = asyncio.Event()

        async def talk(reader, writer):
            await servers.read_request(reader)
            asked.set()
            await asyncio.Event().wait()

        async with servers.raw_server(talk) as url:
            for _ in range(3):  # a connection that stayed would keep the next call waiting
                asked.clear()
                call = asyncio.create_task(client.request("POST", url, data=b"x"))
                await asyncio.wait_for(asked.wait(), 30)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
    finally:
        await client.close()
