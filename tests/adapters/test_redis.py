"""What is peculiar to the Redis ledger: servers that fail in all their ways, clusters, and how it is laid out."""

import asyncio
import contextlib
import random
import re
import ssl
import threading
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import redis
import structlog
from msgspec.structs import replace
from redis.crc import key_slot
from typing_extensions import override

from crrmon.adapters.stores.redis import cluster as clusters
from crrmon.adapters.stores.redis import nodes, replicas, scripts
from crrmon.adapters.stores.redis.calls import Call, Reply, Servers
from crrmon.adapters.stores.redis.replicas import Replicas
from crrmon.adapters.stores.redis.server import RedisServer
from crrmon.domain.noting import Noted
from crrmon.domain.objects import Route, shard_of
from crrmon.domain.outcomes import Settlement, fold
from crrmon.domain.settling import Settled
from crrmon.domain.trails import Parked, Rescheduled
from crrmon.ports.clock import SystemClock
from crrmon.ports.ledger import (
    FrozenWindow,
    LeaseLostError,
    LedgerError,
    UnusableLedgerError,
)
from fakes import redis_stub
from fakes.ledger_use import completed, holding, pending, publish
from fakes.ledger_values import MEMBER, NOW, arrived, done, failed, record, replica
from fakes.ledgers import RedisLedger
from fakes.patience import HANGS_SECONDS
from fakes.redis_server import (
    RedisProcess,
    certificate,
    redis_cluster,
    redis_server,
    shared_cluster,
    shared_server,
)

pytestmark = pytest.mark.server

DAY = 86_400.0
RETENTION = 4 * DAY
ROUTE = Route("src", "dst")
SECRET = "correct horse"  # noqa: S105 - of a test


@asynccontextmanager
async def opened(url: str, *, shards: int = 4, **fields: object) -> AsyncIterator[RedisLedger]:
    """Open a ledger."""
    server = RedisServer(url=url, **fields)  # type: ignore[arg-type]
    ledger = await RedisLedger.at(
        server, shards=shards, retention_seconds=RETENTION, clock=SystemClock()
    )
    try:
        yield ledger
    finally:
        await ledger.close()


async def refusal(url: str, **fields: object) -> str:
    """Tell why a ledger cannot be opened now."""
    with pytest.raises(LedgerError) as caught:
        async with opened(url, **fields):
            pass
    return _clean(caught.value)


async def final_refusal(url: str, **fields: object) -> str:
    """Tell why a ledger cannot be opened at all."""
    with pytest.raises(UnusableLedgerError) as caught:
        async with opened(url, **fields):
            pass
    return _clean(caught.value)


def _clean(error: Exception) -> str:
    text = str(error)
    assert SECRET not in text
    assert "\n" not in text
    return text


@pytest.fixture
def prefix() -> str:
    """Make a prefix that nobody has."""
    return f"t{uuid.uuid4().hex}"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisProcess]:
    """Run a server that a test may ill-treat."""
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


class Proxy:
    """Passes on what goes to a server and back, until told to cut: then a connection ends at the words it waits for."""

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._tls = tls
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0
        self.words = b""
        self.forward = True
        self.cuts = 0
        self._generation = 0

    @asynccontextmanager
    async def run(self) -> AsyncIterator["Proxy"]:
        """Listen."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in self._writers:
                writer.close()
            await server.wait_closed()

    def cut_at(self, words: str, *, forward: bool) -> None:
        """Cut the next connection that says these words, after passing them on or before."""
        self.words, self.forward = words.encode(), forward

    def silence(self) -> None:
        """Pass on nothing more of the connections there are, and do not close them: as when a machine is gone."""
        self._generation += 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += (writer, back)
        answers = asyncio.create_task(self._pass(there, writer))
        born = self._generation
        with contextlib.suppress(ConnectionError):
            while said := await reader.read(1 << 20):
                if born != self._generation:
                    continue
                if self.words and self.words in said:
                    self.words = b""
                    answers.cancel()
                    await asyncio.gather(answers, return_exceptions=True)
                    if self.forward:
                        back.write(said)
                        await there.read(1)  # now it is done
                    self.cuts += 1
                    break
                back.write(said)
        answers.cancel()
        writer.close()
        back.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while said := await reader.read(1 << 20):
                writer.write(said)
        writer.close()


# ---- servers that fail ----


async def test_nothing_is_lost_when_the_server_is_killed(own: RedisProcess) -> None:
    """Invariants 1 and 5: what was told as done is there after a power cut, and the first try afterwards succeeds."""
    async with opened(own.url) as ledger:
        await ledger.park([record("parked"), failed("failed")])
        await ledger.settle("b1", [done(record("settled"))], now=NOW)
        await ledger.note([replica("half", at=NOW)], now=NOW)
        lease = await holding(ledger)

        own.kill()
        with pytest.raises(LedgerError, match="cannot be reached") as caught:
            await ledger.settle("b2", [done(record("next"))], now=NOW)
        assert own.url in _clean(caught.value)
        own.start()

        assert await ledger.settle("b2", [done(record("next"))], now=NOW) == [[Settled.COUNTED]]
        assert await ledger.park([record("parked"), record("settled")]) == [
            Parked.PARKED,
            Parked.SETTLED,
        ]
        assert len(await ledger.due(range(4), now=NOW, limit=9)) == 2
        assert [one.version.key for one in (await ledger.failures())[0]] == ["failed"]
        assert await ledger.note([replica("settled", at=NOW)], now=NOW) == [Noted.SETTLED]
        assert (await ledger.leases())[0] == lease
        assert await completed(ledger) == 2


async def test_a_server_that_forgot_the_scripts_is_told_them_again(prefix: str) -> None:
    """As after a restart, or when a replica took over."""
    async with opened(shared_server(), prefix=prefix) as ledger:
        with _client(shared_server()) as client:
            client.script_flush()

        assert await ledger.park([record("k")]) == [Parked.PARKED]
        assert await ledger.settle("b1", [done(record("k"))], now=NOW) == [[Settled.COUNTED]]


async def test_a_server_that_is_busy_with_a_script_is_asked_again_later(
    own: RedisProcess,
) -> None:
    """Somebody's endless script: an error that says how to end it, and all is well afterwards."""
    with own.client() as client:
        client.config_set("lua-time-limit", 50)
        async with opened(own.url) as ledger:
            endless = threading.Thread(target=_spin, args=(own,))
            endless.start()
            await _until(lambda: _says_busy(client))

            with pytest.raises(LedgerError, match="SCRIPT KILL"):
                await ledger.park([record("k")])
            client.script_kill()
            endless.join()

            assert await ledger.park([record("k")]) == [Parked.PARKED]


def _spin(server: RedisProcess) -> None:
    with server.client() as client, contextlib.suppress(redis.ResponseError):
        client.eval("while true do end", 0)


def _says_busy(client: redis.Redis) -> bool:
    try:
        client.ping()
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


async def _until(true: object) -> None:
    """Wait for something that another process does."""
    assert callable(true)
    async with asyncio.timeout(HANGS_SECONDS):
        while not await asyncio.to_thread(true):
            await asyncio.sleep(0.01)


async def test_a_server_that_still_reads_its_data_is_asked_again_later() -> None:
    """A large one takes minutes to start."""
    with redis_server("--rdbcompression", "no") as server:
        with server.client() as client:
            # It turns to its clients after every 2 MB.
            client.eval("for i = 1, 20000 do redis.call('SET', i, string.rep('x', 1000)) end", 0)
            client.save()
        server.kill()
        server.launch("--key-load-delay", "300")
        with server.client() as client:
            await _until(lambda: _says_loading(client))

        assert "still loading its data" in await refusal(server.url)


def _says_loading(client: redis.Redis) -> bool:
    try:
        client.ping()
    except redis.exceptions.BusyLoadingError:
        return True
    except redis.ConnectionError:
        return False
    return False


async def test_a_replica_is_no_server_for_a_ledger(own: RedisProcess) -> None:
    """Writes are refused in plain words; once the name leads to a primary again, all is well."""
    async with opened(own.url) as ledger:
        await ledger.park([record("k")])
        with own.client() as client:
            client.replicaof("127.0.0.1", own.port + 1)

            with pytest.raises(LedgerError, match="must point to the primary"):
                await ledger.settle("b1", [done(record("k"))], now=NOW)
            client.replicaof("NO", "ONE")

        assert await ledger.settle("b1", [done(record("k"))], now=NOW) == [[Settled.COUNTED]]


