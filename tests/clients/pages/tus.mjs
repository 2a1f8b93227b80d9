// A page that uploads by Uppy's TUS plugin.
import Uppy from '@uppy/core'
import Tus from '@uppy/tus'
import { outcome } from './outcome.mjs'

window.upload = (file, told) => {
  const uppy = new Uppy({ meta: told.meta })
  uppy.use(Tus, {
    endpoint: told.endpoint,
    chunkSize: 4 * 1024 * 1024,
    headers: { Authorization: `Bearer ${told.key}` },
  })
  return outcome(uppy, file, told)
}
