// tus as its README sets it up: the S3 store in memory's place, nothing tuned. Says its port when it listens.
import { S3Store } from "@tus/s3-store"
import { Server } from "@tus/server"

const { S3_ENDPOINT_URL, S3_BUCKET, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION } = process.env
const datastore = new S3Store({
  partSize: 8 * 1024 * 1024,
  s3ClientConfig: {
    bucket: S3_BUCKET,
    endpoint: S3_ENDPOINT_URL,
    region: AWS_REGION,
    forcePathStyle: true,
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    credentials: { accessKeyId: AWS_ACCESS_KEY_ID, secretAccessKey: AWS_SECRET_ACCESS_KEY },
  },
})
const server = new Server({ path: "/files", datastore })
const listening = server.listen({ host: "127.0.0.1", port: 0 }, () => console.log(listening.address().port))