async def test_a_server_without_memory_changes_nothing(own: RedisProcess) -> None:
    """All or nothing: what did not fit left no trace, and what is there can still be read."""
    async with opened(own.url) as ledger:
        await ledger.park([record("there")])
        with own.client() as client:
            client.config_set("maxmemory", 1)

            with pytest.raises(LedgerError, match="maxmemory"):
                await ledger.park([record(f"k{at}") for at in range(100)])
            with pytest.raises(LedgerError, match="maxmemory"):
                await ledger.settle("b1", [done(record("new"))], now=NOW)
            found = await ledger.due(range(4), now=NOW, limit=9)
            assert [one.version.key for one in found] == ["there"]
            assert [one.pending_objects for one in await ledger.backlog()] == [1]
            async with opened(own.url) as other:
                assert (await other.find("there", "v1")).records
            client.config_set("maxmemory", 0)

        assert await ledger.settle("b1", [done(record("new"))], now=NOW) == [[Settled.COUNTED]]
        assert await completed(ledger) == 1


@pytest.mark.parametrize("forward", [True, False])
async def test_a_connection_that_breaks_in_a_batch_loses_and_doubles_nothing(
    prefix: str, *, forward: bool
) -> None:
    """Invariant 5: whether the server got the batch or not, the repetition reads as counted, and it counts once."""
    records = [record(f"k{at}") for at in range(20)]
    batch = [done(one) for one in records]
    port = int(shared_server().rpartition(":")[2])
    async with (
        Proxy(port).run() as proxy,
        opened(f"redis://127.0.0.1:{proxy.port}", prefix=prefix) as ledger,
    ):
        await ledger.park(records[:10])

        proxy.cut_at(scripts.WRITE, forward=forward)
        with pytest.raises(LedgerError, match="cannot be reached"):
            await ledger.settle("b1", batch, now=NOW)
        assert proxy.cuts == 1
        assert await completed(ledger) == (20 if forward else 0)
        again = await ledger.settle("b1", batch, now=NOW)

        assert again == [[Settled.COUNTED]] * 20
        assert await completed(ledger) == 20
        assert await ledger.backlog() == []


