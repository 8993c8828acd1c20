"""boto3 through a renewal: one call, a wait until the session gets other keys, and another call. Prints one object of JSON.

Finds its keys as boto3 always does. `ENDPOINT` is AWS; the file `boto3-began` says that the first call is over."""

import json
import os
import pathlib
import sys
import time

import boto3

session = boto3.Session()
client = session.client("s3", endpoint_url=os.environ["ENDPOINT"])


def key():
    return session.get_credentials().get_frozen_credentials().access_key


client.list_buckets()
first = key()
pathlib.Path("boto3-began").touch()
while key() == first:
    time.sleep(0.2)
json.dump({"Buckets": client.list_buckets()["Buckets"], "keys": [first, key()]}, sys.stdout, default=str)
