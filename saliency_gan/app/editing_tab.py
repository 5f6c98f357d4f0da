"""The tab where the user paints a region, in which units are switched."""

from typing import Any

import gradio as gr
import numpy as np

from saliency_gan.app.editing import SIDE, Editor
from saliency_gan.app.events import DRAW, PRIVATE
from saliency_gan.app.exploring import Explorer
from saliency_gan.errors import UserError

MOST_UNITS = 20


def editing_tab(editor: Editor, explorer: Explorer, page: gr.Blocks) -> None:
    """Builds the tab; without a dissection it says how to make one."""
    if not editor.sets:
        gr.Markdown(
            f"Nobody has dissected {explorer.name}: run `saliency-gan dissect`, then `saliency-gan app` with the same"
            " `--run`."
        )
        return
    draw = gr.State(0)
    with gr.Row():
        classes: list[tuple[str, int]] = [("any", -1), *explorer.classes]
        chosen_class = gr.Dropdown(classes, value=-1, label="Class c", elem_id="edit-class", scale=1)
        titles: list[tuple[str, int]] = [(some.title, index) for index, some in enumerate(editor.sets)]
        units = gr.Dropdown(titles, value=0, label="Units that paint", elem_id="units", scale=2)
        action = gr.Radio(
            [("switch off", "ablate"), ("insert", "insert")], value="ablate", label="Action", elem_id="action", scale=1
        )
        new = gr.Button("New latent z", elem_id="edit-new", scale=1)
    count = gr.Slider(
        1, MOST_UNITS, MOST_UNITS, step=1, label="How many of them, those that agree best first", elem_id="count"
    )
    with gr.Row():
        canvas = gr.ImageEditor(
            label=f"G(z, c) of {explorer.name}: paint where units are switched",
            type="numpy",
            image_mode="RGBA",
            sources=(),
            transforms=(),
            layers=False,
            brush=gr.Brush(default_size=48, colors=["#ffdc00a0"], color_mode="fixed"),
            canvas_size=(SIDE, SIDE),
            height=SIDE + 140,
            elem_id="canvas",
        )
        result = gr.Image(
            label="The same with these units switched there",
            format="png",
            interactive=False,
            height=SIDE + 140,
            elem_id="edited",
            buttons=["download"],
        )

    def start(number: int, class_index: int) -> Any:
        return [editor.start(number, None if class_index < 0 else class_index)] * 2  # nothing is painted yet

    def edit(number: int, class_index: int, value: dict[str, Any] | None, *how: Any) -> Any:
        try:
            return editor.edit(number, None if class_index < 0 else class_index, _painted(value), *how)
        except UserError as error:
            gr.Warning(str(error), duration=15)
            return gr.skip()

    new.click(lambda number: number + 1, draw, draw, **PRIVATE)
    gr.on([page.load, draw.change, chosen_class.change], start, [draw, chosen_class], [canvas, result], **DRAW)
    controls: list[Any] = [units, count, action]
    gr.on(
        [canvas.change, *(control.change for control in controls)],
        edit,
        [draw, chosen_class, canvas, *controls],
        result,
        **DRAW,
    )


def _painted(value: dict[str, Any] | None) -> np.ndarray:
    """Where any layer of the canvas has paint, bool [H, W]."""
    layers = [layer for layer in (value or {}).get("layers") or [] if layer is not None]
    return np.any([layer[:, :, 3] > 0 for layer in layers], axis=0) if layers else np.zeros((1, 1), bool)
