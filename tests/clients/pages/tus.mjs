// A page that uploads by Uppy's TUS plugin.
import Uppy from '@uppy/core'
import Tus from '@uppy/tus'
import { outcome } from './outcome.mjs'

window.upload = (file, told) => {
  const uppy = new Uppy({ meta: { bucket: told.bucket } })
  uppy.use(Tus, {
    endpoint: `${told.api}/storage/v1/upload/tus`,
    chunkSize: 4 * 1024 * 1024,
    headers: { Authorization: `Bearer ${told.key}` },
  })
  return outcome(uppy, file, told)
}