async def test_a_server_that_does_not_answer_is_given_up_for_now(
    own: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call ends although the connection stands, and the next one takes another connection."""
    monkeypatch.setattr("crrmon.adapters.stores.redis.server.ANSWER_SECONDS", 0.3)
    async with opened(own.url) as ledger:
        own.freeze()
        with pytest.raises(LedgerError, match="did not answer"):
            await ledger.park([record("k")])
        own.thaw()

        assert await ledger.park([record("k")]) == [Parked.PARKED]


async def test_connections_to_a_machine_that_is_gone_cost_one_try_together(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When one of them does not answer, the others are not tried one after the other."""
    monkeypatch.setattr("crrmon.adapters.stores.redis.server.ANSWER_SECONDS", 0.3)
    port = int(shared_server().rpartition(":")[2])
    async with (
        Proxy(port).run() as proxy,
        opened(f"redis://127.0.0.1:{proxy.port}", prefix=prefix) as ledger,
    ):
        pool = ledger._store._redis._servers._node._pool  # type: ignore[attr-defined]

        async def later(turns: int) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            await ledger.find("k", "v1")

        async with asyncio.timeout(HANGS_SECONDS):
            while len(pool._available_connections) < 3:
                await asyncio.gather(*(later(turns) for turns in range(0, 12, 3)))
        proxy.silence()
        with pytest.raises(LedgerError, match="did not answer"):
            await ledger.park([record("l")])

        await asyncio.gather(*(later(turns) for turns in range(0, 12, 3)))
        assert await ledger.park([record("l")]) == [Parked.PARKED]


# ---- replicas ----


@pytest.fixture
def pair(own: RedisProcess) -> Iterator[tuple[RedisProcess, RedisProcess]]:
    """Run a primary and its replica."""
    with redis_server("--replicaof", "127.0.0.1", str(own.port)) as other:
        yield own, other


async def _in_step(server: RedisProcess) -> None:
    with server.client() as client:
        await _until(lambda: client.execute_command("WAIT", 1, 100) == 1)


async def test_what_is_told_as_done_is_on_a_replica(
    pair: tuple[RedisProcess, RedisProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Invariant 1: while no replica answers nothing is told as done, not even what a repetition finds written already.
    """
    monkeypatch.setattr(nodes, "WAIT_SECONDS", 1.0)
    primary, other = pair
    await _in_step(primary)
    batch = [done(record("k"))]
    async with opened(primary.url) as ledger:
        assert await ledger.park([record("parked")]) == [Parked.PARKED]
        with other.client() as client:
            assert sum(client.hlen(key) for key in client.keys("*:trail")) == 1

        other.freeze()
        for _ in range(3):
            with pytest.raises(LedgerError, match="no replica"):
                await ledger.settle("b1", batch, now=NOW)
        other.thaw()
        assert await ledger.settle("b1", batch, now=NOW) == [[Settled.COUNTED]]
        assert await completed(ledger) == 1
    primary.kill()
    with other.client() as client:
        client.replicaof("NO", "ONE")

    async with opened(other.url) as ledger:
        assert await ledger.settle("b1", batch, now=NOW) == [[Settled.COUNTED]]
        assert await completed(ledger) == 1


async def test_what_is_in_doubt_when_the_last_replica_is_lost_is_refused_for_a_while(
    pair: tuple[RedisProcess, RedisProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 1: nobody has what was written last. Then the server is all there is: one warning, and work goes on."""
    monkeypatch.setattr(nodes, "WAIT_SECONDS", 1.0)
    primary, other = pair
    await _in_step(primary)
    async with opened(primary.url) as ledger:
        await ledger.park([record("k")])
        other.kill()
        with primary.client() as client:
            await _until(lambda: client.info("replication")["connected_slaves"] == 0)

        for _ in range(3):
            with pytest.raises(LedgerError, match="no replica has the latest writes"):
                await ledger.park([record("l")])
        monkeypatch.setattr(replicas, "ALONE_SECONDS", 0.0)
        with structlog.testing.capture_logs() as logs:
            assert await ledger.park([record("l")]) == [Parked.PARKED]
            assert await ledger.park([record("m")]) == [Parked.PARKED]

    assert [one["event"] for one in logs] == ["redis_no_replicas"]
    assert "min-replicas-to-write" in logs[0]["advice"]


async def test_a_replica_that_comes_back_ends_the_doubt(
    pair: tuple[RedisProcess, RedisProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no other keys and commands than the documentation lists, for the small write that is needed then."""
    monkeypatch.setattr(nodes, "WAIT_SECONDS", 1.0)  # it answers, however busy the machine
    primary, other = pair
    with primary.client() as client:
        client.execute_command("ACL", "SETUSER", "crrmon", "on", f">{SECRET}", *GRANTS)
    await _in_step(primary)
    async with opened(f"redis://crrmon@127.0.0.1:{primary.port}", password=SECRET) as ledger:
        await ledger.park([record("k")])
        other.kill()
        with pytest.raises(LedgerError, match="no replica"):
            await ledger.park([record("l")])
        other.start()
        await _in_step(primary)

        assert await ledger.park([record("l")]) == [Parked.PARKED]
    with other.client() as client:
        assert sum(client.hlen(key) for key in client.keys("*:trail")) == 2


async def test_what_fetches_a_dump_is_no_replica(
    own: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup connects like a replica and never acknowledges anything: it must not stop the fleet."""
    monkeypatch.setattr(nodes, "WAIT_SECONDS", 0.1)
    _, writer = await asyncio.open_connection("127.0.0.1", own.port)
    writer.write(b"SYNC\r\n")
    with own.client() as client:
        await _until(lambda: client.info("replication")["connected_slaves"] == 1)

    async with opened(own.url) as ledger:
        assert await ledger.park([record("k")]) == [Parked.PARKED]
    writer.close()


GOOD = "ip=127.0.0.1,port=6380,state=online,offset=1,lag=1"


@pytest.mark.parametrize(
    ("line", "needed"),
    [
        (GOOD, True),
        (GOOD.replace("6380", "0"), False),
        (GOOD.replace("online", "wait_bgsave"), False),
        (GOOD.replace("lag=1", "lag=11"), False),
    ],
)
def test_only_a_replica_that_keeps_up_is_waited_for(line: str, *, needed: bool) -> None:
    """Neither a tool, nor one in its first copy, nor one that fell silent."""
    replicas = Replicas()
    replicas.learn({"role": "master", "connected_slaves": "1", "slave0": line}, 0.0)

    assert replicas.needed(durable=True) is needed
    assert not replicas.needed(durable=False)


def test_a_doubt_ends_by_what_came_after_it_or_a_minute_after_the_last_replica() -> None:
    """Not by an acknowledgement of what began before it. A replica that is back begins the minute anew."""
    replicas = Replicas()
    some, none = {"role": "master", "slave0": GOOD}, {"role": "master"}
    replicas.learn(some, 0.0)
    replicas.doubt()
    began = replicas.doubts
    replicas.doubt()
    replicas.allay(began)
    assert replicas.in_doubt
    replicas.allay(replicas.doubts)
    assert not replicas.in_doubt

    replicas.doubt()
    for at, told in ((10.0, none), (69.0, none), (69.5, some), (71.0, none), (130.0, none)):
        replicas.learn(told, at)
        assert replicas.needed(durable=False)
    replicas.learn({"role": "slave"}, 200.0)
    assert replicas.in_doubt
    replicas.learn(none, 131.0)
    assert not replicas.needed(durable=True)


async def test_a_small_write_that_fails_makes_nothing_safe(
    own: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 1: WAIT after it would tell of nothing; what was asked gets its error."""
    monkeypatch.setattr(nodes, "WAIT_SECONDS", 0.1)
    with own.client() as client:
        grants = ("~{crrmon:0}:trail", "+@all")
        client.execute_command("ACL", "SETUSER", "crrmon", "on", f">{SECRET}", *grants)
    server = RedisServer(url=f"redis://crrmon@127.0.0.1:{own.port}", password=SECRET)
    node = nodes.Node(server.connections(server.seed))
    call = Call(b"{crrmon:0}", ("HLEN", "{crrmon:0}:trail"))
    assert await node.ask([call]) == [0]
    node._replicas.doubt()

    (told,) = await node.ask([call])
    await node.close()

    assert isinstance(told, redis.exceptions.NoPermissionError)
    assert node._replicas.in_doubt


async def test_a_primary_that_was_made_a_replica_is_said_to_be_one(
    pair: tuple[RedisProcess, RedisProcess],
) -> None:
    """
    It refuses WAIT too, which tells nobody what to do; its connections are given up, for the name may lead elsewhere.
    """
    primary, other = pair
    await _in_step(primary)
    async with opened(primary.url) as ledger:
        await ledger.park([record("k")])
        pool = ledger._store._redis._servers._node._pool  # type: ignore[attr-defined]
        with primary.client() as here, other.client() as there:
            there.replicaof("NO", "ONE")
            here.replicaof("127.0.0.1", other.port)

            for _ in range(2):
                with pytest.raises(LedgerError, match="must point to the primary"):
                    await ledger.settle("b1", [done(record("k"))], now=NOW)
                assert not any(one.is_connected for one in pool._available_connections)
            there.replicaof("127.0.0.1", primary.port)
            here.replicaof("NO", "ONE")
        await _in_step(primary)

        assert await ledger.settle("b1", [done(record("k"))], now=NOW) == [[Settled.COUNTED]]


def test_a_replica_is_recognised_inside_of_a_script() -> None:
    """Redis 6.2 puts what the command said into the middle of a text of its own."""
    text = "Error running script (call to f_1): @user_script:1: -READONLY You can't write against a read only replica."

    assert nodes._takes_no_writes(redis.ResponseError(text))
    assert nodes._takes_no_writes(redis.exceptions.ReadOnlyError("You can't write"))
    assert not nodes._takes_no_writes(redis.ResponseError("WRONGTYPE"))


# ---- who may come in ----


async def test_a_wrong_password_is_said_plainly(own: RedisProcess, tmp_path: Path) -> None:
    """None where one is needed, or a wrong one: no secret is told. Mended in its file, it works."""
    with own.client() as client:
        client.config_set("requirepass", SECRET)
    file = tmp_path / "password"
    file.write_text(f"not {SECRET}\n")

    for fields in ({}, {"password": f"not {SECRET}"}, {"password_file": file}):
        assert "ledger.redis.password" in await refusal(own.url, **fields)
    file.write_text(f"{SECRET}\n")
    async with opened(own.url, password_file=file) as ledger:
        await ledger.park([record("k")])
    async with opened(own.url, password=SECRET) as ledger:
        assert (await ledger.find("k", "v1")).records


async def test_the_file_with_the_password_is_read_for_every_connection(
    own: RedisProcess, tmp_path: Path
) -> None:
    """A password that was changed is found when the server is started again, and one that is gone is told."""
    file = tmp_path / "password"
    file.write_text(SECRET)
    with own.client() as client:
        client.config_set("requirepass", SECRET)
    async with opened(own.url, password_file=file) as ledger:
        with own.client(password=SECRET) as client:
            client.config_set("requirepass", SECRET * 2)
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        file.unlink()
        pool = ledger._store._redis._servers._node._pool
        (connection,) = pool._available_connections
        async with asyncio.timeout(HANGS_SECONDS):
            while not await connection.can_read():
                await asyncio.sleep(0)  # until its end is noticed
        with pytest.raises(LedgerError, match="password_file") as caught:
            await ledger.park([record("k")])
        assert str(file) in _clean(caught.value)
        file.write_text(SECRET * 2)

        assert await ledger.park([record("k")]) == [Parked.PARKED]


GRANTS = (
    "resetkeys", "~{crrmon}:*", "~{crrmon:*", "+@read", "+@write", "+@scripting", "+@connection", "+info", "+wait", "+ping",
)  # fmt: skip
"""What docs/operations.md tells to grant."""


async def test_a_user_with_what_the_documentation_lists_can_do_everything(
    own: RedisProcess,
) -> None:
    """Neither KEYS nor CONFIG nor other people's keys are needed."""
    with own.client() as client:
        client.execute_command("ACL", "SETUSER", "crrmon", "on", f">{SECRET}", *GRANTS)
    url = f"redis://crrmon@127.0.0.1:{own.port}/0"
    async with opened(url, password=SECRET) as ledger:
        await _life(ledger)


async def _life(ledger: RedisLedger) -> None:
    """Ask everything that can be asked."""
    assert await ledger.park([record("k"), failed("l")]) == [Parked.PARKED] * 2
    assert len(await ledger.due(range(4), now=NOW, limit=9)) == 2
    (found,) = (await ledger.find("k", "v1")).records.values()
    assert await ledger.reschedule([found]) == [Rescheduled.RESCHEDULED]
    assert await ledger.settle("b1", [done(record("k"))], now=NOW) == [[Settled.COUNTED]]
    assert await ledger.note([replica("m", at=NOW)], now=NOW) == [Noted.EARLY]
    await ledger.remember_routes([ROUTE])
    assert await ledger.known_routes() == [ROUTE]
    (lease,) = await ledger.renew([await holding(ledger)])
    await publish(ledger, lease, 300.0, parts=[b"x"])
    assert len(await ledger.frozen()) == 1
    await ledger.forget(300.0, 0, lease=lease)
    assert await ledger.last_frozen() == 300.0
    await ledger.release([lease])
    (failure,), after = await ledger.failures(limit=1)
    assert (failure.version.key, after) == ("l", None)
    assert len(await ledger.backlog()) == 1
    await ledger.announce(MEMBER)
    assert await ledger.members() == [MEMBER]
    await ledger.dismiss(MEMBER)
    trails, _ = await ledger.export()
    await ledger.restore(trails, now=NOW)
    await ledger.append(await ledger.deltas())
    assert await ledger.sweep(now=NOW + RETENTION + 2 * DAY) == 2


@pytest.mark.parametrize(
    "grant", ["-hset", "-hdel", "-zadd", "-zrevrangebylex", "-unlink", "-wait", "-evalsha"]
)
async def test_a_user_without_what_is_needed_learns_it_at_once(
    own: RedisProcess, grant: str
) -> None:
    """When the ledger is opened, not in the middle of a script, for that would leave half of it done."""
    with own.client() as client:
        client.execute_command("ACL", "SETUSER", "crrmon", "on", f">{SECRET}", *GRANTS, grant)
        url = f"redis://crrmon@127.0.0.1:{own.port}/0"

        if grant == "-wait":
            # Only needed where there are replicas.
            async with opened(url, password=SECRET) as ledger:
                await _life(ledger)
        else:
            assert "docs/operations.md" in await refusal(url, password=SECRET)
            assert client.keys() == []


async def test_every_command_that_is_used_was_rehearsed(own: RedisProcess) -> None:
    """And no other: what is tried when the ledger is opened is what the user must be allowed."""
    async with opened(own.url) as ledger:
        with own.client() as client:
            client.config_resetstat()
            await _life(ledger)
            told = client.info("commandstats")

    used = {name.removeprefix("cmdstat_") for name in told}
    asked = {"evalsha", "eval", "info", "config", "config|resetstat"}
    rehearsed = re.findall(r"\{'([A-Z]+)'", scripts.TEXTS[scripts.REHEARSE].decode())
    assert used - asked == {name.lower() for name in rehearsed}


async def test_keys_that_the_user_may_not_touch_are_named(own: RedisProcess) -> None:
    """The pattern to grant is in the text."""
    with own.client() as client:
        client.execute_command("ACL", "SETUSER", "crrmon", "on", f">{SECRET}", "+@all", "~crrmon*")

    text = await refusal(f"redis://crrmon@127.0.0.1:{own.port}", password=SECRET)

    assert "~{PREFIX*" in text


async def test_tls_is_spoken_and_checked(prefix: str, tmp_path: Path) -> None:
    """
    With an authority that vouches for the server by its name, and not otherwise. Not all servers are built with it, so
    it ends before the server, as it does on many.
    """
    made, key = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made, key)
    port = int(shared_server().rpartition(":")[2])
    async with Proxy(port, tls=context).run() as proxy:
        url = f"rediss://127.0.0.1:{proxy.port}"
        async with opened(url, ca_file=made, prefix=prefix) as ledger:
            assert await ledger.park([record("k")]) == [Parked.PARKED]

        assert "ledger.redis.ca_file" in await refusal(url)
        assert "ledger.redis.ca_file" in await refusal(url, ca_file=tmp_path / "none")
        assert "ledger.redis.ca_file" in await refusal(url, ca_file=key)
        named = url.replace("127.0.0.1", "localhost")
        assert "ledger.redis.ca_file" in await refusal(named, ca_file=made)


def test_e1_a_server_is_named_with_the_brackets_of_its_address() -> None:
    """As it stands in the settings."""
    assert RedisServer(url="redis://me@[fd00::1]:6380/0").place == "redis://[fd00::1]:6380"


async def test_nobody_there_is_said_plainly() -> None:
    """With the address, as it is configured."""
    with redis_server() as server:
        pass

    text = await refusal(server.url)

    assert "ledger.redis.url" in text
    assert server.url in text


async def test_a_server_of_another_kind_is_said_plainly(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    TLS to one without and the reverse, a database that is not there, something that is no Redis server: each names the
    setting.
    """
    monkeypatch.setattr("crrmon.adapters.stores.redis.server.ANSWER_SECONDS", 0.3)
    plain = shared_server()
    assert "must start with redis://" in await refusal(plain.replace("redis:", "rediss:"))
    for number in (99, 10**20):
        text = await refusal(f"{plain}/{number}")
        assert "number at the end of ledger.redis.url" in text
    text = await refusal(f"{shared_cluster()}/1")
    assert "ledger.redis.cluster" in text
    text = await final_refusal(f"{shared_cluster()}/1", cluster=True, prefix=prefix)
    assert "database 1" in text
    assert "ledger.redis.url" in text

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com\r\n")
        await reader.read()
        writer.close()

    async def part(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(9)
        writer.close()

    for serve, words in ((greet, "is not a Redis server"), (part, "must start with rediss://")):
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        text = await refusal(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        server.close()
        assert "ledger.redis.url" in text
        assert words in text


# ---- what cannot be used ----


async def test_a_cluster_is_not_taken_for_a_single_server_nor_the_reverse(prefix: str) -> None:
    """Asking again would be of no use: the setting is wrong."""
    text = await final_refusal(shared_cluster(), prefix=prefix)
    assert "ledger.redis.cluster is false" in text

    text = await final_refusal(shared_server(), prefix=prefix, cluster=True)
    assert "ledger.redis.cluster is true" in text


async def test_a_ledger_of_a_newer_version_is_left_alone(prefix: str) -> None:
    """Unless its version says that this one can work on it."""
    with _client(shared_server()) as client:
        key = f"{{{prefix}}}:meta"
        newer = {"format": 9, "readable_by": 3, "shards": 3}
        client.hset(key, "meta", msgspec.msgpack.encode(newer))
        text = await final_refusal(shared_server(), prefix=prefix)
        assert "newer crrmon" in text
        assert f"ledger.redis.prefix '{prefix}' on {shared_server()}, database 0" in text

        readable = {"format": 9, "readable_by": 2, "shards": 3, "x": 1}
        client.hset(key, "meta", msgspec.msgpack.encode(readable))
        async with opened(shared_server(), prefix=prefix) as ledger:
            assert ledger.shards == 3


async def test_what_is_no_ledger_is_left_alone(prefix: str) -> None:
    """Somebody else's keys under the same prefix: another one is to be chosen, and nothing is changed."""
    key = f"{{{prefix}}}:meta"
    with _client(shared_server()) as client:
        client.hset(key, "meta", b"something else")
        text = await final_refusal(shared_server(), prefix=prefix)
        assert f"ledger.redis.prefix '{prefix}' on {shared_server()}, database 0" in text
        assert "holds no ledger" in text
        assert "name another ledger" in text
        assert client.hgetall(key) == {b"meta": b"something else"}

        client.delete(key)
        client.set(key, "something else")
        text = await refusal(shared_server(), prefix=prefix)
        assert "choose another ledger.redis.prefix" in text
        assert "WRONGTYPE" not in text
        assert client.get(key) == b"something else"
        assert client.keys(f"*{prefix}*") == [key.encode()]


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url)


async def test_a_server_that_is_too_old_is_refused() -> None:
    """Its version is told, and which one is needed."""

    version = b"redis_version:6.0.16"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while said := await reader.read(65536):
            writer.write(b"$%d\r\n%b\r\n" % (len(version), version) * said.count(b"INFO"))
            writer.write(b"+PONG\r\n" * said.count(b"PING"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    text = await final_refusal(f"redis://127.0.0.1:{port}")
    server.close()

    assert "6.0.16" in text
    assert "6.2" in text


async def test_settings_of_the_server_that_lose_data_are_warned_of(own: RedisProcess) -> None:
    """No append-only file, or eviction of any key: each with its remedy. A good server is not talked about."""
    with structlog.testing.capture_logs() as logs:
        async with opened(own.url):
            pass
        assert logs == []
        with own.client() as client:
            client.config_set("appendonly", "no")
            client.config_set("maxmemory-policy", "allkeys-lru")
        async with opened(own.url):
            pass

    assert [one["event"] for one in logs] == ["redis_not_durable", "redis_evicts_keys"]
    assert "appendonly yes" in logs[0]["advice"]
    assert "noeviction" in logs[1]["advice"]


async def test_no_key_of_a_ledger_can_expire(own: RedisProcess) -> None:
    """Policies that evict only what has a time to live never touch it."""
    async with opened(own.url) as ledger:
        await _life(ledger)
    with own.client() as client:
        names = client.keys()
        assert names
        assert {client.ttl(key) for key in names} == {-1}


# ---- several daemons ----


@pytest.mark.parametrize("kind", ["server", "cluster"])
async def test_d16_two_that_work_on_the_same_trails_count_each_once(
    kind: str, prefix: str
) -> None:
    """
    Invariants 2 and 9: park, join, reschedule and settle at once, through two connections: nothing is lost or doubled.
    """
    fields = {"prefix": prefix, "cluster": kind == "cluster"}
    url = shared_cluster() if kind == "cluster" else shared_server()
    chance = random.Random(16)
    records = [record(f"k{at}", to=("dst", "two")) for at in range(30)]

    async def work(ledger: RedisLedger, name: str) -> list[Settled]:
        told = []
        for number in range(12):
            some = chance.sample(records, 10)
            await ledger.park(some)
            await ledger.note(
                [replica(one.version.key, at=NOW - number) for one in some[:5]], now=NOW
            )
            found = await ledger.due(range(4), now=NOW, limit=5)
            await ledger.reschedule([replace(one, looks=one.looks + 1) for one in found])
            batch = [
                Settlement(
                    version=one.version, outcomes=(arrived(one), arrived(one, "two")), rev=rev
                )
                for one in some[5:]
                for rev in (0, None)
            ]
            results = await ledger.settle(f"{name}{number}", batch, now=NOW)
            told += [one for result in results for one in result]
        return told

    async with opened(url, **fields) as one, opened(url, **fields) as other:
        results = await asyncio.gather(
            work(one, "a"), work(other, "b"), work(one, "c"), work(other, "d")
        )
        told = sum(result.count(Settled.COUNTED) for result in results)
        trails = [await one.find(each.version.key, "v1") for each in records]
        counted = await completed(other)
        left = await pending(one)

    marks = sum(len(trail.marks) for trail in trails)
    assert marks == told == counted
    assert marks > 20
    assert left == sum(2 * len(trail.records) for trail in trails)


class Gate:
    """Stands before a ledger's server: the first command of some name on a key waits there until it is opened."""

    def __init__(self, ledger: RedisLedger, command: str, key: str) -> None:
        self._ask = ledger._store._redis.ask
        self._command = command
        self._key = key.encode()
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        ledger._store._redis.ask = self.ask

    async def ask(self, calls: Sequence[Call], *, durable: bool = False) -> list[Reply]:
        """Pass on, sooner or later."""
        if any(self._concerns(call) for call in calls):
            self.reached.set()
            await self.opened.wait()
        return await self._ask(calls, durable=durable)

    def _concerns(self, call: Call) -> bool:
        words = call.arguments
        return self._command in words and any(
            isinstance(one, bytes) and one.endswith(self._key) for one in words
        )


@pytest.mark.parametrize(
    ("command", "key"), [("HSET", ":backlog"), ("HDEL", ":journal"), ("HDEL", ":pieces")]
)
async def test_d31_a_publisher_that_stopped_between_its_steps_doubles_nothing(
    prefix: str, command: str, key: str
) -> None:
    """
    Invariant 2: its window is committed, its changes not yet folded into the backlog, or its deltas not yet
    dropped, or the list of them. Another takes over and freezes; then the first one goes on. Each delta is in
    one window, and each change in the backlog once.
    """
    async with (
        opened(shared_server(), prefix=prefix) as first,
        opened(shared_server(), prefix=prefix) as second,
    ):
        lease = await holding(first)
        await first.park([record("pending")])
        await first.settle("b1", [done(record("k"))], now=NOW)
        taken = tuple(one.id for one in await first.deltas())
        window = FrozenWindow(starts_at=300.0, parts=(b"one",), deltas=taken)
        gate = Gate(first, command, key)
        freezing = asyncio.create_task(first.freeze(window, lease=lease))
        await gate.reached.wait()

        await second.settle("b2", [done(record("l"))], now=NOW)
        other = await second.claim((await second.leases())[0], owner="you")
        assert other is not None
        rest = await second.deltas()
        assert not {one.id for one in rest} & set(taken)
        assert fold(list(rest))[ROUTE].completed == 1
        assert [one.pending_objects for one in await second.backlog()] == [1]
        late = FrozenWindow(starts_at=600.0, parts=(b"two",), deltas=tuple(one.id for one in rest))
        await second.freeze(late, lease=other)
        await second.settle("b3", [done(record("m"))], now=NOW)
        gate.opened.set()
        await freezing

        assert await completed(second) == 1
        assert [one.parts for one in await second.frozen()] == [(b"one",), (b"two",)]
        assert [one.pending_objects for one in await second.backlog()] == [1]
        with pytest.raises(LeaseLostError):
            await first.freeze(window, lease=lease)
        with _client(shared_server()) as client:
            pieces = client.hkeys(f"{{{prefix}}}:pieces")
            assert [one.split(b"#")[1] for one in pieces] == [b"part"] * 2
            (left,) = (client.hlen(one) for one in client.keys(f"{{{prefix}:*}}:journal"))
            assert left == 1


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("parts", [(), (b"one",)])
async def test_d31_contributions_dropped_while_somebody_reads_are_not_told(
    prefix: str, parts: tuple[bytes, ...], step: int
) -> None:
    """
    The reader learns which were taken before it reads them, so whoever drops them in between cannot hide it: after it
    read the windows, or after it read what they took along.
    """
    async with (
        opened(shared_server(), prefix=prefix) as first,
        opened(shared_server(), prefix=prefix) as reader,
    ):
        lease = await holding(first)
        await first.settle("b1", [done(record("k"))], now=NOW)
        taken = tuple(one.id for one in await first.deltas())
        window = FrozenWindow(starts_at=300.0, parts=parts, deltas=taken)
        gate = Gate(first, "HDEL", ":journal")
        freezing = asyncio.create_task(first.freeze(window, lease=lease))
        await gate.reached.wait()
        ask = reader._store._redis.ask
        steps = 0

        async def stepwise(calls: Sequence[Call], *, durable: bool = False) -> list[Reply]:
            nonlocal steps
            steps += 1
            told = await ask(calls, durable=durable)
            if steps == step:
                gate.opened.set()
                await freezing
            return told

        reader._store._redis.ask = stepwise

        assert await reader.deltas() == []
        assert steps > step
        assert len(await reader.frozen()) == len(parts)


@pytest.mark.parametrize("forward", [True, False])
async def test_an_answer_lost_while_freezing_is_harmless(prefix: str, *, forward: bool) -> None:
    """Invariant 5: frozen or not, but not told so: asked again, the window stands and what it holds is told no more."""
    port = int(shared_server().rpartition(":")[2])
    async with (
        Proxy(port).run() as proxy,
        opened(f"redis://127.0.0.1:{proxy.port}", prefix=prefix) as ledger,
    ):
        lease = await holding(ledger)
        await ledger.settle("b1", [done(record("k"))], now=NOW)
        taken = tuple(one.id for one in await ledger.deltas())
        window = FrozenWindow(starts_at=300.0, parts=(b"one",), deltas=taken)

        # Only what commits a window tells which one is the last.
        proxy.cut_at("$5\r\n#last", forward=forward)
        with pytest.raises(LedgerError):
            await ledger.freeze(window, lease=lease)
        assert proxy.cuts == 1
        assert len(await ledger.frozen()) == int(forward)
        await ledger.freeze(window, lease=lease)

        assert await ledger.deltas() == []
        assert len(await ledger.frozen()) == 1


# ---- how much it does ----


async def test_d29_steady_work_lists_nothing_and_does_not_grow_with_what_is_parked() -> None:
    """
    Invariant 6: the same commands, and as many, with 20 and with 4,000 records and failures; none that walks through.
    """
    few, many = await _commands_of_work(20), await _commands_of_work(4000)

    assert many == few
    assert not {"keys", "scan", "hscan", "zscan", "hvals", "hkeys", "sort"} & few.keys()
    # The windows and, of each shard, the journal: once for the backlog, once for the deltas.
    assert few["hgetall"] == (1 + 4) * 2


async def _commands_of_work(number: int) -> dict[str, int]:
    with redis_server() as server, server.client() as client:
        async with opened(server.url) as ledger:
            records = [record(f"k{at}", next_look_at=NOW - 1e6 + at) for at in range(number)]
            failures = [failed(f"f{at}", next_look_at=NOW, at=NOW - at) for at in range(number)]
            await ledger.park([*records, *failures])
            for kind in ("before", "measured"):
                client.config_resetstat()
                due = await ledger.due(range(4), now=NOW - 1e6 + 4, limit=4)
                assert len(due) == 4
                await ledger.seen([one.replica_mark("dst") for one in due])
                later = [replace(one, next_look_at=one.next_look_at - 9) for one in due]
                await ledger.reschedule(later)
                await ledger.note([replica(f"half {kind}", at=NOW)], now=NOW)
                await ledger.settle(kind, [done(record(f"new {kind}"))], now=NOW)
                await ledger.settle(f"{kind} due", [done(due[0])], now=NOW)
                await ledger.park([due[0], replace(due[0], version=record(kind).version)])
                await ledger.failures(limit=3)
                await ledger.backlog()
                await ledger.deltas()
                await ledger.sweep(now=NOW)
        told = client.info("commandstats")
    return {
        name.removeprefix("cmdstat_"): stat["calls"]
        for name, stat in told.items()
        if name not in ("cmdstat_info", "cmdstat_config|resetstat", "cmdstat_config")
    }


async def test_a_batch_on_one_server_is_one_call_and_one_contribution(own: RedisProcess) -> None:
    """D31: nothing is between what is counted and its mark; of new versions nothing is read first."""
    async with opened(own.url, shards=64) as ledger:
        await ledger.settle("warm", [done(record(f"w{at}")) for at in range(200)], now=NOW)
        with own.client() as client:
            client.config_resetstat()
            batch = [replace(done(record(f"k{at}")), rev=0) for at in range(200)]
            await ledger.settle("b1", batch, now=NOW)
            told = client.info("commandstats")

        assert told["cmdstat_evalsha"]["calls"] == 1
        assert len(await ledger.deltas()) == 2


async def test_marks_lie_by_day_and_go_by_dropping_a_days_hash(own: RedisProcess) -> None:
    """D26: sweeping does not look at single marks, and leaves nothing behind."""
    async with opened(own.url, shards=1) as ledger:
        for day in range(3):
            batch = [done(record(f"k{day}.{at}")) for at in range(100)]
            await ledger.settle(f"b{day}", batch, now=NOW + day * DAY)
        with own.client() as client:
            kept = sorted(client.keys("*:kept:*"))
            assert [client.hlen(key) for key in kept] == [100] * 3
            client.config_resetstat()

            assert await ledger.sweep(now=NOW + RETENTION + DAY) == 100
            assert client.info("commandstats")["cmdstat_unlink"]["calls"] == 1
            assert sorted(client.keys("*:kept:*")) == kept[1:]
            assert await ledger.sweep(now=NOW + RETENTION + 3 * DAY) == 200
            assert client.keys("*:kept:*") == []
            assert client.keys("*:days") == []


async def test_a_trail_lies_in_one_day_only_the_newest(own: RedisProcess) -> None:
    """Whatever is added to it takes the rest along, and is not taken back by a clock that is behind."""
    one = record("k", to=("dst", "two"))
    async with opened(own.url, shards=1) as ledger:
        await ledger.note([replica("k", at=NOW)], now=NOW)
        await ledger.settle("b1", [done(one)], now=NOW + 2 * DAY)
        await ledger.settle("b2", [done(one, arrived(one, "two"))], now=NOW + DAY)
        with own.client() as client:
            kept = client.keys("*:kept:*")
            assert [client.hkeys(key) for key in kept] == [[one.version.trail_id]]

        assert await ledger.sweep(now=NOW + RETENTION + 2 * DAY) == 0
        assert len((await ledger.find("k", "v1")).marks) == 2
        assert await ledger.sweep(now=NOW + RETENTION + 4 * DAY) == 1
        assert (await ledger.find("k", "v1")).marks == {}


@pytest.mark.parametrize("rev", [None, 0])
async def test_daemons_whose_clocks_differ_find_each_others_marks(
    prefix: str, rev: int | None
) -> None:
    """Invariant 9: at midnight, or days apart, what one counted is a duplicate for the other."""
    fields = {"prefix": prefix}
    async with opened(shared_server(), **fields) as one, opened(shared_server(), **fields) as two:
        for number, (here, there) in enumerate([(0, 9), (9, 0), (1, 2), (-30, 30)]):
            # What was decided without a record is written without reading first.
            batch = [replace(done(record(f"k{number}.{at}")), rev=rev) for at in range(8)]
            assert {
                told for (told,) in await one.settle(f"a{number}", batch, now=NOW + here * DAY)
            } == {Settled.COUNTED}
            ids = [one.outcomes[0].mark for one in batch]
            if rev is None:
                assert None not in await two.seen(ids)
            assert {
                told for (told,) in await two.settle(f"b{number}", batch, now=NOW + there * DAY)
            } == {Settled.DUPLICATE}


# ---- clusters ----


async def test_a_cluster_holds_its_shards_on_all_nodes() -> None:
    """Who has which is asked for; a shard that moves to another node is followed, also while it is under way."""
    with redis_cluster() as servers:
        clients = [server.client() for server in servers]
        async with opened(servers[1].url, cluster=True, shards=16) as ledger:
            records = [record(f"k{at}") for at in range(120)]
            await ledger.park(records)
            # While a slot moves, a script finds all of its keys or is told to try again: so all must be there.
            first, second, *_ = (one for one in records if shard_of(one.version.trail_id, 16) == 3)
            await ledger.settle("a", [done(first)], now=NOW)
            assert all(client.dbsize() > 5 for client in clients)

            slot = key_slot(b"{crrmon:3}:trail")
            source = next(
                one for one in clients if one.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot)
            )
            target = next(one for one in clients if one is not source)
            names = [one.execute_command("CLUSTER", "MYID") for one in (source, target)]
            target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[0])
            source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[1])
            port = target.connection_pool.connection_kwargs["port"]
            keys = source.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 99)
            source.execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *keys)
            assert len(await ledger.due(range(16), now=NOW, limit=999)) == 119
            # The node that takes the slot over does not know the script.
            target.script_flush()
            assert await ledger.settle("b", [done(second)], now=NOW) == [[Settled.COUNTED]]
            for client in (target, source):
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[1])

            rest = [done(one) for one in records if one not in (first, second)]
            assert await ledger.settle("c", rest, now=NOW) == [[Settled.COUNTED]] * 118
            assert await completed(ledger) == 120
            assert await ledger.backlog() == []
        for client in clients:
            client.close()


SEED, OTHER = "127.0.0.1", "127.0.0.2"
EARLY = 8192
HOMES = [f"{{crrmon:{at}}}".encode() for at in range(64)]
LOW = next(home for home in HOMES if key_slot(home + b":") < EARLY)
HIGH = next(home for home in HOMES if key_slot(home + b":") >= EARLY)
"""Homes in the first half of the slots, and in the second."""


def cluster_of(*ranges: tuple[bytes | None, Sequence[bytes]]) -> redis_stub.Answer:
    """
    Answer as a node that knows these endpoints, with what is told beside each; each has an equal share of the slots.
    """

    def answer(words: redis_stub.Words, port: int) -> object:
        if words != (b"CLUSTER", b"SLOTS"):
            return words[-1]
        size = 2 * EARLY // len(ranges)
        return [
            [at * size, (at + 1) * size - 1, [host, port, b"id%d" % at, list(metadata)]]
            for at, (host, metadata) in enumerate(ranges)
        ]

    return answer


@asynccontextmanager
async def stubbed_cluster(*stubs: redis_stub.RedisStub) -> AsyncIterator[Servers]:
    """Ask servers as a cluster of which the first is named in the settings."""
    async with redis_stub.redis_stubs(*stubs) as port:
        cluster = RedisServer(url=f"redis://{stubs[0].host}:{port}", cluster=True).servers()
        try:
            yield cluster
        finally:
            await cluster.close()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param((b"?", [b"ip", b"127.0.0.1"]), (b"?", [b"ip", b"127.0.0.2"]), id="no-hostname"),
        pytest.param((b"?", []), (b"?", [b"hostname", b"127.0.0.2"]), id="hostname-in-metadata"),
        pytest.param((b"", [b"ip", b""]), (b"127.0.0.2", []), id="knows-not-itself"),
        pytest.param((None, [b"ip", b"10.1.2.3"]), (b"127.0.0.2", [b"hostname", b""]), id="unknown-endpoint"),
        pytest.param((b"?", [b"ip", b"?"]), (b"?", [b"hostname", b"", b"ip", b"127.0.0.2"]), id="all-kinds"),
    ],
)  # fmt: skip
async def test_e5_a_node_whose_endpoint_is_not_told_is_found_by_its_metadata_or_where_it_was_asked(
    first: tuple[bytes | None, list[bytes]], second: tuple[bytes | None, list[bytes]]
) -> None:
    """A ? has its address beside it; one that is null is behind whoever was asked, and its own address is of no use."""
    answer = cluster_of(first, second)
    seed, other = redis_stub.RedisStub(SEED, answer), redis_stub.RedisStub(OTHER, answer)
    async with stubbed_cluster(seed, other) as cluster:
        calls = [Call(home, ("GET", home)) for home in (LOW, HIGH)]
        told = await cluster.ask(calls)

    assert told == [LOW, HIGH]
    assert (b"GET", LOW) in seed.asked
    assert (b"GET", HIGH) in other.asked


