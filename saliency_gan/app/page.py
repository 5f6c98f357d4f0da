"""The page itself: gradio controls for the functions of `photo` and `exploring`."""

from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import gradio as gr

from saliency_gan.app.editing import Editor
from saliency_gan.app.editing_tab import editing_tab
from saliency_gan.app.events import DRAW, PRIVATE, REDRAW
from saliency_gan.app.exploring import MAX_SHIFT, Explorer
from saliency_gan.app.guard import HOST, OwnPageOnly
from saliency_gan.app.photo import BACKGROUNDS, REFINEMENTS, Look, Photo, draw_pictures, mark, parse_colour
from saliency_gan.app.photo import write_pictures as write
from saliency_gan.errors import StageError, UserError
from saliency_gan.saliency.photo_predictor import PhotoPredictor

FILES_KEPT, PHOTO_KEPT = 600, 3600
"""Seconds after which uploads and results are deleted from the disk, and a photo from memory."""
FONTS = tuple(gr.themes.Font(name) for name in ("Helvetica Neue", "Segoe UI", "Roboto", "Arial", "sans-serif"))
MONOSPACE = tuple(gr.themes.Font(name) for name in ("Consolas", "Menlo", "monospace"))
CSS = """
.gradio-container { width: min(1240px, 100%) !important; margin: 0 auto !important; }
#cutout img { background: repeating-conic-gradient(#ddd 0% 25%, #fff 0% 50%) 0 0 / 20px 20px; }
"""


def launch(
    predictor: PhotoPredictor, explorer: Explorer, editor: Editor, folder: Path, max_megabytes: int, port: int
) -> gr.Blocks:
    """Builds the page and serves it in threads.

    Args:
        predictor: Marks photos.
        explorer: Moves along directions.
        editor: Switches units.
        folder: Folder where uploads and results are kept for some time; the value of GRADIO_TEMP_DIR.
        max_megabytes: Larger uploads are refused.
        port: A free port.

    Raises:
        UserError: If the port was taken in the meantime.
    """
    with gr.Blocks(
        title="saliency-gan", analytics_enabled=False, fill_width=True, delete_cache=(60, FILES_KEPT)
    ) as page:
        with gr.Tab("Photo", elem_id="photo-tab"):
            _photo_tab(predictor, folder, max_megabytes)
        with gr.Tab("Directions", elem_id="directions-tab"):
            _directions_tab(explorer, page)
        with gr.Tab("Dissection", elem_id="dissection-tab"):
            editing_tab(editor, explorer, page)
    try:
        page.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            inbrowser=False,
            prevent_thread_lock=True,
            quiet=True,
            show_error=False,
            allowed_paths=[],
            max_file_size=f"{max_megabytes}mb",
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            run_history=False,
            footer_links=[],
            pwa=False,
            theme=gr.themes.Default(primary_hue="blue", font=FONTS, font_mono=MONOSPACE),
            css=CSS,
            app_kwargs={"middleware": [_guard(port)], "docs_url": None, "redoc_url": None, "openapi_url": None},
        )
    except OSError:
        raise UserError(f"Port {port} cannot be used: give another one with --port, or 0 for any.") from None
    return page


def _guard(port: int) -> Any:
    from starlette.middleware import Middleware

    return Middleware(OwnPageOnly, port=port)


