"""The local run: the shim, the embedded AWS, the runner and `make run` itself."""
