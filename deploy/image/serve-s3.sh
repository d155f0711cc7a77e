#!/bin/sh
# An S3 server with one bucket on a folder: serve-s3 FOLDER HOST:PORT BUCKET. Keys come from AWS_…_FILE.
set -eu
folder=$1 listen=$2 bucket=$3
MINIO_ROOT_USER=$(cat "$AWS_ACCESS_KEY_ID_FILE")
MINIO_ROOT_PASSWORD=$(cat "$AWS_SECRET_ACCESS_KEY_FILE")
export MINIO_ROOT_USER MINIO_ROOT_PASSWORD HOME=/tmp
mkdir -p "$folder/blocks"
cd "$folder"
juicefs format --no-update --trash-days 0 --storage file --bucket "$folder/blocks/" sqlite3://meta.db "$bucket"
exec juicefs --no-agent gateway --storage file --bucket "$folder/blocks/" sqlite3://meta.db "$listen" \
    --keep-etag --object-meta --object-tag --umask 077 --cache-dir memory --cache-size 0 --buffer-size 128 \
    --max-readahead 4 --backup-meta 0 --no-usage-report --no-banner --metrics 127.0.0.1:0