@pytest.mark.parametrize("host", ["?", "", OTHER])
async def test_e5_moved_to_a_host_that_is_not_told_is_looked_up(host: str) -> None:
    """Whoever has the keys now is asked for anew; the host of the redirection is not needed."""
    moved = False

    def answer(words: redis_stub.Words, port: int) -> object:
        nonlocal moved
        if words[0] == b"GET" and not moved:
            moved = True
            return redis_stub.Refusal(f"MOVED {key_slot(LOW + b':')} {host}:{port}")
        owners = (b"?", [b"ip", OTHER.encode()]) if moved else (b"?", [b"ip", SEED.encode()])
        return cluster_of(owners)(words, port)

    seed, other = redis_stub.RedisStub(SEED, answer), redis_stub.RedisStub(OTHER, answer)
    async with stubbed_cluster(seed, other) as cluster:
        told = await cluster.ask([Call(LOW, ("GET", LOW))])

    assert told == [LOW]
    assert (b"GET", LOW) in other.asked


NODES = """\
aa {seed}:{port}@{bus}{seed_name} myself,master - 0 0 1 connected 0-16383 [{slot}->-bb] [77-<-cc]
bb {other}:{port}@{bus}{other_name} master - 0 1 2 connected
cc 10.9.9.9:{port}@{bus} master - 0 1 3 connected
"""
"""What a node of a cluster tells of all while it gives a slot to another that has none yet."""


