"""An API server of Kubernetes, controllers and etcd, each a real process on loopback, and a stand-in for the kubelet.

What cannot be real without containers is the node: `Kubelet` binds pods and says of them what a node would say. An
image whose tag is `broken` never gets ready there.
"""

import contextlib
import functools
import http.client
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

import helm_python as helm
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

TOP = Path(__file__).resolve().parents[2]

BUILD = TOP / "tests" / "cluster" / "build"
"""Prints the folder of the servers, and builds them before, if they are not there."""

LOOPBACK = "127.0.0.1"
TOKEN = "the-tests"  # noqa: S105 - opens nothing else
NODE = "node"

START_SECONDS = 120
"""How long a server may take to start."""
SETTLE_SECONDS = 60
"""How long controllers may take to do what was asked for."""
REQUEST_SECONDS = 30
WATCH_SECONDS = 600
TOO_EARLY = 429
"""What the server answers while it gathers the objects of a kind."""
BEGIN_AGAIN = (410, TOO_EARLY, 504)
"""What it tells a watch that cannot go on."""

CONTROLLERS = (
    "deployment-controller",
    "disruption-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "horizontal-pod-autoscaler-controller",
    "job-controller",
    "namespace-controller",
    "persistentvolumeclaim-protection-controller",
    "replicaset-controller",
    "serviceaccount-controller",
    "statefulset-controller",
)
"""Those that make something of what the chart makes."""

Object = dict[str, Any]
T = TypeVar("T")


class ApiError(Exception):
    """The API server did not do it; the text is its own."""

    def __init__(self, status: int, told: str) -> None:
        super().__init__(f"{status}: {told}")
        self.status = status


class Api:
    """The API server's HTTP."""

    def __init__(self, port: int) -> None:
        self.port = port
        # It makes its certificate by itself, for this test alone.
        self._tls = ssl.create_default_context()
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE
        self.kinds = functools.cache(self._kinds)

    @property
    def kubeconfig(self) -> str:
        """Return the text by which Helm and the controllers find it."""
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "tests",
                "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
                "users": [{"name": "tests", "user": {"token": TOKEN}}],
                "clusters": [
                    {
                        "name": "tests",
                        "cluster": {
                            "server": f"https://{LOOPBACK}:{self.port}",
                            "insecure-skip-tls-verify": True,
                        },
                    }
                ],
            }
        )

    @contextlib.contextmanager
    def _answer(
        self, method: str, path: str, body: Any, kind: str, timeout: float
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPSConnection(
            LOOPBACK, self.port, context=self._tls, timeout=timeout
        )
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind, "Connection": "close"}
        with contextlib.closing(connection):
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            with connection.getresponse() as answer:
                if answer.status >= 400:
                    raise ApiError(answer.status, answer.read().decode())
                yield answer

    def ask(
        self, method: str, path: str, body: Any = None, *, kind: str = "application/json"
    ) -> Object:
        """
        Return what it answers, as soon as it has gathered that.

        Raises:
            ApiError: it refused.
        """
        end = time.monotonic() + REQUEST_SECONDS
        while True:
            try:
                with self._answer(method, path, body, kind, REQUEST_SECONDS) as answer:
                    text = answer.read().decode()
                break
            except ApiError as error:
                if error.status != TOO_EARLY or time.monotonic() > end:
                    raise
            threading.Event().wait(0.1)
        return dict(json.loads(text)) if text.startswith("{") else {"text": text}

    def warnings(self, path: str, body: Object) -> list[str]:
        """
        Create an object without doing it, with every field looked at, and return what it warns of.

        Raises:
            ApiError: it refused.
        """
        query = urlencode({"dryRun": "All", "fieldValidation": "Strict"})
        to = f"{path}?{query}"
        with self._answer("POST", to, body, "application/json", REQUEST_SECONDS) as answer:
            answer.read()
            return answer.headers.get_all("Warning") or []

    def watch(self, path: str) -> Iterator[Object]:
        """
        Yield what is there and then each change, until the server ends it.

        Raises:
            ApiError: the server ended it for a reason, such as a restart of what it remembers of this kind.
        """
        asked = f"{path}?watch=true"
        with self._answer("GET", asked, None, "application/json", WATCH_SECONDS) as answer:
            for line in answer:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError(event["object"]["code"], event["object"]["message"])
                yield event

    def _kinds(self, version: str) -> dict[str, str]:
        """Return the resource's name of each kind of a version (`apps/v1`)."""
        group = "apis" if "/" in version else "api"
        return {
            one["kind"]: one["name"]
            for one in self.ask("GET", f"/{group}/{version}")["resources"]
            if "/" not in one["name"]
        }

    def path(self, version: str, kind: str, namespace: str, name: str = "") -> str:
        """Return the path of an object, or without a name of all of its kind."""
        group = "apis" if "/" in version else "api"
        inside = f"/namespaces/{namespace}" if namespace else ""
        return f"/{group}/{version}{inside}/{self.kinds(version)[kind]}/{name}".rstrip("/")

    def get(self, version: str, kind: str, namespace: str, name: str) -> Object:
        """Return an object."""
        return self.ask("GET", self.path(version, kind, namespace, name))

    def all(self, version: str, kind: str, namespace: str) -> list[Object]:
        """Return all objects of a kind in a namespace."""
        return list(self.ask("GET", self.path(version, kind, namespace))["items"])


