"""Finds the pairs to measure on: a standard benchmark in one of its usual layouts, or the user's own folders."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from saliency_gan.config import EvaluateConfig
from saliency_gan.errors import UserError, one_line
from saliency_gan.images.folders import by_name, find_images, some
from saliency_gan.images.reading import UnreadableImageError, read_mask


@dataclass(frozen=True)
class Benchmark:
    """A standard benchmark.

    Attributes:
        title: Its name in papers.
        pairs: Number of its pairs.
        page: Web page where one can get it.
        folders: Possible names of its folder of photos and its folder of masks, as in its archive.
    """

    title: str
    pairs: int
    page: str
    folders: tuple[tuple[str, str], ...]


BENCHMARKS = {
    "ecssd": Benchmark(
        "ECSSD",
        1000,
        "https://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html",
        (("images", "ground_truth_mask"),),
    ),
    "duts-te": Benchmark("DUTS-TE", 5019, "http://saliencydetection.net/duts/", (("DUTS-TE-Image", "DUTS-TE-Mask"),)),
    "dut-omron": Benchmark(
        "DUT-OMRON", 5168, "http://saliencydetection.net/dut-omron/", (("DUT-OMRON-image", "pixelwiseGT-new-PNG"),)
    ),
    "hku-is": Benchmark("HKU-IS", 4447, "https://i.cs.hku.hk/~gbli/deep_saliency.html", (("imgs", "gt"),)),
    "pascal-s": Benchmark(
        "PASCAL-S",
        850,
        "http://cbs.ic.gatech.edu/salobj/",
        (("datasets/imgs/pascal", "datasets/masks/pascal"), ("imgs/pascal", "masks/pascal")),
    ),
    "sod": Benchmark("SOD", 300, "http://elderlab.yorku.ca/SOD/", ()),
}
"""Value of --benchmark -> benchmark."""

PHOTO_FOLDERS = ("images", "image", "imgs", "img", "im", "photos", "test/images", "test/image")
MASK_FOLDERS = ("masks", "mask", "gt", "ground_truth", "ground_truth_mask", "gts", "test/masks", "test/mask")
COMMON_FOLDER = "imgs"
"""A folder that some collections use for both, photos as JPEG and masks as PNG."""


@dataclass(frozen=True)
class BenchmarkPair:
    """One photo or map with its ground-truth mask.

    Attributes:
        name: Path in the folder, without suffix.
        mask: The ground-truth mask.
        photo: The photo; None if there is none.
        map: The finished saliency map; None unless maps are measured.
    """

    name: str
    mask: Path
    photo: Path | None = None
    map: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """The pairs to measure on.

    Attributes:
        name: Short name for files and tables.
        pairs: The pairs, sorted by name.
        unmatched: One sentence for each of masks, photos and maps that has files without a partner.
        benchmark: Key of BENCHMARKS, or None for the user's own folders.
    """

    name: str
    pairs: tuple[BenchmarkPair, ...]
    unmatched: tuple[str, ...] = ()
    benchmark: str | None = None


def find_dataset(config: EvaluateConfig) -> Dataset:
    """Finds the pairs that the settings ask for.

    A benchmark has to be complete, because figures on a part of it cannot be compared. In the user's own folders, files
    without a partner are left out and named.

    Raises:
        UserError: If the settings do not say what to measure on, a folder is missing or empty, nothing matches, or a
            benchmark is not complete.
    """
    if config.benchmark is not None:
        return _find_benchmark(config)
    if config.root is not None:
        raise UserError(f"--root {config.root} belongs to a benchmark: add --benchmark {'|'.join(BENCHMARKS)}.")
    if config.masks is None or (config.images is None and config.maps is None):
        raise UserError(
            "There is nothing to measure on: give --images DIR --masks DIR, --maps DIR --masks DIR, or --benchmark NAME"
            " --root DIR."
        )
    folders = {"masks": config.masks, "photos": config.images, "maps": config.maps}
    given = {title: folder for title, folder in folders.items() if folder is not None}
    if config.images == config.masks:
        photos, masks = _split_common(config.masks, recursive=True)
        sides = {"masks": masks, "photos": photos}
    else:
        sides = {}
    for title, folder in given.items():
        if title not in sides:
            setting = "--images" if title == "photos" else f"--{title}"
            sides[title] = by_name(folder, _own_images(folder, given.values(), setting))
    for title, side in sides.items():
        if not side:
            raise UserError(f"There are no {title} in {given[title]}: give the folder that has them.")
    names = set.intersection(*(set(side) for side in sides.values()))
    if not names:
        examples = ", ".join(f"{min(side.values()).name} ({title})" for title, side in sides.items())
        raise UserError(
            f"No file has the same name in {' and '.join(str(folder) for folder in given.values())}, as in {examples}:"
            " name them alike, with their subfolders, apart from the suffix."
        )
    pairs = tuple(_pair(name, sides) for name in sorted(names))
    unmatched = tuple(
        f"{len(alone)} of the {title} have no partner and are left out: {some(alone)}."
        for title, side in sides.items()
        if (alone := sorted(one_line(path.name) for name, path in side.items() if name not in names))
    )
    return Dataset(_name_of(config.masks), pairs, unmatched)


def maps_are_of_0_and_1(pairs: Iterable[BenchmarkPair]) -> bool:
    """Whether the brightest value of all finished maps is 1; such maps are read as 0 and 255.

    Reading stops at the first map that is brighter, so usually few maps are read.
    """
    brightest = 0
    for pair in pairs:
        with suppress(UnreadableImageError):
            assert pair.map is not None
            brightest = max(brightest, int(read_mask(pair.map).max()))
        if brightest > 1:
            return False
    return brightest == 1


def _find_benchmark(config: EvaluateConfig) -> Dataset:
    key = config.benchmark
    assert key is not None
    benchmark = BENCHMARKS[key]
    if config.root is None:
        raise UserError(
            f"--benchmark {key} needs --root DIR, the folder it was unpacked into; get it from {benchmark.page}."
        )
    if config.images is not None or config.masks is not None:
        raise UserError(f"--benchmark {key} finds its photos and masks under --root: leave --images and --masks out.")
    if not config.root.is_dir():
        raise UserError(f"There is no folder {config.root}: get {benchmark.title} from {benchmark.page} and unpack it.")
    photos, masks = _find_layout(benchmark, config.root)
    sides = {"masks": masks, "photos": photos}
    if config.maps is not None:
        sides["maps"] = by_name(config.maps, find_images(config.maps, setting="--maps"))
    names = set.intersection(*(set(side) for side in sides.values()))
    if len(names) != benchmark.pairs:
        counts = ", ".join(f"{len(side):,} {title}" for title, side in sides.items())
        alone = sorted(path.name for side in sides.values() for name, path in side.items() if name not in names)
        raise UserError(
            f"{benchmark.title} has {benchmark.pairs:,} pairs, but {config.root} gives {len(names):,} ({counts}"
            f"{'; without partner: ' + some(alone) if alone else ''}): get all of it from {benchmark.page}."
        )
    return Dataset(key, tuple(_pair(name, sides) for name in sorted(names)), benchmark=key)


def _find_layout(benchmark: Benchmark, root: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Photos and masks by stem, from the first layout that exists in the root or in its subfolder of the benchmark."""
    layouts = [*benchmark.folders, *((photos, masks) for photos in PHOTO_FOLDERS for masks in MASK_FOLDERS)]
    own = [
        child for child in sorted(root.iterdir()) if child.is_dir() and _plain(child.name) == _plain(benchmark.title)
    ]
    for base in (*own, root):
        for photo_name, mask_name in layouts:
            photos, masks = _subfolder(base, photo_name), _subfolder(base, mask_name)
            if photos is not None and masks is not None:
                return by_name(photos, find_images(photos)), by_name(masks, find_images(masks))
        if common := _subfolder(base, COMMON_FOLDER):
            return _split_common(common)
    wanted = " and ".join(layouts[0])
    raise UserError(
        f"{root} does not look like {benchmark.title}: it should hold the folders {wanted} (or images and masks), as"
        f" unpacked from {benchmark.page}."
    )


