"""The command line as its users see it: processes, lines, exit codes."""

import json
import signal
import socket
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import httpx2
import pytest
import typer
from prometheus_client import CollectorRegistry

from api.dev_keys import load_or_create
from api.gate import Scope
from consumer.metrics import ConsumerMetrics
from contract.topics import Topics
from funnel.cli import MODULES
from funnel.cli.setup import Scope as TokenScope
from funnel.metrics_server import serve_metrics
from funnel.settings import BadSettings
from migrations.files import required_version
from stack.files import free_port
from stack.servers import Servers
from tests.conftest import PARTITIONS_TOTAL, url_of
from tests.funnel.processes import Environment, Run, Start, api_url, lines_until

ORGANIZATION = "00000000-0000-4000-8000-000000000001"
NOWHERE = "127.0.0.1:1"


def test_help__lists_every_command_without_importing_it() -> None:
    heavy = "{'pydantic', 'asyncpg', 'aiokafka', 'fastapi', 'orjson'}"
    program = (
        f"import sys; import funnel.cli as c; c.application(''); print({heavy} & {{*sys.modules}})"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("module", MODULES)
def test_modules__offer_the_commands_that_the_list_names(module: str) -> None:
    group = typer.main.get_group(import_module(module).app)

    assert set(group.commands) == set(MODULES[module])


def test_token__knows_the_scopes_of_the_api() -> None:
    assert {scope.value for scope in TokenScope} == set(get_args(Scope))


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["migrate"],
        ["token"],
        ["token", "--organization", ORGANIZATION, "--user", ""],
        ["token", "--organization", ORGANIZATION, "--user", "me", "--scope", "all"],
        ["serve", "--port", "x"],
        ["up", "--demo"],
    ],
)
def test_usage_error__exits_2(
    funnel: Run, bare_environment: Environment, arguments: list[str]
) -> None:
    done = funnel(*arguments, env=bare_environment)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["config"], ["consume"], ["serve"], ["stack", "start"]])
def test_bad_setting__is_one_line_and_78(
    funnel: Run, bare_environment: Environment, arguments: list[str]
) -> None:
    done = funnel(*arguments, env=bare_environment | {"PORT": "many"})

    assert done.returncode == 78
    assert done.stderr.startswith("funnel: PORT: ")
    assert done.stderr.count("\n") == 1


def test_no_servers__says_which_variable_and_what_to_do(
    funnel: Run, bare_environment: Environment
) -> None:
    done = funnel("migrate", "up", env=bare_environment)

    assert done.returncode == 78
    assert done.stderr.startswith("funnel: DATABASE_URL: is not set")
    assert "funnel stack start" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "away"),
    [
        (["topics", "check"], {"KAFKA_BOOTSTRAP_SERVERS": NOWHERE}),
        (["topics", "apply"], {"DATABASE_URL": f"postgresql://x@{NOWHERE}/x"}),
        (["migrate", "status"], {"DATABASE_URL": f"postgresql://x@{NOWHERE}/x"}),
        (["consume"], {"DATABASE_URL": f"postgresql://x@{NOWHERE}/x"}),
        (["verify"], {"DATABASE_URL": f"postgresql://x@{NOWHERE}/x"}),
    ],
)
def test_server_away__is_one_line_and_69(
    funnel: Run, environment: Environment, arguments: list[str], away: Environment
) -> None:
    done = funnel(*arguments, env=environment | away)

    assert done.returncode == 69
    assert done.stderr.startswith("funnel: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["up"],
        ["token", "--organization", ORGANIZATION, "--user", "me"],
        *(["stack", each] for each in ("start", "stop", "status", "env")),
    ],
)
def test_data_folder__that_is_a_file_is_one_line_and_78(
    funnel: Run, bare_environment: Environment, tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "data").touch()

    done = funnel(*arguments, env=bare_environment)

    assert done.returncode == 78
    assert done.stderr.startswith("funnel: FUNNEL_DATA_DIR: cannot make the folder")
    assert done.stderr.count("\n") == 1


def test_serve_metrics__port_in_use_names_the_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(BadSettings, match="FUNNEL_METRICS_PORT: cannot listen on 127"):
            serve_metrics(CollectorRegistry(), host="127.0.0.1", port=port)


def test_metrics_port__tells_which_lanes_stand_still() -> None:
    registry = CollectorRegistry()
    metrics = ConsumerMetrics(registry)
    port = free_port(taken=[])
    serve_metrics(registry, host="127.0.0.1", port=port)
    url = f"http://127.0.0.1:{port}"
    for lane in (0, 1, 2):
        metrics.lane(lane).owned(True)
    assert httpx2.get(f"{url}/readyz").json() == {"status": "ok", "lanes": {}}
    away = [True]
    metrics.lane(1).paused_while(lambda: away[0])
    metrics.lane(2).halted(True)
    answer = httpx2.get(f"{url}/readyz")
    told = {"status": "standing still", "lanes": {"paused": [1], "halted": [2]}}
    assert (answer.status_code, answer.json()) == (503, told)
    assert httpx2.get(f"{url}/livez").status_code == 200
    assert 'funnel_lane_paused{lane="1"} 1.0' in httpx2.get(f"{url}/metrics").text
    away[0] = False
    metrics.lane(2).halted(False)
    assert httpx2.get(f"{url}/readyz").status_code == 200


