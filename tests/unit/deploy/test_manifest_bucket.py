"""The bucket, as the README of the manifests has it set up: its rules, and the policy of the keys to it."""

import json
import re
from pathlib import Path

import botocore.session
from botocore.validate import ParamValidator

from services.common import s3_objects
from tests.support.manifests import KUBERNETES, Workload, named, processes


def test_the_bucket_s_cors_rules_are_valid_and_for_the_overlay_s_bucket_and_origins() -> None:
    command = r"put-bucket-cors --bucket (\S+) --cors-configuration '(.*?)'"
    ((bucket, rules),) = re.findall(command, (KUBERNETES / "README.md").read_text(), re.DOTALL)
    asked = {"Bucket": bucket, "CORSConfiguration": json.loads(rules)}
    shape = botocore.session.get_session().get_service_model("s3").operation_model("PutBucketCors").input_shape
    assert ParamValidator().validate(asked, shape).generate_report() == ""
    variables = {workload.name: workload.environment for workload in processes("production")}
    assert bucket == variables["upload"]["S3_BUCKET"]
    (posts,) = (rule for rule in asked["CORSConfiguration"]["CORSRules"] if rule["AllowedMethods"] == ["POST"])
    assert posts["AllowedOrigins"] == variables["gateway"]["CORS_ORIGINS"].split(",")


# What AWS wants for each operation, of the bucket and of its objects (Service Authorization Reference, Amazon S3).
OF_THE_BUCKET = {
    "head_bucket": "s3:ListBucket",
    "list_objects_v2": "s3:ListBucket",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
    "get_bucket_lifecycle_configuration": "s3:GetLifecycleConfiguration",
    "put_bucket_lifecycle_configuration": "s3:PutLifecycleConfiguration",
}
OF_OBJECTS = {
    **dict.fromkeys(("get_object", "head_object", "copy_object", "upload_part_copy"), "s3:GetObject"),
    **dict.fromkeys(("put_object", "create_multipart_upload", "complete_multipart_upload"), "s3:PutObject"),
    "generate_presigned_post": "s3:PutObject",
    "delete_object": "s3:DeleteObject",
    "list_parts": "s3:ListMultipartUploadParts",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
}


def test_the_policy_of_the_keys_allows_what_is_asked_of_s3_and_nothing_else() -> None:
    readme = (KUBERNETES / "README.md").read_text()
    (policy,) = re.findall(r"```json\n( *\{\"Version\": \"2012-10-17\".*?)```", readme, re.DOTALL)
    ours = Path(s3_objects.__file__).read_text()
    called = set(re.findall(r"self\._(?:client|public|checking)\.(\w+)\(", ours))
    listed = set(re.findall(r"get_paginator\(\"(\w+)\"\)", ours))
    operations = (called | listed) - {"get_paginator", "generate_presigned_url"}
    assert operations == set(OF_THE_BUCKET) | set(OF_OBJECTS)
    bucket = Workload("production", named("production", "Deployment", "upload")).environment["S3_BUCKET"]
    allowed = {one["Resource"]: set(one["Action"]) for one in json.loads(policy)["Statement"]}
    assert allowed == {
        f"arn:aws:s3:::{bucket}": set(OF_THE_BUCKET.values()),
        f"arn:aws:s3:::{bucket}/*": set(OF_OBJECTS.values()),
    }


def test_the_bucket_s_lifecycle_rules_are_valid_and_end_old_versions() -> None:
    command = r"put-bucket-lifecycle-configuration --bucket (\S+) --lifecycle-configuration '(.*?)'"
    ((bucket, rules),) = re.findall(command, (KUBERNETES / "README.md").read_text(), re.DOTALL)
    asked = {"Bucket": bucket, "LifecycleConfiguration": json.loads(rules)}
    operation = botocore.session.get_session().get_service_model("s3").operation_model
    shape = operation("PutBucketLifecycleConfiguration").input_shape
    assert ParamValidator().validate(asked, shape).generate_report() == ""
    assert bucket == Workload("production", named("production", "Deployment", "upload")).environment["S3_BUCKET"]
    kept = asked["LifecycleConfiguration"]["Rules"]
    assert any("NoncurrentVersionExpiration" in rule for rule in kept)
    assert any("AbortIncompleteMultipartUpload" in rule for rule in kept)
