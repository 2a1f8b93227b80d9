"""Images on demand: bytes and options in, bytes out, in a Lambda of its own.

`options` and `geometry` are plain arithmetic, which the API uses too; only `transform` and what it stands on import
Pillow, and only the function (`function.py`) imports those. Nothing here knows a tenant, a bucket or a row.
"""
