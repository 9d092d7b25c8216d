"""MinIO's sites with replication between them: they answer, retry and tell as real ones do.

What is in here was seen on real servers; `tests/data/minio` has what they said. That is:

- HEAD of a version that a site does not have is answered by the other side, with the other side's status, wherever a
  rule leads there and that side is up: REPLICA where the version lies as a replica, COMPLETED or FAILED where it was
  written. With `x-minio-source-proxy-request`, whatever its value, a site answers for itself.
- HEAD of a delete marker is 405 with `x-minio-replication-deletemarker-status`; of a version that was purged where the
  rule replicates that and the other side has not heard yet, 405 with `x-minio-replication-delete-status`. Both claim
  to be delete markers. Elsewhere a purged version is 404.
- Every HEAD of what failed has it tried again, and every failed try is told of again.
- Events tell of what users do, never of what replication writes; how a replication ended is told by
  `s3:Replication:*` at the source. What cannot be sent because the other side is down is told as not tracked, too.
- Rules come in two forms: with the other side's ARN as destination, or in the configuration's `Role`.

Nothing happens by itself: `Minio.work` replicates what waits. Times are those of the clock that a test gives. A site
can be asked without any network (`Site.answer`), over HTTP (`served`), or by the daemon's own probe in simulated time
(`probing`, whose probe a `Rig` takes as its `s3`; give its inbox's `send` to the sites' `hear`).
"""

import datetime as dt
import hashlib
import json
import random
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, quote_plus, unquote, urlsplit
from xml.sax.saxutils import escape

import msgspec
from aiobotocore.awsrequest import AioAWSResponse
from botocore.awsrequest import AWSPreparedRequest, HeadersDict

from crrmon.adapters.account_way import KnownAccount
from crrmon.adapters.accounts import Accounts
from crrmon.adapters.aws import AwsSession
from crrmon.adapters.s3 import S3Probe
from crrmon.domain.objects import ObjectVersion
from crrmon.ports.clock import Clock
from crrmon.ports.meters import Meters
from fakes.aws_stub import Answer, Asked, AwsStub

SOURCE_PROXY = "x-minio-source-proxy-request"
MARKER_STATUS = "x-minio-replication-deletemarker-status"
PURGE_STATUS = "x-minio-replication-delete-status"

_PENDING, _COMPLETED, _FAILED, _REPLICA = "PENDING", "COMPLETED", "FAILED", "REPLICA"


