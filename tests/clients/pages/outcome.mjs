// Uploads `file` by `uppy`, paused once at `pauseAt` bytes or given up at `cancelAt`, and downloads it again; gives what
// there is to tell.
export async function outcome(uppy, file, { key, object, pauseAt, cancelAt }) {
  const seen = { pauses: 0 }
  uppy.on('upload-progress', (_, { bytesUploaded }) => {
    if (cancelAt && bytesUploaded >= cancelAt) uppy.cancelAll()
    if (seen.pauses || !pauseAt || bytesUploaded < pauseAt) return
    seen.pauses += 1
    uppy.pauseAll()
    setTimeout(() => uppy.resumeAll(), 300)
  })
  uppy.addFile({ name: file.name, type: file.type, data: file })
  const { successful, failed } = await uppy.upload()
  const answer = await fetch(object, { headers: { Authorization: `Bearer ${key}` } })
  return {
    uploaded: successful.map((each) => each.uploadURL),
    errors: failed.map((each) => each.error),
    pauses: seen.pauses,
    downloaded: { status: answer.status, redirected: answer.redirected, sha256: await sha256(answer) },
  }
}

async function sha256(answer) {
  const digest = await crypto.subtle.digest('SHA-256', await answer.arrayBuffer())
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('')
}
