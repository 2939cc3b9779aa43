"""The browser of the tests of the server's page, for tests of a report's page."""

from tests.server.page.conftest import browser, browser_page

__all__ = ["browser", "browser_page"]
