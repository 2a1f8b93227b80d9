"""The peer of the cold start: the least Chalice app that reads a row and an object with two boto3 clients."""

import os

import boto3
from chalice.app import Chalice, Response

app = Chalice("bare")
app.api.binary_types = ["*/*"]
dynamodb = boto3.client("dynamodb")
s3 = boto3.client("s3")


@app.route("/{partition}/{name}")
def download(partition: str, name: str) -> Response:
    key = {"partition": {"S": partition}, "name": {"S": name}}
    row = dynamodb.get_item(TableName="stowage-objects", Key=key, ConsistentRead=True)["Item"]
    body = s3.get_object(Bucket=os.environ["STOWAGE_S3_BUCKET"], Key=row["physical_key"]["S"])["Body"].read()
    return Response(body, {"Content-Type": row["content_type"]["S"]})