@pytest.mark.parametrize(
    ("host", "asked_at", "names"),
    [
        ("?", OTHER, ("", "")),
        ("?", OTHER, (",", ",,shard-id=1")),
        ("?", OTHER, (",?", ",?")),
        ("", SEED, ("", "")),
        (OTHER, OTHER, ("", "")),
    ],
)
async def test_e5_keys_that_go_to_a_node_without_a_name_are_asked_for_there(
    host: str, asked_at: str, names: tuple[str, str]
) -> None:
    """ASK with a ? leads to the node that takes the slot over; with no host to whoever was asked, at another port."""

    def answer(words: redis_stub.Words, port: int) -> object:
        if words == (b"CLUSTER", b"NODES"):
            slot = key_slot(LOW + b":")
            named = {"seed_name": names[0], "other_name": names[1]}
            return NODES.format(
                seed=SEED, other=OTHER, port=port, bus=port + 10_000, slot=slot, **named
            ).encode()
        return cluster_of((SEED.encode(), []))(words, port)

    def asks(words: redis_stub.Words, port: int) -> object:
        if words[0] == b"GET" and seed.asked[-2][0] != b"ASKING":
            return redis_stub.Refusal(f"ASK {key_slot(LOW + b':')} {host}:{port}")
        return answer(words, port)

    seed, other = redis_stub.RedisStub(SEED, asks), redis_stub.RedisStub(OTHER, answer)
    async with stubbed_cluster(seed, other) as cluster:
        told = await cluster.ask([Call(LOW, ("GET", LOW))])

    assert told == [LOW]
    there = seed if asked_at == SEED else other
    assert there.asked[-2:] == [(b"ASKING",), (b"GET", LOW)]


