"""Rows in DynamoDB: one PynamoDB model a table, named `{STOWAGE_TABLE_PREFIX}-{noun}`.

Keys, indexes, streams and lifetimes are declared in `infra/template.yaml`; a test holds the two together.
"""

import logging

# PynamoDB says at INFO, whenever it is imported, that it found no settings file. It needs none.
logging.getLogger("pynamodb.settings").setLevel(logging.WARNING)
