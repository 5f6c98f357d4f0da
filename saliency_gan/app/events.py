"""Options of gradio's event listeners for all events of the page."""

from typing import Any

PRIVATE: dict[str, Any] = {"api_visibility": "private", "queue": True}
REDRAW: dict[str, Any] = PRIVATE | {"trigger_mode": "always_last", "show_progress": "hidden"}
"""Whatever changes while a picture is drawn, the last state of the page is drawn afterwards."""
DRAW: dict[str, Any] = REDRAW | {"concurrency_id": "generator"}
"""One draws at a time, because a painted region changes the generator while its picture is drawn."""
