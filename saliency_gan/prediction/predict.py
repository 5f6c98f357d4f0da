"""`predict`: saliency maps, masks, cut-outs and overlays of photos and videos and folders of them."""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from tqdm import tqdm

from saliency_gan.compute.processes import cores, is_main, local_world_size, meet, share, total
from saliency_gan.config import PredictConfig
from saliency_gan.errors import StageError, UserError, one_line
from saliency_gan.images import ImageArray
from saliency_gan.images.reading import Picture
from saliency_gan.images.writing import write_image
from saliency_gan.prediction.backgrounds import Background
from saliency_gan.prediction.drawing import PHOTO_SUFFIXES, check_length, draw, find_threshold, kinds_too_long
from saliency_gan.prediction.jobs import STREAM, Batch, Job, batches, check_paths, find_jobs
from saliency_gan.prediction.pipes import check_output_is_one, mark_to_output, read_file_or_input
from saliency_gan.prediction.recipe import recipe_of
from saliency_gan.prediction.refinement import refine
from saliency_gan.prediction.video import mark_video, video_kinds
from saliency_gan.saliency.photo_predictor import PhotoPredictor, SaliencyMap
from saliency_gan.storage.files import remove_partials, sha256_of
from saliency_gan.storage.locks import working_in
from saliency_gan.storage.provenance import Sources
from saliency_gan.storage.run_layout import MODEL_FILE


def predict(config: PredictConfig, paths: Sequence[Path]) -> int:
    """Marks photos and videos and writes `output/KIND/NAME.png` for every kind in `config.save`, at their own sizes.

    If the output is `-`, the only result of the only photo is written to standard output.

    Folders are searched with their subfolders, and results keep this folder structure. If results of two files would
    have the same name, names keep the suffix or get a number, see `find_jobs`. A file that cannot be used is reported
    on stderr and skipped. Under torchrun every process handles its share of the files.

    Args:
        config: The stage's settings.
        paths: Photos, videos, and folders of them; `-` is a photo from standard input.

    Returns:
        Number of files that failed, in all processes.

    Raises:
        UserError: If a setting or the model cannot be used.
        StageError: If a result cannot be written.
    """
    config.check()
    if config.refine == "matting":
        from saliency_gan.prediction.matting import import_pymatting

        import_pymatting()
    if config.output == STREAM:
        check_output_is_one(config, paths)
    check_paths(paths)
    background = Background(config.background)
    predictor, model = _predictor(config)
    if config.output == STREAM:
        return _mark_to_output(paths[0], predictor, background, config)
    with working_in(config.folder, "--output"):
        if is_main():
            for kind in PHOTO_SUFFIXES:
                remove_partials(config.folder / kind)
            Sources(config.folder).claim(config.save)
        meet()
        return _mark(paths, predictor, background, config, Sources(config.folder, recipe_of(config, predictor, model)))


def _mark(
    paths: Sequence[Path], predictor: PhotoPredictor, background: Background, config: PredictConfig, sources: Sources
) -> int:
    found, problems, remarks, unread = find_jobs(paths, sources, config.recursive)
    meet()  # names depend on the results that exist, so no process may write before all have chosen them
    if is_main():
        _complain(*remarks)
    # Other processes write results meanwhile, so files are shared out before existing results are looked up.
    own = share(found)
    of_videos = video_kinds(config, background)
    if is_main() and of_videos != config.save and any(job.is_video for job in found):
        _complain(_what_videos_lack(config, of_videos))
    own = [job for job in own if of_videos or not job.is_video]
    jobs = [
        job
        for job in own
        if not (config.skip_existing and job.is_done(sources, of_videos if job.is_video else config.save))
    ]
    problems = list(share(problems))
    photos = [job for job in jobs if not job.is_video]
    videos = [job for job in jobs if job.is_video]
    failed = _complain(*problems)
    failed += _mark_photos(photos, predictor, background, config, sources) if photos else 0
    failed += sum(_fails(video, predictor, background, config, sources) for video in videos)
    marked = len(jobs) + len(problems) - failed
    done, existing, failures = (int(count) for count in total((marked, len(own) - len(jobs), failed)))
    failures += sum(job.is_video for job in found) if not of_videos else 0
    print(
        f"{done} {_called(found, done)} marked in {config.folder},"
        f" {existing + unread} skipped{f' ({existing} whose results exist)' * bool(existing)}, {failures} failed"
    )
    return failures


def _called(jobs: Sequence[Job], count: int) -> str:
    kinds = {job.is_video for job in jobs}
    noun = "file" if len(kinds) > 1 else "video" if kinds == {True} else "photo"
    return noun if count == 1 else f"{noun}s"


def _what_videos_lack(config: PredictConfig, kinds: Sequence[str]) -> str:
    lacking = " and ".join(kind for kind in config.save if kind not in kinds)
    if not kinds:
        advice = ", or a --background, say white" * ("cutout" in config.save)
        return f"Videos cannot be {lacking}, so they fail: give --save map or mask{advice}."
    return f"Videos get no {lacking}, but {', '.join(kinds)}: they hold 8 bit and no opacity."


def _mark_to_output(path: Path, predictor: PhotoPredictor, background: Background, config: PredictConfig) -> int:
    try:
        mark_to_output(path, predictor, background, config)
    except UserError as error:
        return _complain(str(error))
    return 0