async def test_e5_keys_that_go_to_nobody_known_are_asked_for_again_later() -> None:
    """
    A ? of which nothing else is told, as when the slot has arrived meanwhile: an error that passes, and no host ?.
    """

    def answer(words: redis_stub.Words, port: int) -> object:
        if words[0] == b"GET":
            return redis_stub.Refusal(f"ASK {key_slot(LOW + b':')} ?:{port}")
        if words == (b"CLUSTER", b"NODES"):
            return b"aa 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-16383\n"
        return cluster_of((SEED.encode(), []))(words, port)

    seed = redis_stub.RedisStub(SEED, answer)
    async with stubbed_cluster(seed) as cluster:
        with pytest.raises(redis.ResponseError, match="TRYAGAIN"):
            await cluster.ask([Call(LOW, ("GET", LOW))])


async def test_a_cluster_that_lost_a_node_is_asked_again_later() -> None:
    """Its shards fail, the others answer; when the node is back, so are they."""
    with redis_cluster("--appendonly", "yes", "--cluster-require-full-coverage", "no") as servers:
        async with opened(servers[0].url, cluster=True, shards=16) as ledger:
            records = [record(f"k{at}") for at in range(40)]
            await ledger.park(records)
            servers[2].kill()

            with pytest.raises(LedgerError):
                await ledger.settle("b1", [done(one) for one in records], now=NOW)
            servers[2].start()
            with servers[2].client() as client:
                await _until(
                    lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO")
                )

            results = await ledger.settle("b1", [done(one) for one in records], now=NOW)
            assert results == [[Settled.COUNTED]] * 40
            assert await completed(ledger) == 40


