"""Version ids of replicas. S3 gives a replica the version id of its source; the emulator makes a new one."""

from msgspec.structs import replace

from crrmon.domain.objects import ObjectVersion


class DaemonReplicas:
    """Knows each replica by both its version ids."""

    def __init__(self) -> None:
        self._stored: dict[ObjectVersion, str] = {}
        self._known: dict[ObjectVersion, str] = {}

    def add(self, replica: ObjectVersion, *, stored: str) -> None:
        """Note a replica.

        Args:
            replica: as S3 would know it: with the version id of its source.
            stored: the version id that the emulator gave it.
        """
        self._stored[replica] = stored
        self._known[replace(replica, version_id=stored)] = replica.version_id

    def __contains__(self, version: object) -> bool:
        return version in self._stored

    def stored(self, version: ObjectVersion) -> str:
        """Return the emulator's id of a version that is named as S3 would."""
        return self._stored.get(version, version.version_id)

    def known(self, version: ObjectVersion) -> str:
        """Return S3's id of a version that is named as the emulator does."""
        return self._known.get(version, version.version_id)
