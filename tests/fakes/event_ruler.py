"""Amazon's own engine of EventBridge's patterns, in a JVM that starts once for many questions.

Needs a JDK from 17 on, and Maven where its four libraries were not fetched before.
"""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fakes.patience import HANGS_SECONDS

RULER = "software.amazon.event.ruler:event-ruler:1.8.1"
LIBRARIES = (
    RULER,
    "com.fasterxml.jackson.core:jackson-databind:2.18.0",
    "com.fasterxml.jackson.core:jackson-core:2.18.0",
    "com.fasterxml.jackson.core:jackson-annotations:2.18.0",
)
GET = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:get"
REPOSITORY = Path.home() / ".m2/repository"
PROGRAM = Path(__file__).with_name("EventRuler.java")

Json = Mapping[str, Any]


def matches(questions: Sequence[tuple[Json, Json]]) -> list[bool]:
    """Tell of each event and pattern whether EventBridge would let the event through."""
    lines = "\n".join(f"{_one_line(event)}\t{_one_line(rule)}" for event, rule in questions)
    asked = subprocess.run(  # noqa: S603 - our own program
        ["java", "-cp", ":".join(map(str, _jars())), str(PROGRAM)],  # noqa: S607 - the system's
        input=lines,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS_SECONDS,
    )
    assert asked.returncode == 0, asked.stderr
    return [line == "true" for line in asked.stdout.split()]


def _one_line(value: Json) -> str:
    return msgspec.json.encode(value).decode()


def _jars() -> list[Path]:
    jars = [_jar(library) for library in LIBRARIES]
    if not all(jar.exists() for jar in jars):
        subprocess.run(  # noqa: S603 - Maven, with names of our own
            ["mvn", "--quiet", "--batch-mode", GET, f"-Dartifact={RULER}"],  # noqa: S607
            check=True,
            timeout=HANGS_SECONDS,
        )
    return jars


def _jar(library: str) -> Path:
    group, name, version = library.split(":")
    return REPOSITORY / group.replace(".", "/") / name / version / f"{name}-{version}.jar"
