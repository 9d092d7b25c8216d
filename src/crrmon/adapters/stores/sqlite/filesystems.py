"""On what kind of filesystem a path lies, and whether a file there can be trusted with a ledger.

A ledger's file must be locked against every other daemon, and what was synced must survive. Filesystems that serve
several machines promise neither in all their variants, and how they break is silent: two writers, or a lost tail.

Unsure cases, and why they fall where they do:

- ``overlay``: accepted. Locks and syncs go to its upper layer, a local filesystem. (As a container's own layer it
  disappears with the container; that is the operator's choice, and right for a trial.)
- ``tmpfs``: accepted. It is local and says what it is.
- ``virtiofs``: accepted. It hands a directory of the virtual machine's own host through; a sync is a sync of the host's
  filesystem, and sandboxed pods (Kata Containers) have no other volumes.
- ``9p``: refused. Its servers differ: those of WSL and of several hypervisors neither pass locks on nor syncs.
- ``fuse.*``: refused as a whole (sshfs, s3fs, rclone, glusterfs, JuiceFS, Docker Desktop's grpcfuse), but not
  ``fuseblk``, which is a local disk, nor ``fuse.fuse-overlayfs``, the overlay of rootless containers.
- Cluster filesystems on shared disks (``gfs2``, ``ocfs2``): accepted. Their locks hold on all machines.
"""

import re
from typing import Final

_REMOTE: Final = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "coda", "drvfs", "fuse", "glusterfs", "gpfs", "lustre",
        "mountpoint-s3", "ncpfs", "nfs", "nfs3", "nfs4", "orangefs", "panfs", "prl_fs", "pvfs2", "smb2", "smb3",
        "smbfs", "vboxsf", "vmhgfs", "wekafs",
    }
)  # fmt: skip
_LOCAL_FUSE: Final = frozenset({"fuse.fuse-overlayfs"})
_ESCAPED = re.compile(r"\\([0-7]{3})")


def filesystem_of(path: str, mountinfo: str) -> str | None:
    """Look up the kind of filesystem that holds a path.

    Args:
        path: absolute, without symbolic links.
        mountinfo: the text of ``/proc/self/mountinfo`` (proc(5)).

    Returns:
        As the kernel calls it; None where the text does not tell.
    """
    found, best = None, -1
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        fields = before.split(" ")
        if not dash or len(fields) < 5:  # noqa: PLR2004 - the mount point is the fifth
            continue
        point = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[4])
        # NB: of two mounts on the same point, the later one lies on top.
        if _holds(point, path) and len(point) >= best:
            found, best = after.split(" ")[0], len(point)
    return found


def is_remote(kind: str) -> bool:
    """Return whether a filesystem of this kind cannot be trusted with a ledger."""
    return kind in _REMOTE or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE)


def _holds(point: str, path: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")