class Reply(msgspec.Struct, frozen=True):
    """What a site answers."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class _Target(msgspec.Struct, frozen=True):
    """Where a rule leads."""

    arn: str
    site: "Site"
    bucket: str
    prefix: str
    markers: bool
    purges: bool
    old_form: bool


class _Stored(msgspec.Struct):
    """A version, or a delete marker, as it lies at one site."""

    version: ObjectVersion
    modified_at: float
    body: bytes = b""
    marker: bool = False
    replica: bool = False
    sent: dict[str, str] = {}
    """How it stands at each target, by ARN."""
    purged: dict[str, str] = {}
    """The same of its deletion for good; empty while nobody deleted it."""
    again: bool = False
    """Whether somebody asked for it since it failed."""

    @property
    def status(self) -> str:
        """What HEAD says of it; the empty string where it says nothing."""
        return _merged(self.sent) or (_REPLICA if self.replica else "")


class Site:
    """
    One deployment.

    Args:
        world: that it is part of.
        endpoint: its address, as its events tell it.
    """

    def __init__(self, world: "Minio", endpoint: str) -> None:
        self._world = world
        self.endpoint = endpoint
        self.deployment_id = world.new_id()
        self.up = True
        """Whether others reach it; it never stops answering the daemon."""
        self.broken = False
        """Whether it answers nobody but with 500."""
        self.takes = True
        """Whether it lets replication write."""
        self.events: list[str] = []
        """The bodies of all that it told."""
        self.hear: Callable[[str], object] = self.events.append
        """Who is told of events."""
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        """Method, target and headers of all requests."""
        self._buckets: dict[str, dict[tuple[str, str], _Stored]] = {}
        self._targets: dict[str, list[_Target]] = {}

    # ---- what users do ----

    def make(self, *buckets: str) -> None:
        """Make buckets with versions."""
        for bucket in buckets:
            self._buckets[bucket] = {}

    def replicate(
        self,
        bucket: str,
        to: "Site",
        target: str,
        *,
        prefix: str = "",
        markers: bool = True,
        purges: bool = True,
        old_form: bool = False,
    ) -> None:
        """
        Add a rule.

        Args:
            bucket: of the source.
            to: the other side.
            target: the bucket there.
            prefix: of keys.
            markers: whether delete markers replicate.
            purges: whether deletions for good do.
            old_form: whether the ARN stands in the configuration's Role.
        """
        arn = f"arn:minio:replication::{self._world.new_id()}:{target}"
        target_of = _Target(arn, to, target, prefix, markers, purges, old_form)
        self._targets.setdefault(bucket, []).append(target_of)

    def stop_replicating(self, bucket: str) -> None:
        """Take all rules of a bucket away."""
        del self._targets[bucket]

    def put(self, bucket: str, key: str, body: bytes = b"0123456789") -> ObjectVersion:
        """Write an object."""
        stored = self._lay(bucket, key, body=body)
        self._tell("s3:ObjectCreated:Put", stored, by_user=True)
        return stored.version

    def mark(self, bucket: str, key: str) -> ObjectVersion:
        """Lay a delete marker."""
        stored = self._lay(bucket, key, marker=True)
        self._tell("s3:ObjectRemoved:DeleteMarkerCreated", stored, by_user=True)
        return stored.version

    def purge(self, version: ObjectVersion) -> None:
        """Delete a version for good; it is hidden until the other side has heard, where the rule says so."""
        stored = self._find(version.bucket, version.key, version.version_id)
        assert stored is not None
        self._tell("s3:ObjectRemoved:Delete", stored, by_user=True)
        stored.purged = {one.arn: _PENDING for one in self._fitting(version) if one.purges}
        if not stored.purged:
            self._drop(stored)

    def holds(self, version: ObjectVersion, bucket: str | None = None) -> bool:
        """Return whether a version lies here, in its bucket or another one."""
        found = self._find(bucket or version.bucket, version.key, version.version_id)
        return found is not None and not found.purged

    # ---- what replication does ----

    def work(self) -> None:
        """Try once what waits, and what failed and was asked for since."""
        for stored in [one for kept in self._buckets.values() for one in kept.values()]:
            again, stored.again = stored.again, False
            for target in self._fitting(stored.version):
                waits = (_PENDING, _FAILED) if again else (_PENDING,)
                if stored.purged:
                    if stored.purged.get(target.arn) in waits:
                        self._send_purge(stored, target)
                elif stored.sent.get(target.arn) in waits:
                    self._send(stored, target)

    def scan(self) -> None:
        """Have all that failed tried again, as the scanner does now and then."""
        for kept in self._buckets.values():
            for stored in kept.values():
                stored.again = True

    def _send(self, stored: _Stored, target: _Target) -> None:
        if target.site.up and target.site.takes:
            target.site._receive(stored, target.bucket)
            stored.sent[target.arn] = _COMPLETED
        else:
            stored.sent[target.arn] = _FAILED
        self._tell_end(stored, stored.sent[target.arn], target)

    def _send_purge(self, stored: _Stored, target: _Target) -> None:
        if target.site.up and target.site.takes:
            version = stored.version
            replica = target.site._find(target.bucket, version.key, version.version_id)
            if replica is not None:
                target.site._drop(replica)
            stored.purged[target.arn] = _COMPLETED
        else:
            stored.purged[target.arn] = _FAILED
        self._tell_end(stored, stored.purged[target.arn], target)
        if _merged(stored.purged) == _COMPLETED:
            self._drop(stored)

    def _tell_end(self, stored: _Stored, status: str, target: _Target) -> None:
        if status == _COMPLETED:
            self._tell("s3:Replication:OperationCompletedReplication", stored, status=status)
            return
        if not target.site.up:
            self._tell("s3:Replication:OperationNotTracked", stored)
        self._tell("s3:Replication:OperationFailedReplication", stored, status=status)

    def _receive(self, stored: _Stored, bucket: str) -> None:
        version = ObjectVersion(bucket, stored.version.key, stored.version.version_id)
        copy = _Stored(version, stored.modified_at, stored.body, stored.marker, replica=True)
        self._buckets[bucket][version.key, version.version_id] = copy

    # ---- what is asked ----

    def answer(self, method: str, target: str, headers: Mapping[str, str]) -> Reply:
        """
        Answer a request.

        Args:
            method: HEAD or GET.
            target: path and query, as they stand in the request.
            headers: names in any case.
        """
        named = {name.lower(): value for name, value in headers.items()}
        self.asked.append((method, target, named))
        if self.broken:
            return self._error(500, "InternalError")
        url = urlsplit(target)
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        if bucket not in self._buckets:
            return self._error(404, "NoSuchBucket")
        query = parse_qs(url.query, keep_blank_values=True)
        if method == "GET" and "replication" in query and not key:
            return self._configuration(bucket)
        return self._head(
            bucket, key, query.get("versionId", [""])[0], proxies=SOURCE_PROXY not in named
        )

    def _head(self, bucket: str, key: str, version_id: str, *, proxies: bool) -> Reply:
        stored = self._find(bucket, key, version_id)
        if stored is None:
            others = self._targets.get(bucket, ()) if proxies else ()
            for target in others:
                if key.startswith(target.prefix) and target.site.up:
                    told = target.site._head(target.bucket, key, version_id, proxies=False)
                    if told.status == 200:
                        return msgspec.structs.replace(told, headers=told.headers | self._signed())
            return self._error(404, "NoSuchVersion" if version_id else "NoSuchKey")
        if _FAILED in (stored.status, _merged(stored.purged)):
            stored.again = True
        if stored.marker or stored.purged:
            return self._hidden(stored, asked_for=bool(version_id))
        told = {
            "accept-ranges": "bytes",
            "content-length": str(len(stored.body)),
            "content-type": "binary/octet-stream",
            "etag": f'"{_etag(stored)}"',
            "last-modified": _http_date(stored.modified_at),
            "x-amz-version-id": stored.version.version_id,
        }
        if stored.status:
            told["x-amz-replication-status"] = stored.status
        return Reply(200, self._signed() | told)

    def _hidden(self, stored: _Stored, *, asked_for: bool) -> Reply:
        refusal = (405, "MethodNotAllowed") if asked_for else (404, "NoSuchKey")
        told = {"x-amz-delete-marker": "true", "x-amz-version-id": stored.version.version_id}
        if stored.purged:
            told[PURGE_STATUS] = _merged(stored.purged)
        elif stored.status:
            told[MARKER_STATUS] = stored.status
        return self._error(*refusal, **told)

    def _configuration(self, bucket: str) -> Reply:
        targets = self._targets.get(bucket)
        if not targets:
            return self._error(404, "ReplicationConfigurationNotFoundError")
        rules = "".join(_rule_xml(number, one) for number, one in enumerate(targets))
        role = targets[0].arn if targets[0].old_form else ""
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<ReplicationConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"{rules}<Role>{role}</Role></ReplicationConfiguration>"
        )
        return Reply(200, self._signed() | {"content-type": "application/xml"}, text.encode())

    def _error(self, status: int, code: str, **more: str) -> Reply:
        told = {"x-minio-error-code": code, "content-type": "application/xml", **more}
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code></Error>'
        return Reply(status, self._signed() | told, body.encode())

    def _signed(self) -> dict[str, str]:
        return {
            "server": "MinIO",
            "x-amz-id-2": hashlib.sha256(self.endpoint.encode()).hexdigest(),
            "x-amz-request-id": self._world.new_request_id(),
        }

    # ---- what it remembers and tells ----

    def _lay(self, bucket: str, key: str, *, body: bytes = b"", marker: bool = False) -> _Stored:
        version = ObjectVersion(bucket, key, self._world.new_id())
        stored = _Stored(version, self._world.now(), body, marker)
        stored.sent = {
            one.arn: _PENDING for one in self._fitting(version) if one.markers or not marker
        }
        self._buckets[bucket][key, version.version_id] = stored
        return stored

    def _fitting(self, version: ObjectVersion) -> Iterator[_Target]:
        for target in self._targets.get(version.bucket, ()):
            if version.key.startswith(target.prefix):
                yield target

    def _find(self, bucket: str, key: str, version_id: str) -> _Stored | None:
        kept = self._buckets[bucket]
        if version_id:
            return kept.get((key, version_id))
        return next((one for (name, _), one in reversed(kept.items()) if name == key), None)

    def _drop(self, stored: _Stored) -> None:
        version = stored.version
        self._buckets[version.bucket].pop((version.key, version.version_id), None)

    def _tell(
        self, name: str, stored: _Stored, *, by_user: bool = False, status: str = ""
    ) -> None:
        body = _event(self, name, stored, self._world, by_user=by_user, status=status)
        self.hear(body)
        if self.hear != self.events.append:
            self.events.append(body)


class Minio:
    """
    Sites that know each other.

    Args:
        now: tells the time.
        seed: of all ids.
    """

    def __init__(self, now: Callable[[], float], *, seed: int = 1) -> None:
        self.now = now
        self.sites: list[Site] = []
        self.paused = False
        """For whoever calls `work` now and then: whether not to."""
        self._chance = random.Random(seed)
        self._requests = 0

    def site(self, endpoint: str = "") -> Site:
        """Found one more site."""
        site = Site(self, endpoint or f"http://127.0.0.1:{19000 + len(self.sites)}")
        self.sites.append(site)
        return site

    def work(self) -> None:
        """Have every site try once what waits."""
        for site in self.sites:
            site.work()

    def new_id(self) -> str:
        """Create a UUID."""
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    def new_request_id(self) -> str:
        """Create the id of a request, or an event's sequencer."""
        self._requests += 1
        return f"{0x18ECA4D900000000 + self._requests:X}"


