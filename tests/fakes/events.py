"""CloudTrail events as they lie in the queue, with invented values."""

import datetime as dt
from typing import Any

import msgspec


def written(
    key: str,
    *,
    at: float,
    bucket: str = "src",
    version: str | None = "v1",
    name: str = "PutObject",
    size: int = 100,
    **detail: Any,
) -> str:
    """
    Make the EventBridge event of a write.
    """
    time = dt.datetime.fromtimestamp(int(at), dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    response = None if version is None else {"x-amz-version-id": version}
    return msgspec.json.encode(
        {
            "version": "0",
            "id": "0f6c2a51-8d33-4b0e-9a55-31b1d6f7a001",
            "detail-type": "AWS API Call via CloudTrail",
            "source": "aws.s3",
            "account": "210987654321",
            "time": time,
            "region": "eu-west-1",
            "resources": [],
            "detail": {
                "eventVersion": "1.11",
                "eventTime": time,
                "eventSource": "s3.amazonaws.com",
                "eventName": name,
                "awsRegion": "eu-west-1",
                "userIdentity": {"principalId": "AROAEXAMPLE:writer"},
                "requestParameters": {"bucketName": bucket, "key": key},
                "responseElements": response,
                "additionalEventData": {"bytesTransferredIn": size},
                "resources": [
                    {"type": "AWS::S3::Object", "ARN": f"arn:aws:s3:::{bucket}/{key}"},
                    {
                        "accountId": "210987654321",
                        "type": "AWS::S3::Bucket",
                        "ARN": f"arn:aws:s3:::{bucket}",
                    },
                ],
                "eventType": "AwsApiCall",
                "recipientAccountId": "210987654321",
            }
            | detail,
        }
    ).decode()
