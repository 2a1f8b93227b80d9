"""What Stowage does, free of HTTP: a module a noun, called by every surface."""
