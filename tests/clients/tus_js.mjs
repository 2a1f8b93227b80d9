// One upload by tus-js-client in a process of its own, as its argument (JSON) says. A line of JSON for whatever happens:
// {method, status, offset} for each answer, {sent} as bytes leave, {error}, and at its end {done}.
import { createReadStream } from 'node:fs'
import { PassThrough } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { FileUrlStorage, Upload } from 'tus-js-client'

const told = JSON.parse(process.argv[2])
// Which upload was begun for a file is kept in `storage`, where a process that comes later finds it.
const remembered = told.storage ? { urlStorage: new FileUrlStorage(told.storage) } : {}
const MIB = 1024 * 1024

const tell = (event) => process.stdout.write(`${JSON.stringify(event)}\n`)

let interrupted = false
let failures = 0

async function pause() {
  await upload.abort()
  await sleep(100)
  upload.start()
}

async function terminate() {
  await upload.abort(true)
  tell({ terminated: upload.url })
}

function onProgress(sent) {
  tell({ sent })
  if (interrupted || sent < (told.pauseAt ?? told.terminateAt ?? Infinity)) return
  interrupted = true
  if (told.pauseAt) pause()
  else terminate()
}

// What the user of an application does who is told that it failed: press the button again.
async function onError(error) {
  tell({ error: error.message })
  failures += 1
  if (failures > (told.patience ?? 0)) process.exit(1)
  await sleep(1000)
  upload.start()
}

const file = createReadStream(told.file)
const upload = new Upload(told.options?.uploadLengthDeferred ? file.pipe(new PassThrough()) : file, {
  endpoint: told.endpoint,
  chunkSize: 4 * MIB,
  headers: { Authorization: `Bearer ${told.key}` },
  metadata: told.metadata,
  ...remembered,
  ...told.options,
  onProgress,
  onError,
  onAfterResponse: (request, response) =>
    tell({ method: request.getMethod(), status: response.getStatus(), offset: request.getHeader('Upload-Offset') ?? null }),
  onSuccess: () => tell({ done: upload.url }),
})

if (told.resume) {
  const [previous] = await upload.findPreviousUploads()
  if (!previous) throw new Error('no upload of this file is remembered')
  upload.resumeFromPreviousUpload(previous)
}
upload.start()
