"""The image function: a Lambda of its own, which the API invokes and which reads, transforms and keeps.

It takes `{source: {key, size}, options, target, inline}` and gives `{content_type, size, body}`, `body` in base64 if the result
has at most `inline` bytes, else None; or `{refused: {message, details}}` for what is the file's fault. The result lies
under `target` in the internal storage before it answers, so nothing is made in vain when nobody waits for it any more.

This module is imported by the API too, which registers it: so everything dear is imported when the function is first called.
"""

import base64
from typing import Any

from chalicelib.errors import UnprocessableImage

Event = dict[str, Any]


def image_transform(event: Event, context: Any) -> dict[str, Any]:
    """Transform one image; raises what is not the file's fault, for which Lambda answers with an error."""
    from chalicelib import providers
    from chalicelib.images.options import Options
    from chalicelib.images.transform import transform

    storage, source = providers.internal(), event["source"]
    body = storage.read(source["key"], 0, source["size"])
    try:
        made = transform(body, Options.from_dict(event["options"]))
    except UnprocessableImage as error:
        return {"refused": {"message": error.message, "details": error.details}}
    storage.put(event["target"], made.body, made.content_type)
    small = len(made.body) <= event["inline"]
    return {
        "content_type": made.content_type,
        "size": len(made.body),
        "body": base64.b64encode(made.body).decode() if small else None,
    }
