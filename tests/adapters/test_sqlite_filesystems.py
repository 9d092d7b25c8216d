"""Where a ledger's file may lie."""

import pytest

from crrmon.adapters.stores.sqlite.filesystems import filesystem_of, is_remote

MOUNTS = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /proc rw - proc proc rw
24 22 0:45 / /mnt/efs rw,relatime shared:7 master:2 - nfs4 127.0.0.1:/ rw,vers=4.1
25 24 259:1 / /mnt/efs/local rw - xfs /dev/nvme1n1 rw
26 22 0:46 / /mnt/with\040space rw - cifs //host/share rw
27 22 0:47 / /data rw - nfs host:/data rw
28 27 259:2 / /data rw - ext4 /dev/nvme2n1 rw
29 22 0:48 /sub /var/lib rw - fuse.sshfs host: rw
a line of another kind
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/home/me", "ext4"),
        ("/mnt/efs", "nfs4"),
        ("/mnt/efs/deep/er", "nfs4"),
        ("/mnt/efsother", "ext4"),
        ("/mnt/efs/local/x", "xfs"),
        ("/mnt/with space/x", "cifs"),
        ("/data/x", "ext4"),
        ("/var/lib/crrmon", "fuse.sshfs"),
    ],
)
def test_a_path_lies_on_the_last_of_its_longest_mounts(path: str, kind: str) -> None:
    """The longest mount point wins, by whole names; of two on the same point, the later one covers the other."""
    assert filesystem_of(path, MOUNTS) == kind


def test_mounts_that_do_not_tell_tell_nothing() -> None:
    """No mount point, no kind."""
    assert filesystem_of("/data", "") is None


@pytest.mark.parametrize(
    ("kind", "remote"),
    [
        ("ext4", False),
        ("xfs", False),
        ("btrfs", False),
        ("zfs", False),
        ("tmpfs", False),
        ("overlay", False),
        ("virtiofs", False),
        ("fuseblk", False),
        ("fuse.fuse-overlayfs", False),
        ("gfs2", False),
        ("nfs", True),
        ("nfs4", True),
        ("cifs", True),
        ("smb3", True),
        ("ceph", True),
        ("lustre", True),
        ("glusterfs", True),
        ("9p", True),
        ("fuse", True),
        ("fuse.sshfs", True),
        ("fuse.s3fs", True),
        ("fuse.glusterfs", True),
        ("fuse.grpcfuse", True),
    ],
)
def test_only_filesystems_of_one_machine_are_trusted(kind: str, *, remote: bool) -> None:
    """Invariant 1: locks and syncs must mean what they say."""
    assert is_remote(kind) is remote