def _photo_tab(predictor: PhotoPredictor, folder: Path, max_megabytes: int) -> None:
    photo = gr.State(None, time_to_live=PHOTO_KEPT)
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            upload = gr.Image(
                label=f"Photo, at most {max_megabytes} MB",
                type="filepath",
                image_mode=None,
                sources=["upload"],
                format="png",
                height=280,
                elem_id="upload",
                buttons=[],
            )
            threshold = gr.Slider(0, 1, 0.5, step=0.01, label="Threshold", elem_id="threshold", buttons=[])
            otsu = gr.Checkbox(label="Otsu's threshold of this photo", elem_id="otsu", container=False)
            refinement = gr.Radio(list(REFINEMENTS), value="guided", label="Refinement", elem_id="refinement")
            background = gr.Radio(
                list(BACKGROUNDS), value="transparent", label="Background of the cut-out", elem_id="background"
            )
            colour = gr.ColorPicker("#204060", label="Colour", visible=False, elem_id="colour")
        with gr.Column(scale=2):
            with gr.Row():
                shown = [
                    gr.Image(
                        label=label, format="png", height=280, interactive=False, elem_id=name, buttons=["fullscreen"]
                    )
                    for name, label in (("map", "Saliency map"), ("mask", "Mask"))
                ]
            shown.append(
                gr.Image(
                    label="Cut-out",
                    format="png",
                    height=360,
                    interactive=False,
                    elem_id="cutout",
                    buttons=["download", "fullscreen"],
                )
            )
            about = gr.Markdown("Drop a photo on the left.", elem_id="about")
            make = gr.Button("Make files at the photo's own size", interactive=False, elem_id="make")
            files = gr.File(label="Map, mask and cut-out", visible=False, interactive=False, elem_id="files")

    def read(given: dict[str, Any] | None) -> tuple[Photo | None, Any, Any]:
        try:
            marked = _read_upload(given, predictor)
        except (UserError, StageError) as error:
            gr.Warning(str(error), duration=15)
            marked = None
        preview = None if marked is None else marked.preview
        return marked, preview, gr.update(interactive=marked is not None)

    def look(level: float, by_otsu: bool, how: str, behind: str, paint: str) -> Look:
        return Look("otsu" if by_otsu else level, how, parse_colour(paint) if behind == "colour" else behind)  # type: ignore[arg-type]

    def redraw(marked: Photo | None, *chosen: Any) -> list[Any]:
        hidden = gr.update(value=None, visible=False)
        if marked is None:
            return [None, None, None, "Drop a photo on the left.", hidden]
        try:
            pictures = draw_pictures(marked, look(*chosen))
        except (UserError, StageError) as error:
            gr.Warning(str(error), duration=15)
            return [gr.skip()] * 5
        height, width = marked.picture.rgb.shape[:2]
        line = (
            f"{width} x {height} pixels; threshold {pictures.threshold:.2f}; the mask covers {pictures.share:.0%}"
            " of the photo."
        )
        return [pictures.map, pictures.mask, pictures.cutout, line, hidden]

    def make_files(marked: Photo | None, *chosen: Any) -> Any:
        if marked is None:
            return gr.skip()
        try:
            # A new folder each time, or the browser would offer earlier files from its cache.
            paths = write(marked, look(*chosen), Path(mkdtemp(dir=folder)))
        except (UserError, StageError) as error:
            gr.Warning(str(error), duration=15)
            return gr.skip()
        return gr.update(value=[str(path) for path in paths], visible=True)

    settings: list[Any] = [threshold, otsu, refinement, background, colour]
    drawn = [*shown, about, files]
    # preprocess=False, because gradio would decode the file itself and say less about damaged files.
    reading = upload.upload(
        read,
        upload,
        [photo, upload, make],
        preprocess=False,
        show_progress="minimal",
        trigger_mode="always_last",
        **PRIVATE,
    )
    reading.then(redraw, [photo, *settings], drawn, show_progress="hidden", **PRIVATE)
    upload.clear(lambda: (None, gr.update(interactive=False)), None, [photo, make], **PRIVATE).then(
        redraw, [photo, *settings], drawn, **PRIVATE
    )
    gr.on([setting.change for setting in settings], redraw, [photo, *settings], drawn, **REDRAW)
    otsu.change(lambda on: gr.update(interactive=not on), otsu, threshold, **PRIVATE)
    background.change(lambda behind: gr.update(visible=behind == "colour"), background, colour, **PRIVATE)
    make.click(make_files, [photo, *settings], files, **PRIVATE)


def _read_upload(given: dict[str, Any] | None, predictor: PhotoPredictor) -> Photo | None:
    """Decodes an uploaded file and runs the network; gradio has checked that the path is one of its uploads."""
    path = None if given is None else given.get("path")
    if path is None:
        return None
    file = Path(path)
    try:
        data = file.read_bytes()
    except OSError:
        raise UserError("The photo is no longer there: drop it again.") from None
    return mark(predictor, data, file.name)


def _directions_tab(explorer: Explorer, page: gr.Blocks) -> None:
    draw = gr.State(0)
    with gr.Row():
        classes: list[tuple[str, int]] = [("any", -1), *explorer.classes]
        chosen_class = gr.Dropdown(classes, value=-1, label="Class c", elem_id="class", scale=1)
        direction = gr.Dropdown(
            explorer.directions,
            value=explorer.directions[0][1],
            label="Direction h, ranked as a background direction",
            elem_id="direction",
            scale=2,
        )
        new = gr.Button("New latents z", elem_id="new", scale=1)
    shift = gr.Slider(-MAX_SHIFT, MAX_SHIFT, 0, step=0.25, label="Shift s", elem_id="shift", buttons=["reset"])
    rows = []
    for name, caption in (
        ("start", f"G(z, c) of {explorer.name}"),
        ("moved", "G(z + s h, c), h of unit length"),
        ("moved-masks", f"The masks of these images: {explorer.rule}"),
    ):
        gr.Markdown(caption)
        rows.append(gr.Image(show_label=False, format="png", interactive=False, elem_id=name, buttons=["download"]))

    def start(number: int, class_index: int) -> Any:
        return explorer.start(number, None if class_index < 0 else class_index)

    def move(number: int, class_index: int, column: int, distance: float) -> list[Any]:
        try:
            moved = explorer.move(number, None if class_index < 0 else class_index, column, distance)
        except UserError as error:
            gr.Warning(str(error), duration=15)
            return [gr.skip()] * 2
        return [moved.images, moved.masks]

    place: list[Any] = [draw, chosen_class, direction, shift]
    new.click(lambda number: number + 1, draw, draw, **PRIVATE)
    gr.on([page.load, draw.change, chosen_class.change], start, place[:2], rows[0], **DRAW)
    triggers = [page.load, draw.change, *(control.change for control in place[1:])]
    gr.on(triggers, move, place, rows[1:], **DRAW)
