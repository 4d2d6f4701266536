"""The page: an image on the left, what the model sees in it on the right."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import gradio as gr
from gradio.data_classes import ImageData

from revcol_backbone.demo.events import INVITATION, DemoEvents
from revcol_backbone.demo.summary import say
from revcol_backbone.inference import Predictor
from revcol_backbone.inference.drawing import LABEL_OPACITY

SECONDS_ON_DISK = 600
CLASSES_IN_SIGHT = 20
_TASKS = {True: 'Object detection', False: 'Semantic segmentation'}
_SLIDERS = {
    True: dict(value=0.3, label='Score threshold', info='Hides detections that score less'),
    False: dict(value=LABEL_OPACITY, label='Opacity', info='Of the colors over the image'),
}


def build_page(
    predictor: Predictor, config: str | Path, examples: Sequence[str | Path] = ()
) -> gr.Blocks:
    """Lay out the page and connect it with a model.

    A visitor's image is forgotten when the tab is closed; the files that Gradio makes of it are
    deleted :data:`SECONDS_ON_DISK` later.

    Args:
        predictor: The model.
        config: Its config, to be named on the page.
        examples: Images to choose from.
    """
    events = DemoEvents(predictor)
    task = _TASKS[events.detects]
    model = predictor.inferencer.cfg.model
    title = f'{task} with {model.get("backbone", model).type}'
    with gr.Blocks(
        title=title, analytics_enabled=False, delete_cache=(60, SECONDS_ON_DISK)
    ) as page:
        gr.HTML(_header(title, config, predictor.classes))
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                image = _image_field()
                slider = gr.Slider(0, 1, step=0.01, elem_id='slider', **_SLIDERS[events.detects])
                if examples:
                    _offer(examples, image)
            with gr.Column(scale=3, min_width=320):
                result = gr.Image(
                    # A label would cover a corner of the drawing.
                    show_label=False,
                    format='png',
                    height=480,
                    interactive=False,
                    buttons=['download', 'fullscreen'],
                    elem_id='result',
                )
                summary = gr.HTML(say(INVITATION), elem_id='summary')
        _connect(page, events, image, slider, [result, summary])
    return page


def _header(title: str, config: str | Path, classes: Sequence[str]) -> str:
    names = ', '.join(map(escape, classes))
    known = f'{len(classes)} classes: {names}'
    if len(classes) > CLASSES_IN_SIGHT:
        known = f'<details><summary>{len(classes)} classes</summary>{names}</details>'
    return f'<h1>{escape(title)}</h1><div>{escape(Path(config).name)} &middot; {known}</div>'


def _image_field() -> gr.Image:
    image = gr.Image(
        label='Your image',
        sources=['upload', 'clipboard'],
        height=230,
        buttons=[],
        elem_id='image',
    )
    # Gradio would decode the file itself, without a word to the visitor where that fails.
    image.preprocess = _uploaded_file
    return image


def _uploaded_file(payload: ImageData | None) -> str | None:
    return payload.path if payload else None


def _offer(examples: Sequence[str | Path], image: gr.Image) -> None:
    gr.Examples(
        [[str(example)] for example in examples],
        image,
        cache_examples=False,
        label='Or one of these',
        api_visibility='private',
    )


def _connect(
    page: gr.Blocks,
    events: DemoEvents,
    image: gr.Image,
    slider: gr.Slider,
    outputs: Sequence[gr.components.Component],
) -> None:
    def predict(path: str | None, value: float, request: gr.Request):
        return events.predict(path, value, request.session_hash)

    def redraw(value: float, request: gr.Request):
        return events.redraw(value, request.session_hash)

    def leave(request: gr.Request):
        events.leave(request.session_hash)

    shared = dict(
        outputs=outputs,
        # One at a time: a network takes all cores, and an overtaken drawing must not come last.
        concurrency_limit=1,
        concurrency_id='model',
        trigger_mode='always_last',
        api_visibility='private',
    )
    image.change(predict, [image, slider], show_progress_on=outputs[:1], **shared)
    slider.change(redraw, [slider], show_progress='hidden', **shared)
    page.unload(leave)
