// A page that uploads by the S3 plugin of Uppy 5 and before, which takes functions, in parts that go to the storage directly.
import AwsS3 from '@uppy/aws-s3'
import Uppy from '@uppy/core'
import { outcome } from '../pages/outcome.mjs'

window.upload = (file, told) => {
  const uppy = new Uppy()
  const stored = [] // Uppy forgets a part once it is stored, and asks for it when it goes on after a pause
  uppy.on('s3-multipart:part-uploaded', (_, part) => stored.push(part))
  uppy.use(AwsS3, stowage(told, stored))
  return outcome(uppy, file, told)
}

// What an application has of Stowage's:
function stowage({ api, key, bucket }, stored) {
  const parts = (size) => Math.max(1, Math.ceil(size / (16 * 1024 * 1024)))
  const ask = async (method, path, body) => {
    const headers = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' }
    const answer = await fetch(`${api}/storage/upload/${path}`, { method, headers, body: JSON.stringify(body) })
    if (!answer.ok) throw new Error(await answer.text())
    return answer.json()
  }
  return {
    shouldUseMultipart: true,
    getChunkSize: ({ size }) => Math.ceil(size / parts(size)),
    async createMultipartUpload({ name, type, size }) {
      const begun = await ask('POST', 'direct', { bucket, path: name, size, content_type: type, parts: parts(size) })
      return { uploadId: begun.upload_id, key: name }
    },
    async signPart(file, { uploadId, partNumber }) {
      const { parts } = await ask('GET', `${uploadId}/parts?from=${partNumber}&count=1`)
      return { url: parts[0].url }
    },
    listParts: async () => stored,
    async completeMultipartUpload(file, { uploadId, parts }) {
      await ask('POST', `${uploadId}/confirm`, { parts: parts.map(({ PartNumber, ETag }) => ({ number: PartNumber, etag: ETag })) })
      return { location: `${api}/storage/object/${bucket}/${file.name}` }
    },
    abortMultipartUpload: (file, { uploadId }) => ask('DELETE', uploadId),
  }
}
