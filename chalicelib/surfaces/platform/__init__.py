"""What belongs to no seed: health, OpenAPI, jobs, and the tenants of the installation."""
