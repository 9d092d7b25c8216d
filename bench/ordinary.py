"""The ordinary pipeline: what a good engineer writes in an afternoon with aiobotocore to know what was replicated.

Receive ten, HEAD each, delete those whose replication is over; what is not over comes back by itself. It remembers
nothing: what is told twice counts twice, nothing is known of latencies, and what never ends is never seen. crrmon is
measured against it, because it is what one would run instead.

    python bench/ordinary.py --queue https://sqs.eu-west-1.amazonaws.com/210987654321/crrmon-bench

Region, credentials, another endpoint (AWS_ENDPOINT_URL) and other certificates (AWS_CA_BUNDLE) come from the
environment, as the SDK reads it.
"""

import argparse
import asyncio
import json
import logging
from typing import Any

import uvloop
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

OVER = ("COMPLETED", "FAILED")
log = logging.getLogger("ordinary")


async def is_over(s3: Any, message: dict[str, Any]) -> bool:
    """Look at the object that a message tells of, and return whether its replication is over."""
    try:
        detail = json.loads(message["Body"])["detail"]
        seen = await s3.head_object(
            Bucket=detail["requestParameters"]["bucketName"],
            Key=detail["requestParameters"]["key"],
            VersionId=detail["responseElements"]["x-amz-version-id"],
        )
    except Exception:
        log.exception("not looked at")
        return False
    return seen.get("ReplicationStatus") in OVER


async def receive(sqs: Any, s3: Any, queue: str) -> None:
    """Take batches out of the queue for ever, and see each through before the next."""
    while True:
        got = await sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=20, VisibilityTimeout=120
        )
        messages = got.get("Messages", [])
        over = await asyncio.gather(*(is_over(s3, message) for message in messages))
        done = [
            {"Id": message["MessageId"], "ReceiptHandle": message["ReceiptHandle"]}
            for message, settled in zip(messages, over, strict=True)
            if settled
        ]
        if done:
            await sqs.delete_message_batch(QueueUrl=queue, Entries=done)


async def run(queue: str, receivers: int) -> None:
    """Run the pipeline until the process is ended."""
    session, config = get_session(), AioConfig(max_pool_connections=128)
    async with (
        session.create_client("sqs", config=config) as sqs,
        session.create_client("s3", config=config) as s3,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(receivers):
            tasks.create_task(receive(sqs, s3, queue))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--queue", required=True, help="URL of the queue")
    parser.add_argument("--receivers", type=int, default=8, help="batches at a time")
    asked = parser.parse_args()
    uvloop.run(run(asked.queue, asked.receivers))


if __name__ == "__main__":
    main()
