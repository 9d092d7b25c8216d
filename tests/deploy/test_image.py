"""The image, built with a stand-in for its base and run with a read-only root."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import yaml

from crrmon import __version__
from crrmon.sandbox.children import free_port
from fakes.image import Image, Storage, build
from fakes.ministack import shared_ministack
from fakes.patience import HANGS_SECONDS

pytestmark = pytest.mark.image

REGION = "eu-west-1"


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    # Root file systems are large, and no business of the folder that pytest keeps.
    storage = Storage(Path(tempfile.mkdtemp(prefix="crrmon-image-")))
    try:
        yield build(storage)
    finally:
        storage.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def test_the_version_is_the_projects(image: Image, data: Path) -> None:
    """The label and the program agree."""
    assert image.call("crrmon", "--version", data=data) == (0, f"{__version__}\n")
    assert image.settings["Labels"]["org.opencontainers.image.version"] == __version__


def test_the_settings_are_those_of_a_container(image: Image, data: Path) -> None:
    """It listens where others reach it, and its ledger lies on the volume."""
    code, told = image.call(
        "crrmon",
        "config",
        "show",
        data=data,
        CRRMON_QUEUES='[{"url": "https://sqs.eu-west-1.amazonaws.com/210987654321/q"}]',
    )
    settings = yaml.safe_load(told)

    assert code == 0, told
    assert settings["http"] == {"host": "::", "port": 9464}, "both families"
    assert image.settings["WorkingDir"] == "/data"
    assert settings["ledger"]["path"] == "crrmon.db"


def test_the_user_is_a_number_and_owns_nothing_but_its_data(image: Image, data: Path) -> None:
    """Kubernetes can tell that it is not root; what runs cannot change what runs."""
    code, told = image.call("id", "-u", data=data)
    mine = [one for one in (image.root / "opt").rglob("*") if one.lstat().st_uid == 10001]

    assert (code, told) == (0, "10001\n")
    assert image.settings["User"] == "10001:10001"
    assert (image.root / "data").stat().st_uid == 10001
    assert mine == []


def test_the_root_is_read_only_and_data_is_not(image: Image, data: Path) -> None:
    """What the other tests here rest upon."""
    code, told = image.call("sh", "-c", "echo > /data/a && ls /data && echo > /tmp/a", data=data)

    assert code != 0
    assert told.startswith("a\n")
    assert "Read-only file system" in told


def test_nothing_is_left_of_the_building(image: Image) -> None:
    """No compiler, no installer and no cache in what the image adds; bytecode is there, for it cannot be written later."""
    environment = image.root / "opt/crrmon"
    names = {one.name for one in environment.rglob("*")}
    compiled = {
        one.name.partition(".")[0]
        for one in environment.rglob("crrmon/services/*/__pycache__/*.pyc")
    }
    library = next(
        (image.root / "usr").glob("l*/**/python3.*/http/__pycache__/client.*.pyc"), None
    )
    caches = [image.root / path for path in ("root/.cache", "data/.cache", "uv", "build")]

    assert not names & {"pip", "uv", "gcc", "ministack"}
    assert {"consumer", "poller", "publisher"} <= compiled
    assert library is not None
    assert not [one for one in caches if one.exists()]
    assert not [one for one in (image.root / "usr/bin").iterdir() if one.name.startswith("gcc")]


def test_it_is_not_large(image: Image) -> None:
    """The base comes on top. A package that is not needed shows here."""
    assert 50e6 < image.added_bytes < 130e6


def test_the_daemon_runs_in_it(image: Image, data: Path, tmp_path: Path) -> None:
    """It starts, answers /livez and the health check, writes its ledger into /data, and ends with 0 on SIGTERM."""
    url = shared_ministack()
    sqs = boto3.client(
        "sqs",
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",  # noqa: S106 - opens nothing
    )
    queue = sqs.create_queue(QueueName="image")["QueueUrl"]
    sqs.close()
    (data / "crrmon.yaml").write_text(
        yaml.safe_dump(
            {
                "queues": [{"url": queue, "region": REGION}],
                "aws": {"region": REGION, "endpoint_url": url},
                "log": {"format": "json"},
            }
        )
    )
    environment = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_EC2_METADATA_DISABLED": "true",
        "CRRMON_CONFIG": "/data/crrmon.yaml",
        "CRRMON_HTTP__PORT": str(free_port()),
        "CRRMON_HTTP__HOST": "127.0.0.1",
    }
    check = image.settings["Healthcheck"]["Test"]
    assert check[0] == "CMD"

    with image.started(data=data, environment=environment, output=tmp_path / "run.out") as one:
        one.until_said(r'"event": ?"started"')
        other = tmp_path / "other"
        (other / "data").mkdir(parents=True)
        code, told = image.call(*check[1:], data=other / "data", **environment)
        assert (code, told) == (0, "")
        one.stop()
        assert one.process.wait(timeout=HANGS_SECONDS) == 0, one.said

    assert (data / "crrmon.db").stat().st_uid == 10001
    code, told = image.call(*check[1:], data=other / "data", **environment)
    assert (code, "nothing answers" in told) == (1, True)
