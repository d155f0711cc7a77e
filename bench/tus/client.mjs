// Uploads a file in chunks, one after the other: `client.mjs tus|append URL FILE CHUNK_BYTES TOTAL_BYTES`.
// Prints the seconds that it took.
import { open } from "node:fs/promises"
import { Agent, request } from "node:http"
import { Upload } from "tus-js-client"

const [kind, url, path, chunk, total] = process.argv.slice(2)
const chunkSize = Number(chunk)
const file = await open(path)
const bytes = Buffer.alloc(Number(total))
await file.read(bytes, 0, bytes.length, 0)
await file.close()

const agent = new Agent({ keepAlive: true, maxSockets: 1 })

function post(path, body) {
  return new Promise((done, fail) => {
    const call = request(url + path, { method: "POST", agent, headers: { "Content-Length": body.length } }, answer => {
      const pieces = []
      answer.on("data", piece => pieces.push(piece))
      answer.on("end", () => {
        const text = Buffer.concat(pieces).toString()
        answer.statusCode < 300 ? done(JSON.parse(text)) : fail(new Error(`${answer.statusCode} ${text}`))
      })
    })
    call.on("error", fail)
    call.end(body)
  })
}

async function append() {
  const { video_id } = await post("/create_video/", Buffer.alloc(0))
  for (let start = 0; start < bytes.length; start += chunkSize) {
    await post(`/append_video/${video_id}/`, bytes.subarray(start, start + chunkSize))
  }
}

function tus() {
  return new Promise((done, fail) => {
    const upload = new Upload(bytes, {
      endpoint: url,
      chunkSize,
      retryDelays: null,
      onError: fail,
      onSuccess: done,
    })
    upload.start()
  })
}

const started = performance.now()
await (kind === "tus" ? tus() : append())
console.log((performance.now() - started) / 1000)
agent.destroy()
