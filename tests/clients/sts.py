"""boto3 with nothing but the look-alike's three variables: what the session may do, and who it is at the look-alike.
Prints a line of JSON, waits for a line, and asks once more who it is."""

import json
import sys

import boto3
from botocore.exceptions import ClientError

session = boto3.Session()
s3, sts = session.client("s3"), session.client("sts")


def denied(call, **arguments):
    try:
        call(**arguments)
        return "done"
    except ClientError as error:
        return error.response["Error"]["Code"]


identity = sts.get_caller_identity()
said = {
    "buckets": len(s3.list_buckets()["Buckets"]),
    "create": denied(s3.create_bucket, Bucket="x", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}),
    "identity": {name: identity[name] for name in ("Arn", "UserId", "Account")},
    "assume": denied(sts.assume_role, RoleArn="arn:aws:iam::111122223333:role/x", RoleSessionName="xy"),
}
print(json.dumps(said), flush=True)
sys.stdin.readline()
print(json.dumps({"ended": denied(sts.get_caller_identity)}), flush=True)