def _subfolder(base: Path, name: str) -> Path | None:
    """Finds the folder `name`, which may have several parts; upper and lower case are the same."""
    for part in name.split("/"):
        found = [child for child in base.iterdir() if child.is_dir() and child.name.lower() == part.lower()]
        if not found:
            return None
        base = found[0]
    return base


def _pair(name: str, sides: dict[str, dict[str, Path]]) -> BenchmarkPair:
    return BenchmarkPair(name, sides["masks"][name], sides.get("photos", {}).get(name), sides.get("maps", {}).get(name))


def _split_common(folder: Path, recursive: bool = False) -> tuple[dict[str, Path], dict[str, Path]]:
    """Photos (JPEG) and masks (PNG) of a folder that holds both."""
    files = find_images(folder, recursive)
    photos = [path for path in files if path.suffix.lower() in (".jpg", ".jpeg")]
    return by_name(folder, photos), by_name(folder, [path for path in files if path.suffix.lower() == ".png"])


def _own_images(folder: Path, folders: Iterable[Path], setting: str) -> list[Path]:
    """The images of a folder and its subfolders, except those in `folders` that lie in it."""
    files = find_images(folder, recursive=True, setting=setting)
    for other in folders:
        if other.resolve() != folder.resolve() and other.resolve().is_relative_to(folder.resolve()):
            inner = folder / other.resolve().relative_to(folder.resolve())
            files = [file for file in files if not file.is_relative_to(inner)]
    return files


def _name_of(masks: Path) -> str:
    """`data/samples/masks` -> samples: the folder's own name, or its parent's if its own is only a word for masks."""
    folder = masks.resolve()
    generic = {_plain(name) for name in MASK_FOLDERS}
    return folder.parent.name if _plain(folder.name) in generic and folder.parent.name else folder.name


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