def _predictor(config: PredictConfig) -> tuple[PhotoPredictor, str]:
    """The model in the requested runtime, and its sha256; the other runtime is not imported."""
    if config.runtime == "onnx":
        from saliency_gan.saliency.onnx_model import load_onnx_model

        network = load_onnx_model(config.model.path, config.device)
        source = network.metadata.get("source_sha256", "")
        if config.model.origin == "run":
            (own, *_) = config.layout.saliency_models()
            if source != sha256_of(own.folder / MODEL_FILE):
                raise UserError(
                    f"{network.name} is an export of another model than {own.name}: run saliency-gan export --run"
                    f" {config.run} again."
                )
        elif config.model.path is not None:  # tools that quantise keep the metadata
            source = sha256_of(config.model.path)
        return PhotoPredictor(network, config.resolution, config.scales, config.flip), source

    from saliency_gan.compute.devices import pick_device
    from saliency_gan.saliency.model import load_model
    from saliency_gan.saliency.predictor import Predictor

    model = load_model(config.model.path)
    device = pick_device(config.device, shared=True)
    predictor = Predictor(model, device, config.resolution, config.scales, config.flip, config.precision)
    return predictor, model.sha256


@dataclass(frozen=True)
class _Photo:
    """A decoded photo, and the squares of it that the model sees."""

    job: Job
    picture: Picture
    squares: tuple[ImageArray, ...]


def _mark_photos(
    jobs: Sequence[Job], predictor: PhotoPredictor, background: Background, config: PredictConfig, sources: Sources
) -> int:
    """Marks photos; returns how many failed.

    Every core reads, marks and writes its own batches, which is faster than a pipeline whose steps share the cores.
    There is one extra thread, because threads wait for the disk. A large photo is finished before the next photo is
    read, so that only one large photo is in memory at a time.
    """
    failures = 0
    mark = partial(_mark_batch, predictor=predictor, background=background, config=config, sources=sources)
    threads = 1 + max(1, cores() // local_world_size())
    size = min(config.batch, -(-len(jobs) // threads))
    with (
        _one_core_each(threads, config) as pool,
        tqdm(desc="predict", total=len(jobs), unit="photo") as progress,
    ):
        for large, some in groupby(batches(jobs, size), key=lambda batch: batch.large):
            for count, problems in map(mark, some) if large or len(jobs) == 1 else pool.map(mark, some):
                failures += _complain(*problems)
                progress.update(count)
    return failures


@contextmanager
def _one_core_each(threads: int, config: PredictConfig) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads, in each of which torch computes with one thread only."""
    if config.runtime == "onnx":
        with ThreadPoolExecutor(threads, "photos") as pool, _dropping_the_rest(pool):
            yield pool
        return
    import torch

    before = torch.get_num_threads()
    try:
        with (
            ThreadPoolExecutor(threads, "photos", initializer=torch.set_num_threads, initargs=(1,)) as pool,
            _dropping_the_rest(pool),
        ):
            yield pool
    finally:
        torch.set_num_threads(before)  # it is also the default of the process's other threads


@contextmanager
def _dropping_the_rest(pool: ThreadPoolExecutor) -> Iterator[None]:
    """After Ctrl-C, photos that no thread has begun are not marked."""
    try:
        yield
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise


def _mark_batch(
    batch: Batch, predictor: PhotoPredictor, background: Background, config: PredictConfig, sources: Sources
) -> tuple[int, list[str]]:
    """Reads, marks and writes photos; returns the number of photos, and a sentence for each that failed."""
    photos: list[_Photo] = []
    problems: list[str] = []
    for job in batch.jobs:
        with _noting(job, problems):
            picture = read_file_or_input(job.path)
            photos.append(_Photo(job, picture, predictor.squeeze(picture.rgb)))
    maps = predictor.mark([photo.squares for photo in photos]) if photos else ()
    for photo, small in zip(photos, maps, strict=True):
        with _noting(photo.job, problems):
            sources.begin(photo.job.key, photo.job.source, config.save)
            _write(photo, small, background, config)
            sources.add(photo.job.key, photo.job.source, config.save)
    return len(batch.jobs), problems


@contextmanager
def _noting(job: Job, problems: list[str]) -> Iterator[None]:
    """Adds an error about a file to `problems`; errors of the machine, such as a full disk, are raised."""
    try:
        yield
    except (StageError, MemoryError):
        raise
    except UserError as error:
        problems.append(str(error))
    except Exception as error:
        problems.append(f"{job.path} could not be marked ({type(error).__name__}: {error}).")


def _write(photo: _Photo, small: SaliencyMap, background: Background, config: PredictConfig) -> None:
    """Writes the results of a photo.

    Raises:
        UserError: If the photo is too large for one of them; the others are written.
    """
    picture = photo.picture
    marked = refine(picture.rgb, small, find_threshold(small, config.threshold), config.refine)
    too_long = kinds_too_long(picture.rgb, config.save)
    for kind in config.save:
        if kind not in too_long:
            drawn = draw(kind, marked, background, picture.rgba)
            write_image(photo.job.result(config.folder, kind), drawn, picture.density)
    check_length(photo.job.path, picture.rgb, config.save)


def _fails(
    video: Job, predictor: PhotoPredictor, background: Background, config: PredictConfig, sources: Sources
) -> bool:
    """Marks a video; returns whether a part of it could not be read. Results of a damaged video count as done."""
    problems: list[str] = []
    with _noting(video, problems):
        kinds = video_kinds(config, background)
        sources.begin(video.key, video.source, kinds)
        problems += mark_video(video, predictor, background, config)
        sources.add(video.key, video.source, kinds)
    return _complain(*problems) > 0


def _complain(*problems: str) -> int:
    """Prints problems on stderr; returns how many there are."""
    for problem in problems:
        tqdm.write(f"saliency-gan: {one_line(problem)}", file=sys.stderr)
    return len(problems)