@asynccontextmanager
async def served(site: Site) -> AsyncIterator[str]:
    """Run a site on a free port of this machine; gives its address."""

    def reply(asked: Asked) -> Answer:
        told = site.answer(asked.method, asked.target, asked.headers)
        headers = {"content-type": "application/xml"} | told.headers
        return Answer(told.status, headers, told.body, signed=False)

    async with AwsStub() as stub:
        stub.answer_by(reply)
        yield stub.url


@asynccontextmanager
async def probing(
    world: Minio, accounts: Sequence[KnownAccount], *, clock: Clock, meters: Meters
) -> AsyncIterator[S3Probe]:
    """
    Make the daemon's own probe ask the sites without any network, and so in simulated time.

    Everything before and after the network is the SDK's own.

    Args:
        world: whose sites are asked, by their `endpoint`.
        accounts: how buckets are reached; see `account`.
        clock: the daemon's.
        meters: the daemon's.
    """
    by_address = {urlsplit(site.endpoint).netloc: site for site in world.sites}

    def send(request: AWSPreparedRequest, **_: Any) -> AioAWSResponse:
        url = urlsplit(request.url)
        target = f"{url.path}?{url.query}" if url.query else url.path
        texts = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in request.headers.items()
        }
        told = by_address[url.netloc].answer(request.method, target, texts)
        body = b"" if request.method == "HEAD" else told.body
        return AioAWSResponse(request.url, told.status, HeadersDict(told.headers), _Body(body))

    async with AwsSession(endpoint_url=None, default_region="us-east-1", max_connections=8) as aws:
        aws._session.register("before-send.s3", send)
        known = Accounts(aws, accounts, clock=clock, meters=meters)
        for one in accounts:
            # Service models are read in a thread, for which simulated time does not wait.
            await known.way(one.buckets[0], one.site).s3("")
        yield S3Probe(known, clock=clock)


