"""Stowage: the app that API Gateway calls, and the functions behind it."""

import sys

from chalicelib.surfaces import dispatch
from chalicelib.surfaces.mounted import SURFACES
from chalicelib.surfaces.platform.routes import SURFACE as PLATFORM
from chalicelib.webapp import StowageApp
from chalicelib.workers import image_function, workers

app = StowageApp("stowage")
dispatch.mount(app, SURFACES, otherwise=PLATFORM)
app.register_blueprint(workers)
app.register_blueprint(image_function)

if "chalice.local" in sys.modules:  # under `chalice local`, and never in a deployed function
    from infra import localdev

    localdev.install()
    dispatch.import_views(SURFACES)
