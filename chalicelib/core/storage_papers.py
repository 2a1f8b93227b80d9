"""What a user hands to a storage's provider: the permissions that credentials need, and CORS rules (seed 000 §5 to 7)."""

from typing import Any

from chalicelib.providers.catalogue import Connection
from chalicelib.settings import settings

CORS_LIFETIME = 300
_PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
_OPTIONAL = ("s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")


def permissions(connection: Connection) -> list[str]:
    """What the credentials must be allowed, in words."""
    if connection.kind == "aws_s3":
        return ["s3:ListBucket on the bucket", "s3:GetObject on its objects", "s3:PutObject on its objects"]
    return ["Bucket LIST", "Object GET", "Object PUT"]


def optional_permissions(connection: Connection) -> list[str]:
    """What is only used to delete, and to free what uploads that were cut off have stored."""
    if connection.kind == "aws_s3":
        return [*(f"{action} on its objects" for action in _OPTIONAL), "s3:ListBucketMultipartUploads on the bucket"]
    return ["Object DELETE"]


def policy(connection: Connection, optional: bool) -> dict[str, Any] | None:
    """The seed's minimal IAM policy, or one with the `optional` rights too: AWS alone has such documents."""
    if connection.kind != "aws_s3":
        return None
    partition = next((name for start, name in _PARTITIONS.items() if connection.region.startswith(start)), "aws")
    bucket = f"arn:{partition}:s3:::{connection.bucket}"
    listing: str | list[str] = ["s3:ListBucket", "s3:ListBucketMultipartUploads"] if optional else "s3:ListBucket"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": listing, "Resource": bucket},
            {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject", *(_OPTIONAL if optional else ())], "Resource": f"{bucket}/*"},
        ],
    }


def cors(connection: Connection) -> list[dict[str, Any]]:
    """The rules that let browsers of the installation's origins transfer directly."""
    methods = ["PUT", "POST", "GET", "HEAD"] if connection.kind == "cloudflare_r2" else ["PUT", "GET", "HEAD"]
    return [
        {
            "AllowedOrigins": [origin.strip() for origin in settings().cors_origins.split(",")],
            "AllowedMethods": methods,
            "AllowedHeaders": ["*"],
            "ExposeHeaders": [],
            "MaxAgeSeconds": CORS_LIFETIME,
        }
    ]