class Kubelet:
    """Watches pods, and does with each what scheduler and node would do, short of running it."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)
        self._ending = False

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Expect the server to go, which ends the watch."""
        self._ending = True

    def join(self) -> None:
        """Wait until it has ended, if it ever began."""
        if self._thread.is_alive():
            self._thread.join(REQUEST_SECONDS)

    def _run(self) -> None:
        while not self._ending:
            try:
                for event in self._api.watch("/api/v1/pods"):
                    if event["type"] in ("ADDED", "MODIFIED"):
                        self._see(event["object"])
            except (OSError, http.client.HTTPException):
                continue
            except ApiError as error:
                if error.status not in BEGIN_AGAIN:
                    raise

    def _see(self, pod: Object) -> None:
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
        try:
            if "deletionTimestamp" in pod["metadata"]:
                only = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
                self._api.ask("DELETE", path, only)
            elif "nodeName" not in pod["spec"]:
                target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
                bound = {"apiVersion": "v1", "kind": "Binding", "metadata": {}, "target": target}
                bound["metadata"] = {"name": pod["metadata"]["name"]}
                self._api.ask("POST", f"{path}/binding", bound)
            elif pod["status"]["phase"] == "Pending" and not _broken(pod):
                self._api.ask(
                    "PATCH",
                    f"{path}/status",
                    {"status": _status(pod)},
                    kind="application/merge-patch+json",
                )
        except ApiError as error:
            # What is gone or has changed is told of by the next event.
            if error.status not in (404, 409):
                raise


def _broken(pod: Object) -> bool:
    return any(one["image"].endswith(":broken") for one in pod["spec"]["containers"])


def _status(pod: Object) -> Object:
    """Return what a node says of a pod that runs and is ready, or of one that was to end, and did well."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    ends = pod["spec"].get("restartPolicy") == "Never"
    state = (
        {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}}
        if ends
        else {"running": {"startedAt": now}}
    )
    return {
        "phase": "Succeeded" if ends else "Running",
        "startTime": now,
        "podIP": "10.1.0.1",
        "podIPs": [{"ip": "10.1.0.1"}],
        "conditions": [
            {"type": name, "status": "False" if ends and "Ready" in name else "True", "lastTransitionTime": now}
            for name in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ],
        "containerStatuses": [
            {
                "name": one["name"],
                "image": one["image"],
                "imageID": one["image"],
                "ready": not ends,
                "started": not ends,
                "restartCount": 0,
                "state": state,
            }
            for one in pod["spec"]["containers"]
        ],
    }  # fmt: skip


def wait_for(told: str, look: Callable[[], T], seconds: float = SETTLE_SECONDS) -> T:
    """
    Wait until a look finds something, and return that.

    Raises:
        TimeoutError: it did not in time.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        threading.Event().wait(0.05)
    raise TimeoutError(f"after {seconds} s there is not: {told}")


