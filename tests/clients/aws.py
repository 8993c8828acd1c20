"""What boto3 says about AWS keys: who they are, and what each named action ends with. Prints one object of JSON.

Reads the endpoint, the keys as the broker gave them, and the actions from the environment. Without `KEYS` boto3 looks
for keys and region as it always does: in the environment, in a profile. `SETUP` is a script of calls for the owner of
the emulator's account instead: it makes what the test needs."""

import json
import os
import sys

import boto3
from botocore.exceptions import ClientError

ACTIONS = {
    "identity": lambda client: client("sts").get_caller_identity()["Arn"],
    "list_buckets": lambda client: len(client("s3").list_buckets()["Buckets"]),
    "create_bucket": lambda client: client("s3").create_bucket(
        Bucket="payments", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    and "created",
    "list_roles": lambda client: len(client("iam").list_roles()["Roles"]),
}


def client_of(keys):
    def client(service):
        return boto3.client(
            service,
            endpoint_url=os.environ["ENDPOINT"],
            region_name="eu-west-1" if keys else None,
            aws_access_key_id=keys.get("access_key_id"),
            aws_secret_access_key=keys.get("secret_access_key"),
            aws_session_token=keys.get("session_token"),
        )

    return client


def main():
    client = client_of(json.loads(os.environ.get("KEYS", "{}")))
    said = {}
    for call in json.loads(os.environ.get("SETUP", "[]")):
        service, operation, arguments = call
        said[operation] = getattr(client(service), operation)(**arguments)
    for action in os.environ.get("ACTIONS", "").split():
        try:
            said[action] = ACTIONS[action](client)
        except ClientError as error:
            said[action] = error.response["Error"]["Code"]
    json.dump(said, sys.stdout, default=str)


main()