async def test_whoever_waits_for_a_node_that_is_dropped_gets_an_answer() -> None:
    """It hangs, and another one took its slots over: what was to go to it is not waited for without end."""
    with redis_cluster("--cluster-node-timeout", "60000") as servers:
        names = [one.client().execute_command("CLUSTER", "MYID") for one in servers]
        cluster = RedisServer(url=servers[0].url, cluster=True).servers()
        assert isinstance(cluster, clusters.Cluster)
        homes = [f"{{crrmon:{at}}}".encode() for at in range(64)]
        mine, its = (
            [one for one in homes if key_slot(one + b":") * 3 // 16384 == at] for at in (0, 1)
        )

        def look(home: bytes) -> Call:
            return Call(home, ("GET", home + b":x"))

        await cluster.ask([look(mine[0])])
        servers[1].freeze()
        tasks = []
        for home in its:
            tasks.append(asyncio.create_task(cluster.ask([look(home)])))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        node = cluster._nodes["127.0.0.1", servers[1].port]
        async with asyncio.timeout(HANGS_SECONDS):
            while not node._waiting:
                await asyncio.sleep(0)
            with servers[0].client() as client:
                pipe = client.pipeline(transaction=False)
                for slot in range(16384 // 3, 16384 * 2 // 3):
                    pipe.execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[0])
                pipe.execute()
            # An error makes it learn anew who has what.
            with pytest.raises(redis.ResponseError):
                await cluster.ask([Call(mine[0], ("CLUSTER", "NONSENSE"))])
            await cluster.ask([look(mine[0])])
            told = await asyncio.gather(*tasks, return_exceptions=True)

            assert node is not cluster._nodes.get(("127.0.0.1", servers[1].port))
            assert {type(one) for one in told} == {redis.ConnectionError}
            with pytest.raises(redis.ConnectionError):
                await node.ask([look(its[0])])
            assert await cluster.ask([look(its[0])]) == [None]
            await cluster.close()
        servers[1].thaw()


async def test_lanes_that_end_at_once_leave_nobody_waiting() -> None:
    """Whoever asks again as soon as it is answered must not count on a lane that found nothing left to do."""
    gate = asyncio.Event()

    class Gated(nodes.Node):
        @override
        async def _exchange(self, requests: Sequence[nodes._Request]) -> list[list[Reply]]:
            await gate.wait()
            return [[None]] * len(requests)

    server = RedisServer(url="redis://127.0.0.1:1")
    node = Gated(server.connections(server.seed))
    call = Call(b"", ("PING",))

    async def some(times: int) -> None:
        for _ in range(times):
            await node.ask([call])

    tasks = []
    for times in (2, 1, 1, 1):
        tasks.append(asyncio.create_task(some(times)))
        for _ in range(3):
            await asyncio.sleep(0)
    assert len(node._lanes) == 4
    gate.set()
    async with asyncio.timeout(HANGS_SECONDS):
        await asyncio.gather(*tasks)
    await node.close()


# ---- values that cannot be read ----


async def test_a_record_that_cannot_be_read_is_left_out_and_named_once(prefix: str) -> None:
    """The others are still looked at, also when only one is asked for."""
    trail = b"x" * 16
    async with opened(shared_server(), prefix=prefix, shards=1) as ledger:
        await ledger.park([record("k", next_look_at=NOW)])
        with _client(shared_server()) as client:
            client.hset(f"{{{prefix}:0}}:trail", trail, b"\x81\xa1a")
            client.zadd(f"{{{prefix}:0}}:trail:due", {trail: 1.0})

        with structlog.testing.capture_logs() as logs:
            await ledger.due([0], now=NOW, limit=1)
            (found,) = await ledger.due([0], now=NOW, limit=1)
        assert found.version.key == "k"
        (line,) = logs
        assert line["event"] == "ledger_item_unreadable"
        where = f"field {trail.hex()} of the Redis key {{{prefix}:0}}:trail at {shared_server()}"
        assert line["item"] == where
        with pytest.raises(LedgerError) as caught:
            await ledger.export()

    text = _clean(caught.value)
    assert where in text
    assert "newer version" in text


@pytest.mark.parametrize(
    ("key", "field", "ask"),
    [
        (":0}:journal", "q", "deltas"),
        (":0}:journal", "q", "backlog"),
        ("}:backlog", "q", "backlog"),
        ("}:windows", "#last", "last_frozen"),
        ("}:windows", "q", "deltas"),
        ("}:windows", "q", "frozen"),
        ("}:leases", "0000", "leases"),
        ("}:members", "me", "members"),
        ("}:routes", "q", "known_routes"),
    ],
)
async def test_a_value_that_cannot_be_read_is_named(
    prefix: str, key: str, field: str, ask: str
) -> None:
    """The daemon goes on, and tells what it cannot read: it may be of a later version."""
    key = "{" + prefix + key
    async with opened(shared_server(), prefix=prefix) as ledger:
        with _client(shared_server()) as client:
            client.hset(key, field, b"\xff")
            client.zadd(f"{key}:order", {field: 0})

        with pytest.raises(LedgerError) as caught:
            await getattr(ledger, ask)()

    text = _clean(caught.value)
    assert f"field {field.encode()!r} of the Redis key {key} at {shared_server()}" in text
    assert "newer version" in text


async def test_which_days_there_are_is_named_when_it_cannot_be_read(prefix: str) -> None:
    """Then nobody knows where anything of a shard is."""
    async with opened(shared_server(), prefix=prefix, shards=1) as ledger:
        with _client(shared_server()) as client:
            client.set(f"{{{prefix}:0}}:trail:days", "q")

        for asked in (ledger.park([record("k")]), ledger.find("k", "v1"), ledger.sweep(now=NOW)):
            with pytest.raises(LedgerError) as caught:
                await asked
            text = _clean(caught.value)
            assert f"{{{prefix}:0}}:trail:days at {shared_server()}" in text
            assert "newer version" in text


async def test_keys_of_another_kind_are_said_plainly(prefix: str) -> None:
    """Somebody else uses the prefix too."""
    async with opened(shared_server(), prefix=prefix, shards=1) as ledger:
        with _client(shared_server()) as client:
            client.set(f"{{{prefix}:0}}:trail", "something else")
            client.set(f"{{{prefix}}}:leases", "something else")

        for asked in (ledger.park([record("k")]), ledger.find("k", "v1"), ledger.leases()):
            with pytest.raises(
                LedgerError, match=r"choose another ledger\.redis\.prefix"
            ) as caught:
                await asked
            assert f"'{prefix}'" in _clean(caught.value)


async def test_marks_and_windows_that_cannot_be_read_are_named(prefix: str) -> None:
    """What was counted cannot be known then, so nothing is."""
    async with opened(shared_server(), prefix=prefix, shards=1) as ledger:
        await ledger.settle("b1", [done(record("k"))], now=NOW)
        lease = await holding(ledger)
        window = FrozenWindow(starts_at=300.0, parts=(b"x",), deltas=())
        await ledger.freeze(window, lease=lease)
        with _client(shared_server()) as client:
            (kept,) = client.keys(f"{{{prefix}:0}}:trail:kept:*")
            trail = record("k").version.trail_id
            client.hset(kept, trail, b"\x00")
            windows = f"{{{prefix}}}:windows"
            (header,) = (one for one in client.hkeys(windows) if one != b"#last")
            client.hset(windows, header, b"\x80")

        with pytest.raises(LedgerError, match=f"{trail.hex()}.*{{{prefix}:0}}:trail"):
            await ledger.settle("b2", [done(record("k"))], now=NOW)
        for asked in (ledger.frozen(), ledger.freeze(window, lease=lease)):
            with pytest.raises(LedgerError, match=f"{header.decode()}.*{{{prefix}}}:windows"):
                await asked


@pytest.mark.parametrize("folded", [False, True])
async def test_others_get_their_turn_while_a_large_backlog_is_read(
    own: RedisProcess, monkeypatch: pytest.MonkeyPatch, *, folded: bool
) -> None:
    """A million pending over two weeks make as many sums: reading them must not stop everything else."""
    monkeypatch.setattr("crrmon.ledger.pauses.PAUSED_AT", 10)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with opened(own.url, shards=2) as ledger:
        records = [record(f"k{at}", written_at=NOW - 60.0 * at) for at in range(1000)]
        await ledger.park(records)
        if folded:
            lease = await holding(ledger)
            window = FrozenWindow(starts_at=300.0, parts=(), deltas=())
            await ledger.freeze(window, lease=lease)
        answered: list[int] = []
        ask = ledger._store._redis.ask

        async def counted(calls: Sequence[Call], *, durable: bool = False) -> list[Reply]:
            told = await ask(calls, durable=durable)
            answered.append(turns)
            return told

        monkeypatch.setattr(ledger._store._redis, "ask", counted)
        turning = asyncio.create_task(turn())
        slots = await ledger.backlog()
        turning.cancel()

    assert len(slots) == 1000
    assert sum(one.pending_objects for one in slots) == 1000
    # The windows, the sums as of the last one, the journal, and whether a window came meanwhile.
    assert len(answered) == 4
    assert turns - answered[-1] > 90


# ---- copies ----


async def test_a_ledger_that_is_only_read_is_not_made(own: RedisProcess) -> None:
    """The source of a copy, under a prefix that was mistyped."""
    server = RedisServer(url=f"{own.url}/3", prefix="typo")
    with pytest.raises(
        LedgerError, match=f"no ledger at ledger.redis.prefix 'typo' on {own.url}, database 3"
    ):
        await RedisLedger.at(server, clock=SystemClock(), create=False)
    with own.client(db=3) as client:
        assert client.keys() == []

    async with opened(server.url, prefix="typo") as ledger:
        await ledger.park([record("k")])
    reader = await RedisLedger.at(server, clock=SystemClock(), create=False)
    assert len((await reader.export())[0]) == 1
    await reader.close()


async def test_an_export_from_which_somebody_takes_tells_so(prefix: str) -> None:
    """Where the last page ended cannot be found again."""
    async with opened(shared_server(), prefix=prefix) as ledger:
        await ledger.park([record(f"k{at}") for at in range(9)])
        (last,), after = await ledger.export(limit=1)
        await ledger.settle("b1", [done(next(iter(last.records.values())))], now=NOW)

        with pytest.raises(LedgerError, match="another process is working on the ledger"):
            await ledger.export(after=after)
