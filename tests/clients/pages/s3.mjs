// A page that uploads by the S3 plugin of Uppy 6, which has an S3 client in it, in parts that go to the storage directly.
import AwsS3 from '@uppy/aws-s3'
import Uppy from '@uppy/core'
import { outcome } from './outcome.mjs'

window.upload = (file, told) => {
  const uppy = new Uppy()
  uppy.use(AwsS3, stowage(uppy, told))
  return outcome(uppy, file, told)
}

// What an application has of Stowage's. The plugin sends each request of S3's to a URL that it is given; what Stowage
// answers instead of S3 comes to it as a data: URL with the XML that it expects.
function stowage(uppy, { api, key: credential, bucket }) {
  const parts = (size) => Math.max(1, Math.ceil(size / (16 * 1024 * 1024)))
  const xml = (name, content = '') => ({ url: `data:application/xml,${encodeURIComponent(`<${name}>${content}</${name}>`)}` })
  const ask = async (method, path, body) => {
    const headers = { Authorization: `Bearer ${credential}`, 'Content-Type': 'application/json' }
    const answer = await fetch(`${api}/storage/upload/${path}`, { method, headers, body: JSON.stringify(body) })
    if (!answer.ok) throw new Error(await answer.text())
    return answer.json()
  }
  return {
    shouldUseMultipart: true,
    getChunkSize: ({ size }) => Math.ceil(size / parts(size)),
    generateObjectKey: (file) => file.name,
    async signRequest({ method, key, uploadId, partNumber }) {
      if (method === 'POST' && !uploadId) {
        const { type, size } = uppy.getFiles().find((file) => file.name === key)
        const begun = await ask('POST', 'direct', { bucket, path: key, size, content_type: type, parts: parts(size) })
        return xml('InitiateMultipartUploadResult', `<UploadId>${begun.upload_id}</UploadId>`)
      }
      if (method === 'PUT') return (await ask('GET', `${uploadId}/parts?from=${partNumber}&count=1`)).parts[0]
      if (method === 'GET') return xml('ListPartsResult') // parts that Uppy does not know of are put again
      await ask(method, method === 'POST' ? `${uploadId}/confirm` : uploadId)
      return xml('CompleteMultipartUploadResult', `<Location>${api}/storage/object/${bucket}/${key}</Location><Key>${key}</Key>`)
    },
  }
}
