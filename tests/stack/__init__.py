"""The packaged zip and template, deployed into an embedded AWS that checks signatures, TLS and IAM policies."""
