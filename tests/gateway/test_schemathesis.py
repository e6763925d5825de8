"""Schemathesis asks every operation of /openapi.json what it may be asked, and what it may not, and judges the answers.

No answer is 5xx; each has a status, type, headers and shape that the document names; what the document forbids is
refused. The node stands on a real PostgreSQL. Who asks is the tenant for what is its own, the operator for the rest:
that others are refused is the subject of tests/gateway/test_isolation.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest

from hermes.journal.postgres import PostgresJournal
from hermes.runtime import SystemClock
from tests.gateway.api import OPERATOR, SMS, start_api, stop_api
from tests.journal.makers import database

CONFORMANCE = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "ignored_auth",
)
EXAMPLES = 6  # random ones for each operation, beside those at the bounds of each field
SEED = 5
WITHIN_S = 400.0  # a run on the slowest machine; it takes 5 to 30 s

TENANTS_OWN = r"^/v1/(messages|tenants/\{id\}/(?!keys|signing))"  # requests are not signed here
JUDGED_INSIDE = r"^/v1/messages/(batch|validate)$"  # 200, and the body says what is wrong
ENDS_PARTS_OF_THE_NODE = r"/(stop|restart|suspend)$"

# who -> whose key, which checks, which operations
RUNS = {
    "the tenant": (
        "tenant",
        (*CONFORMANCE, "negative_data_rejection"),
        ("--include-path-regex", TENANTS_OWN, "--exclude-path-regex", JUDGED_INSIDE),
    ),
    "the tenant, judged inside": ("tenant", CONFORMANCE, ("--include-path-regex", JUDGED_INSIDE)),
    "the operator": (
        "operator",
        (*CONFORMANCE, "negative_data_rejection"),
        ("--exclude-path-regex", f"{TENANTS_OWN}|{ENDS_PARTS_OF_THE_NODE}", "--exclude-method", "DELETE"),
    ),
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(WITHIN_S + 60)]


async def judged(url: str, key: str, parameters: dict[str, tuple[str, str]], folder: Path, *options: str) -> str:
    """Run Schemathesis with this key; returns what it says.

    Args:
        parameters: a pattern of paths -> the name and the value of a parameter in them.
    """
    lines = [f"seed = {SEED}", f"headers = {{ Authorization = {json.dumps('Bearer ' + key)} }}"]
    for paths, (name, value) in parameters.items():
        lines += ["[[operations]]", f"include-path-regex = '{paths}'", f'parameters = {{ "path.{name}" = "{value}" }}']
    config = folder / "schemathesis.toml"
    config.write_text("\n".join(lines))
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config)]
    command += ["run", f"{url}/openapi.json", "--max-examples", str(EXAMPLES), "--no-color", "--no-shrink"]
    command += ["--phases", "examples,coverage,fuzzing", "--continue-on-failure", *options]
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(WITHIN_S):
            told = (await process.stdout.read()).decode()
            code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert code == 0, told
    return told


@pytest.mark.parametrize("who", RUNS)
async def test_every_answer_is_one_that_the_document_names(who: str, tmp_path: Path) -> None:
    key, checks, operations = RUNS[who]
    async with database() as connect:
        journal = PostgresJournal(connect, worker_id="w1", clock=SystemClock())
        await journal.start()
        api = await start_api(journal=journal)
        try:
            message_id = await api.sent({**SMS, "to": "+4520120004"})
            told = await judged(
                api.url,
                {"tenant": api.live, "operator": OPERATOR}[key],
                {
                    "^/v1/tenants/": ("id", api.node.tenant),
                    "^/v1/messages/": ("id", message_id),
                    "^/v1/actors/": ("name", "mo"),
                    "^/v1/carriers/": ("name", "mock-push"),
                },
                tmp_path,
                *("--checks", ",".join(checks), *operations),
            )
        finally:
            await stop_api(api)
            await journal.stop()
    cases = re.search(r"(\d+) generated, (\d+) passed", told)
    assert cases is not None and int(cases[2]) >= 100, told
