"""MiniStack with a memory for unfinished multipart uploads: it keeps their parts in memory and forgets them when it stops.

A session in DynamoDB that outlives its multipart upload could not go on, and `make run` promises that data survive a clean
stop. So they are saved with MiniStack's own state and restored with it, the bytes of the parts as files beside it:

    {STATE_DIR}/parts/{upload id}.{number}

Two names of MiniStack's are used, held by `tests/local/test_stack.py`: `s3._PERSISTED_BUCKET_DICTS`, of which each is
deep-copied to be saved and updated to be restored, and `s3._multipart_uploads`.
"""

import copy
import os
from pathlib import Path
from typing import Any

PARTS = "parts"


class UnfinishedUploads:
    """MiniStack's multipart uploads, as something that it saves and restores."""

    def __init__(self, uploads: Any, folder: Path) -> None:
        self._uploads = uploads
        self._folder = folder

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """What is saved: everything but the bytes, which are written to their files."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in self._folder.iterdir():
            left.unlink()
        saved = type(self._uploads)()
        for (account, upload_id), upload in self._uploads._data.items():
            for number, part in upload["parts"].items():
                self._file(upload_id, number).write_bytes(part["body"])
            parts = {number: {name: value for name, value in part.items() if name != "body"} for number, part in upload["parts"].items()}
            saved._data[account, upload_id] = copy.deepcopy(upload | {"parts": parts}, memo)
        return saved

    def update(self, saved: Any) -> None:
        """Take back what was saved. JSON has made texts of the numbers."""
        for (account, upload_id), upload in getattr(saved, "_data", {}).items():
            parts = {int(number): part | {"body": self._file(upload_id, number).read_bytes()} for number, part in upload["parts"].items()}
            self._uploads._data[account, upload_id] = upload | {"parts": parts}

    def _file(self, upload_id: str, number: int | str) -> Path:
        return self._folder / f"{upload_id}.{number}"


def main() -> None:
    """Run MiniStack."""
    from ministack.app import main as run
    from ministack.services import s3

    s3._PERSISTED_BUCKET_DICTS["multipart_uploads"] = UnfinishedUploads(s3._multipart_uploads, Path(os.environ["STATE_DIR"], PARTS))
    run()
