"""Options of gradio's event listeners for all events of the page."""

from typing import Any

PRIVATE: dict[str, Any] = {"api_visibility": "private", "queue": True}
REDRAW: dict[str, Any] = PRIVATE | {"trigger_mode": "always_last", "show_progress": "hidden"}