def account(site: Site, *buckets: str, named: bool = False) -> KnownAccount:
    """
    Describe a site as the configuration does.

    Args:
        site: that is reached.
        buckets: patterns of its buckets.
        named: whether the configuration says which site it is.
    """
    return KnownAccount(
        id=f"site-{urlsplit(site.endpoint).port}",
        endpoint_url=site.endpoint,
        site=site.deployment_id if named else None,
        buckets=buckets,
    )


class _Body:
    """The body of an answer, as the SDK reads it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        """Read all of it."""
        return self._body


def _merged(statuses: Mapping[str, str]) -> str:
    """Merge what stands at several targets, as HEAD does."""
    told = set(statuses.values())
    if not told:
        return ""
    if _FAILED in told:
        return _FAILED
    return _COMPLETED if told == {_COMPLETED} else _PENDING


def _etag(stored: _Stored) -> str:
    return hashlib.md5(stored.body, usedforsecurity=False).hexdigest()


def _http_date(at: float) -> str:
    return dt.datetime.fromtimestamp(int(at), dt.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")


def _rule_xml(number: int, target: _Target) -> str:
    def status(name: str, *, on: bool = True) -> str:
        return f"<{name}><Status>{'Enabled' if on else 'Disabled'}</Status></{name}>"

    bucket = f"arn:aws:s3:::{target.bucket}" if target.old_form else target.arn
    return (
        f"<Rule><ID>rule-{number}</ID><Status>Enabled</Status><Priority>{number}</Priority>"
        f"{status('DeleteMarkerReplication', on=target.markers)}{status('DeleteReplication', on=target.purges)}"
        f"<Destination><Bucket>{bucket}</Bucket></Destination>"
        f"<SourceSelectionCriteria>{status('ReplicaModifications')}</SourceSelectionCriteria>"
        f"<Filter><Prefix>{escape(target.prefix)}</Prefix></Filter>"
        f"{status('ExistingObjectReplication')}</Rule>"
    )


def _event(
    site: Site, name: str, stored: _Stored, world: Minio, *, by_user: bool, status: str
) -> str:
    """Create the body of a notification, as the webhook sends it and a queue holds it."""
    version = stored.version
    who = "miniouser" if by_user else ""
    object_told: dict[str, Any] = {"key": quote_plus(version.key)}
    of_object = not stored.marker and not stored.purged and "ObjectRemoved" not in name
    if of_object and stored.body:
        object_told["size"] = len(stored.body)
    tracked = not name.endswith("OperationNotTracked")
    if of_object and tracked:
        metadata = {"X-Amz-Replication-Status": status} if status else {}
        object_told |= {
            "eTag": _etag(stored),
            "contentType": "binary/octet-stream",
            "userMetadata": metadata | {"content-type": "binary/octet-stream"},
        }
    if tracked or of_object:
        object_told["versionId"] = version.version_id
    answered = site._signed() if by_user else {"x-amz-id-2": "", "x-amz-request-id": ""}
    answered.pop("server", None)
    if by_user and "ObjectRemoved" in name:
        answered["content-length"] = "0"
    at = dt.datetime.fromtimestamp(world.now(), dt.UTC)
    record = {
        "eventVersion": "2.0",
        "eventSource": "minio:s3",
        "awsRegion": "",
        "eventTime": f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z",
        "eventName": name,
        "userIdentity": {"principalId": who},
        "requestParameters": (
            {"principalId": who, "region": "", "sourceIPAddress": "127.0.0.1"} if by_user else None
        ),
        "responseElements": answered
        | {
            "x-minio-deployment-id": site.deployment_id,
            "x-minio-origin-endpoint": site.endpoint,
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "Config",
            "bucket": {
                "name": version.bucket,
                "ownerIdentity": {"principalId": who},
                "arn": f"arn:aws:s3:::{version.bucket}",
            },
            "object": object_told | {"sequencer": world.new_request_id()},
        },
        "source": {
            "host": "127.0.0.1" if by_user else urlsplit(site.endpoint).netloc,
            "port": "",
            "userAgent": "MinIO (linux; amd64) writer/1.0"
            if by_user
            else "Internal: [Replication]",
        },
    }
    body = {"EventName": name, "Key": f"{version.bucket}/{version.key}", "Records": [record]}
    return json.dumps(body)