def test_version__is_that_of_the_package(funnel: Run, bare_environment: Environment) -> None:
    done = funnel("--version", env=bare_environment)

    assert (done.returncode, done.stdout) == (0, f"{version('gulf-funnel')}\n")


def test_send_help__names_the_commands_that_it_sends(
    funnel: Run, bare_environment: Environment
) -> None:
    shown = funnel("send", "--help", env=bare_environment).stdout

    assert "Create a candidate" in shown
    assert "Change many candidates alike" in shown


def test_config__warns_of_unknown_variables(funnel: Run, bare_environment: Environment) -> None:
    done = funnel("config", env=bare_environment | {"FUNNEL_PARTITION": "8"})

    assert done.stderr == "funnel: FUNNEL_PARTITION: there is no such setting\n"


def test_config__masks_secrets(funnel: Run, environment: Environment) -> None:
    secret = environment["DATABASE_URL"].split(":")[2].split("@")[0]

    text = funnel("config", env=environment).stdout
    shown = json.loads(funnel("config", "--json", env=environment).stdout)

    assert secret not in text + str(shown)
    assert "FUNNEL_PARTITIONS=4\n" in text
    assert shown["FUNNEL_PARTITIONS"] == 4


def test_migrate__up_then_status(
    funnel: Run, environment: Environment, empty_database_url: str
) -> None:
    env = environment | {"DATABASE_URL": empty_database_url}

    before = funnel("migrate", "status", env=env).stdout
    up = funnel("migrate", "up", env=env)
    after = funnel("migrate", "status", "--json", env=env).stdout

    assert before.startswith("0001 pending")
    assert (up.returncode, up.stdout.split(",")[0]) == (0, f"at {required_version()}")
    assert all(json.loads(line)["applied"] for line in after.splitlines())


def test_consume__refuses_a_schema_that_is_too_old(
    funnel: Run, environment: Environment, servers: Servers
) -> None:
    never_migrated = url_of(servers, "postgres")

    done = funnel("consume", env=environment | {"DATABASE_URL": never_migrated})

    assert done.returncode == 78
    assert "lacks migrations" in done.stderr


def test_topics__apply_then_check(funnel: Run, environment: Environment, topics: Topics) -> None:
    env = environment | {"FUNNEL_TOPIC_PREFIX": topics.prefix}

    again = funnel("topics", "apply", env=env)
    check = funnel("topics", "check", env=env)
    other = funnel("topics", "check", env=env | {"FUNNEL_PARTITIONS": "16"})
    refused = funnel("topics", "apply", env=env | {"FUNNEL_PARTITIONS": "16"})

    assert again.stdout == f"{PARTITIONS_TOTAL} partitions each, 0 topics created\n"
    assert (check.returncode, check.stdout) == (0, "topics are as they must be\n")
    assert (other.returncode, other.stderr.count("\n")) == (78, 4)
    assert (refused.returncode, refused.stderr.count("\n")) == (78, 1)


async def test_token__is_accepted_by_the_key_of_the_data_folder(
    funnel: Run, environment: Environment, tmp_path: Path
) -> None:
    done = funnel("token", "--organization", ORGANIZATION, "--user", "me", "--scope",
                  "candidates:read", env=environment)  # fmt: skip

    verifier = load_or_create(tmp_path / "data").verifier()
    principal = await verifier.verify(done.stdout.strip())
    assert (principal.user, principal.organization_id) == ("me", ORGANIZATION)
    assert principal.scopes == {"candidates:read"}


def test_consume__ends_with_0_at_sigterm_and_hands_its_lanes_over(
    started: Start, environment: Environment, topics: Topics
) -> None:
    consumer = started("consume", env=environment | {"FUNNEL_TOPIC_PREFIX": topics.prefix})
    taken = list(lines_until(consumer, "lane_taken", times=PARTITIONS_TOTAL))

    consumer.send_signal(signal.SIGTERM)
    rest, _ = consumer.communicate(timeout=30)

    assert consumer.returncode == 0
    assert rest.count('"action": "lane_released"') == PARTITIONS_TOTAL
    assert taken


def test_serve__answers_until_sigterm_and_ends_with_0(
    started: Start, environment: Environment
) -> None:
    api = started("serve", env=environment)

    alive = httpx2.get(f"{api_url(api)}/livez", timeout=30)
    api.send_signal(signal.SIGTERM)
    api.communicate(timeout=30)

    assert alive.status_code == 200
    assert api.returncode == 0


@pytest.mark.parametrize("command", ["serve", "up"])
def test_port_in_use__is_one_line_and_78(
    funnel: Run, environment: Environment, command: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = funnel(command, "--port", str(port), env=environment)

    assert done.returncode == 78
    assert done.stderr.startswith(f"funnel: PORT: cannot listen on 127.0.0.1:{port}")
    assert done.stderr.count("\n") == 1
