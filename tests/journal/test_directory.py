"""Two workers over one database: what one changes of a tenant holds at the other at once, and is in the audit log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from hermes.journal.base import VERSIONS_KEPT, Change, JournalAway
from hermes.journal.directory import Author, Directory
from tests.journal.makers import Bench, database, until

OPERATOR = Author("operator", "req_1")


@pytest.fixture(params=["memory", "postgres"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "memory":
        made = Bench("memory", None)
        yield made
        await made.end()
    else:
        async with database() as connect:
            made = Bench("postgres", connect)
            yield made
            await made.end()


async def directory(bench: Bench) -> Directory:
    made = Directory(await bench.worker(), bench.clock, b"secret")
    await made.load()
    return made


@pytest.fixture
async def here(bench: Bench) -> Directory:
    return await directory(bench)


@pytest.fixture
async def there(bench: Bench, here: Directory) -> Directory:
    return await directory(bench)


async def changes(bench: Bench, tenant: str | None = None) -> list[Change]:
    """The audit log, oldest first."""
    return (await bench.journals[0].changes(tenant, None, 100))[::-1]


async def test_a_new_tenant_and_its_key_hold_at_the_other_worker(here: Directory, there: Directory) -> None:
    new: list[str] = []
    there.on_tenant = new.append
    tenant = await here.create_tenant("Acme")
    _, text = await here.create_key(tenant.id, "live", ("messages:read",))
    await until(lambda: there.find_key(text) is not None)
    found = there.find_key(text)
    assert found is not None and found == here.find_key(text) and there.tenant(tenant.id) == tenant
    assert new == [tenant.id]


async def test_a_revoked_key_ends_at_the_other_worker(here: Directory, there: Directory) -> None:
    tenant = await here.create_tenant("Acme")
    key, text = await here.create_key(tenant.id, "live")
    await until(lambda: there.find_key(text) is not None)
    assert await there.revoke_key(tenant.id, key.id)
    assert there.find_key(text) is None
    await until(lambda: here.find_key(text) is None)


@pytest.mark.parametrize(
    "change",
    [
        lambda d, t: d.update_tenant(t, status="suspended"),
        lambda d, t: d.update_tenant(t, name="New"),
        lambda d, t: d.rotate_secret(t),
        lambda d, t: d.create_endpoint(t, "https://x.example/", ["message.read"]),
        lambda d, t: d.create_key(t, "test"),
        lambda d, t: d.put_policy(t, "otp", {"cascade": ["sms"]}),
        lambda d, t: d.put_template(t, "welcome", "{}"),
        lambda d, t: d.delete_tenant(t),
    ],
)
async def test_every_change_holds_at_the_other_worker(
    here: Directory, there: Directory, change: Callable[[Directory, str], Any]
) -> None:
    tenant = await here.create_tenant("Acme")
    await here.create_key(tenant.id, "live")
    await until(lambda: len(there.keys(tenant.id)) == 1)
    await change(there, tenant.id)

    def seen(d: Directory) -> Any:
        id_ = tenant.id
        return d.tenant(id_), d.keys(id_), d.endpoints(id_), d.policies(id_), d.templates(id_)

    await until(lambda: seen(here) == seen(there))


async def test_policies_come_back_after_a_restart_and_belong_to_their_tenant(bench: Bench, here: Directory) -> None:
    one, two = await here.create_tenant("One"), await here.create_tenant("Two")
    await here.put_policy(one.id, "otp", {"cascade": ["sms"]})
    replaced = await here.put_policy(one.id, "otp", {"cascade": ["email"]})
    again = await directory(bench)
    assert again.policies(one.id) == [replaced] and again.policy(two.id, "otp") is None
    assert not await again.delete_policy(two.id, "otp") and await again.delete_policy(one.id, "otp")
    await until(lambda: here.policies(one.id) == [])


async def test_templates_have_versions_of_which_the_newest_are_kept(bench: Bench, here: Directory) -> None:
    tenant = await here.create_tenant("Acme")
    for n in range(VERSIONS_KEPT + 2):
        made = await here.put_template(tenant.id, "welcome", f"body {n}")
    assert made.version == VERSIONS_KEPT + 2
    journal = bench.journals[0]
    assert await journal.template(tenant.id, "welcome", made.version) == made
    assert await journal.template(tenant.id, "welcome", 2) is None
    third = await journal.template(tenant.id, "welcome", 3)
    assert third is not None and (third.body, third.id) == ("body 2", made.id)
    again = await directory(bench)
    head = again.template(tenant.id, "welcome")
    assert head is not None and (head.version, head.body) == (made.version, "")
    assert await again.delete_template(tenant.id, "welcome")
    assert await journal.template(tenant.id, "welcome", made.version) is None
    anew = await again.put_template(tenant.id, "welcome", "anew")
    assert anew.version == 1 and anew.id != made.id


async def test_a_version_made_elsewhere_meanwhile_is_not_written_over(here: Directory, there: Directory) -> None:
    tenant = await here.create_tenant("Acme")
    await until(lambda: there.tenant(tenant.id) is not None)
    made = await asyncio.gather(*(d.put_template(tenant.id, "welcome", "x") for d in (here, there)))
    assert sorted(template.version for template in made) == [1, 2]


async def test_a_key_of_another_tenant_is_not_revoked(here: Directory) -> None:
    one, two = await here.create_tenant("One"), await here.create_tenant("Two")
    key, text = await here.create_key(one.id, "live")
    assert not await here.revoke_key(two.id, key.id)
    assert here.find_key(text) is not None
    with pytest.raises(KeyError):
        await here.rotate_key(two.id, key.id, 0)


async def test_a_deleted_tenants_keys_have_ended_after_a_restart(bench: Bench, here: Directory) -> None:
    tenant = await here.create_tenant("Acme")
    _, text = await here.create_key(tenant.id, "live")
    await here.delete_tenant(tenant.id)
    assert here.find_key(text) is None and here.tenants() == []
    again = await directory(bench)
    assert again.find_key(text) is None and again.tenant(tenant.id) is None


async def test_each_change_is_in_the_audit_log_with_its_author_and_without_secrets(
    bench: Bench, here: Directory
) -> None:
    tenant = await here.create_tenant("Acme", by=OPERATOR)
    key, text = await here.create_key(tenant.id, "live", by=OPERATOR)
    endpoint = await here.create_endpoint(tenant.id, "https://x.example/hook?token=sesame", [], by=Author(key.id))
    await here.update_tenant(tenant.id, name="New", by=OPERATOR)
    rotated = await here.rotate_secret(tenant.id, by=Author(key.id))
    _, second = await here.rotate_key(tenant.id, key.id, 60.0, by=OPERATOR)
    await here.delete_endpoint(tenant.id, endpoint.id, by=OPERATOR)
    await here.delete_tenant(tenant.id, by=OPERATOR)
    log = await changes(bench, tenant.id)
    assert [(c.action, c.actor) for c in log] == [
        ("tenant.created", "operator"),
        ("key.created", "operator"),
        ("endpoint.created", key.id),
        ("tenant.updated", "operator"),
        ("secret.rotated", key.id),
        ("key.created", "operator"),
        ("key.updated", "operator"),
        ("endpoint.deleted", "operator"),
        ("tenant.deleted", "operator"),
        ("key.revoked", "operator"),
        ("key.revoked", "operator"),
    ]
    renamed = log[3]
    assert (renamed.before, renamed.after) == ({"name": "Acme"}, {"name": "New"})
    assert renamed.request_id == "req_1" and renamed.target == tenant.id
    assert log[0].before is None and log[7].after is None
    told = repr(log)
    for secret in (text, second, tenant.secret, rotated.secret, endpoint.secret, "sesame", key.key_hash.hex()):
        assert secret not in told


async def test_the_audit_log_is_paged_and_one_tenants_shows_no_other(bench: Bench, here: Directory) -> None:
    one, two = await here.create_tenant("One"), await here.create_tenant("Two")
    for n in range(3):
        await here.update_tenant(one.id, name=f"One {n}")
        await here.update_tenant(two.id, name=f"Two {n}")
    journal = bench.journals[0]
    first = await journal.changes(one.id, None, 2)
    rest = await journal.changes(one.id, first[-1].id, 10)
    assert [c.after["name"] for c in first + rest if c.after] == ["One 2", "One 1", "One 0", "One"]
    assert len(await journal.changes(None, None, 100)) == 8


async def test_when_a_key_was_used_is_stored_once_for_many_requests(
    bench: Bench, here: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await here.create_tenant("Acme")
    key, _ = await here.create_key(tenant.id, "live")
    assert await here.last_used(tenant.id) == {}
    written: list[int] = []
    journal = bench.journals[0]
    store = journal.keys_used

    async def counted(ids: Any, at: Any) -> None:
        written.append(len(ids))
        await store(ids, at)

    monkeypatch.setattr(journal, "keys_used", counted)
    for _ in range(1000):
        here.used_keys.add(key.id)
    await here.note_use()
    await here.note_use()
    assert written == [1]
    at = (await here.last_used(tenant.id))[key.id]
    bench.clock.offset = timedelta(hours=1)
    here.used_keys.add(key.id)
    await here.note_use()
    assert (await here.last_used(tenant.id))[key.id] >= at + timedelta(hours=1)


async def test_what_was_revoked_while_this_worker_was_cut_off_ends_when_it_is_back() -> None:
    async with database() as connect:
        bench = Bench("postgres", connect)
        here, there = await directory(bench), await directory(bench)
        tenant = await here.create_tenant("Acme")
        key, text = await here.create_key(tenant.id, "live")
        await until(lambda: there.find_key(text) is not None)
        other = await asyncpg.connect(**connect)
        # What the other worker is told is lost, as when its connection breaks at the wrong moment.
        there._changed_elsewhere = lambda tenant_id: None  # type: ignore[method-assign]
        bench.journals[1]._on_directory.clear()  # type: ignore[union-attr]
        await here.revoke_key(tenant.id, key.id)
        assert there.find_key(text) is not None
        del there._changed_elsewhere
        bench.journals[1].on_directory(there._changed_elsewhere)
        name = f"hermes {bench.journals[1].worker_id}"
        await other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1", name)
        await until(lambda: there.find_key(text) is None)
        await other.close()
        await bench.end()


async def test_a_change_that_cannot_be_stored_is_not_seen(bench: Bench, here: Directory) -> None:
    if bench.kind != "memory":
        pytest.skip("the memory journal can be switched off at will")
    tenant = await here.create_tenant("Acme")
    bench.journals[0].set_available(False)  # type: ignore[union-attr]
    with pytest.raises(JournalAway):
        await here.update_tenant(tenant.id, name="New")
    assert here.tenant(tenant.id) == tenant
    bench.journals[0].set_available(True)  # type: ignore[union-attr]
    assert (await asyncio.wait_for(here.update_tenant(tenant.id, name="New"), 5)).name == "New"
