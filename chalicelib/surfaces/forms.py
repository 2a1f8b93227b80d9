"""Multipart forms (RFC 7578): the one file in one, as browsers and `curl -F` send it."""

from chalicelib.errors import InvalidRequest

TYPE = "multipart/form-data"
MAX_PARTS = 100


def single_file(content_type: str, body: bytes) -> tuple[bytes, str]:
    """Bytes and declared type of the form's file; raises InvalidRequest unless there is exactly one."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import File, FormParser, parse_options_header

    files: list[File] = []
    parts = 0

    def count(_: object) -> None:
        nonlocal parts
        parts += 1
        if parts > MAX_PARTS or len(files) > 1:
            raise InvalidRequest("send exactly one file in the form, and little else")

    def take(file: File) -> None:
        files.append(file)
        count(file)

    try:
        _, options = parse_options_header(content_type)
        in_memory = {"MAX_MEMORY_FILE_SIZE": len(body) + 1, "MAX_BODY_SIZE": float("inf")}
        parser = FormParser(TYPE, count, take, boundary=options.get(b"boundary"), config=in_memory)
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise InvalidRequest("the multipart form is malformed") from error
    if len(files) != 1:
        raise InvalidRequest(f"send exactly one file in the form; this one has {len(files)}")
    file = files[0]
    file.file_object.seek(0)
    return file.file_object.read(), file.content_type or ""
