"""HTTP in, HTTP out: a package a surface, a module a resource. No rule of the domain lives here."""
