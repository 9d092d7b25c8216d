"""The rules of Kubernetes' Pod Security Standard "restricted", as far as a pod's template shows them.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from collections.abc import Iterator
from typing import Any

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
}
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
PROFILES = {"RuntimeDefault", "Localhost"}


def violations(pod: dict[str, Any]) -> list[str]:
    """Return what the profile forbids in the spec of a pod."""
    return [
        *_of_pod(pod),
        *(told for container in _containers(pod) for told in _of_container(container, pod)),
    ]


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    kinds = ("initContainers", "containers", "ephemeralContainers")
    return [one for kind in kinds for one in pod.get(kind) or ()]


def _of_pod(pod: dict[str, Any]) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield f"{name} is true"
    for volume in pod.get("volumes") or ():
        for kind in volume.keys() - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is a {kind}"
    context = pod.get("securityContext") or {}
    for sysctl in context.get("sysctls") or ():
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']} is set"
    yield from _of_context("pod", context)


def _of_context(name: str, context: dict[str, Any]) -> Iterator[str]:
    """Judge what pods and containers have alike."""
    if context.get("runAsUser") == 0:
        yield f"{name} runs as root"
    if context.get("runAsNonRoot") is False:
        yield f"{name} may run as root"
    for profile in ("seccompProfile", "appArmorProfile"):
        kind = (context.get(profile) or {}).get("type", "RuntimeDefault")
        if kind not in PROFILES:
            yield f"{name}'s {profile} is {kind}"
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type", "") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{name} sets SELinux options"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield f"{name} is a host process"


def _of_container(container: dict[str, Any], pod: dict[str, Any]) -> Iterator[str]:
    name = f"container {container['name']}"
    own, around = container.get("securityContext") or {}, pod.get("securityContext") or {}
    yield from _of_context(name, own)
    for wanted in ("runAsNonRoot", "seccompProfile"):
        if not own.get(wanted, around.get(wanted)):
            yield f"{name} has no {wanted}"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name} may escalate its privileges"
    if own.get("privileged"):
        yield f"{name} is privileged"
    if own.get("procMount", "Default") != "Default":
        yield f"{name} unmasks /proc"
    capabilities = own.get("capabilities") or {}
    if "ALL" not in capabilities.get("drop", ()):
        yield f"{name} keeps capabilities"
    if set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}:
        yield f"{name} adds capabilities"
    if any(port.get("hostPort") for port in container.get("ports") or ()):
        yield f"{name} takes a port of the host"
    if any(_host(container)):
        yield f"{name}'s probes name a host"


def _host(container: dict[str, Any]) -> Iterator[str]:
    lifecycle = container.get("lifecycle") or {}
    probes = [container.get(name) for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    for handler in (*probes, lifecycle.get("preStop"), lifecycle.get("postStart")):
        for kind in ("httpGet", "tcpSocket"):
            yield ((handler or {}).get(kind) or {}).get("host", "")