class Kubernetes:
    """The servers, from `with` to its end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        told = subprocess.run([BUILD], check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours
        self.built = Path(told.stdout.strip())
        self.api = Api(_free_port())

    def __enter__(self) -> Self:
        with self._stack:
            self._start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        kubelet = Kubelet(self.api)
        self._stack.callback(kubelet.join)
        etcd = f"http://{LOOPBACK}:{_free_port()}"
        peer = f"http://{LOOPBACK}:{_free_port()}"
        self._run(
            "etcd",
            self.built / "etcd",
            f"--data-dir={self._folder / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        )
        key = self._folder / "accounts.key"
        _write_key(key)
        tokens = self._folder / "tokens.csv"
        tokens.write_text(f'{TOKEN},tests,tests,"system:masters"\n')
        self._run(
            "kube-apiserver",
            self.built / "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--bind-address={LOOPBACK}",
            f"--advertise-address={LOOPBACK}",
            f"--secure-port={self.api.port}",
            f"--cert-dir={self._folder / 'certificates'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            # Addresses of the server itself, which none of its pods is there to use.
            "--endpoint-reconciler-type=none",
        )
        wait_for("a ready API server", self._ready, START_SECONDS)
        kubeconfig = self._folder / "kubeconfig"
        kubeconfig.write_text(self.api.kubeconfig)
        self._run(
            "kube-controller-manager",
            self.built / "kube-controller-manager",
            f"--kubeconfig={kubeconfig}",
            f"--controllers={','.join(CONTROLLERS)}",
            "--leader-elect=false",
            "--secure-port=0",
            f"--service-account-private-key-file={key}",
            "--horizontal-pod-autoscaler-sync-period=1s",
        )
        self._stack.callback(kubelet.end)
        kubelet.start()
        self._furnish()

    def _run(self, name: str, *command: str | Path) -> None:
        log = self._stack.enter_context((self._folder / f"{name}.log").open("wb"))
        process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)  # noqa: S603
        self._processes[name] = process
        self._stack.callback(_end, process)

    def _ready(self) -> bool:
        for name, process in self._processes.items():
            if process.poll() is not None:
                log = (self._folder / f"{name}.log").read_text()
                raise ChildProcessError(f"{name} ended at once:\n{log[-2000:]}")
        with contextlib.suppress(OSError, http.client.HTTPException, ApiError):
            return self.api.ask("GET", "/readyz")["text"] == "ok"
        return False

    def _furnish(self) -> None:
        """Make what the examples expect a cluster to have."""
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
        priority = {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": "monitoring"},
            "value": 1000,
        }
        self.api.ask("POST", "/api/v1/nodes", node)
        self.api.ask("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", priority)
        definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        names = []
        for path in sorted((self.built / "crds").glob("*.yaml")):
            (made,) = (one for one in yaml.load_all(path.read_text(), yaml.CSafeLoader) if one)
            names.append(self.api.ask("POST", definitions, made)["metadata"]["name"])
        for name in names:
            wait_for(name, functools.partial(self._established, f"{definitions}/{name}"))

    def _established(self, path: str) -> bool:
        conditions = self.api.ask("GET", path).get("status", {}).get("conditions") or ()
        return any(
            condition["type"] == "Established" and condition["status"] == "True"
            for condition in conditions
        )

    def namespace(self, name: str) -> str:
        """Create a namespace that enforces the restricted standard, with its account; return its name."""
        labels = {
            f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")
        }
        made = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels},
        }
        self.api.ask("POST", "/api/v1/namespaces", made)
        wait_for("the default account", lambda: self.api.all("v1", "ServiceAccount", name))
        return name

    def helm(self, namespace: str) -> helm.Config:
        """Return a Helm that works in a namespace."""
        return helm.Config(
            kubeconfig_content=self.api.kubeconfig, namespace=namespace, qps=1000, burst_limit=1000
        )


def _write_key(path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )


def _free_port() -> int:
    with socket.socket() as held:
        held.bind((LOOPBACK, 0))
        return int(held.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    # An orderly end would wait for every watch, and nothing is worth saving.
    process.kill()
    process.wait()
