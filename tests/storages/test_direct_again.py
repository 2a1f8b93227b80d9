"""The tests of direct uploads, once more for buckets on a tenant's own storage: the strict server.

SFTP takes none, and Azure's URLs and headers are others (`test_buckets_on.py` has both). Left out: what the internal bucket tells by
itself and folders as the internal storage, and parts of four bytes, which the strict server does not take.
"""

import inspect

from tests.api import test_direct
from tests.api.test_direct import *  # noqa: F403

ON = {"*": ("strict_s3",)}
LEFT_OUT = {"small_parts", "events", "on_filesystem", "embedded"}

for _name, _test in list(vars(test_direct).items()):
    if _name.startswith("test_") and LEFT_OUT & inspect.signature(_test).parameters.keys():
        del globals()[_name]

del test_a_storage_that_cannot_presign_names_what_it_takes  # noqa: F821
# The strict server looks whether there is an object before it takes a PUT, and not once more when it has it: of many at once all are
# taken. And no storage of a tenant's tells of bytes that nobody expects any more: they stay, as all that Stowage knows nothing of.
del test_of_many_puts_at_once_one_is_stored  # noqa: F821
del test_bytes_that_come_after_the_upload_expired_are_never_adopted_and_go  # noqa: F821
# Before any storage is asked.
del test_a_body_that_is_none_is_refused  # noqa: F821
del test_an_upload_that_there_is_not_is_not_found  # noqa: F821
del test_what_is_no_json_object_is_refused  # noqa: F821
