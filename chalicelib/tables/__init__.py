"""Rows in DynamoDB: one PynamoDB model a table, named `{STOWAGE_TABLE_PREFIX}-{noun}`.

Keys, indexes, streams and lifetimes are declared in `infra/template.yaml`; a test holds the two together.
"""
