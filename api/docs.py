"""`/docs`: Swagger UI from this package, so that it works without the internet.

`pages/` holds files of swagger-ui-dist 5.35.0 (Apache-2.0), less the link to a source map.
"""

from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.staticfiles import StaticFiles

PAGES = Path(__file__).parent / "pages"


def add_docs_routes(app: FastAPI) -> None:
    """The page and its files; links are relative, so that a proxy may put us anywhere."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=app.title,
        swagger_js_url="docs/files/swagger-ui-bundle.js",
        swagger_css_url="docs/files/swagger-ui.css",
        swagger_favicon_url="docs/files/favicon.png",
        swagger_ui_parameters={"persistAuthorization": True, "tryItOutEnabled": True},
    )

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return page

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("docs")

    app.mount("/docs/files", StaticFiles(directory=PAGES))
