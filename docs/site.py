"""Hooks of mkdocs: the pages of the API, one for each package, and links that leave the folder of the documentation."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "saliency_gan"


def on_files(files: Files, config: Any) -> Files:
    """Adds a page for each package, with its modules and their public names."""
    packages = sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))
    index = [
        "# API",
        "",
        "Each page holds a package with its modules. The three functions below are enough for most uses.",
    ]
    index += ["", "| package | what |", "|---|---|"]
    for folder in packages:
        about = _docstring(folder / "__init__.py").partition("\n")[0].rstrip(".")
        index.append(f"| [{folder.name}]({folder.name}.md) | {about} |")
        modules = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
        names = [f"saliency_gan.{folder.name}.{path.stem}" for path in modules]
        lines = [f"# {folder.name}", "", f"{about}.", "", *(f"::: {name}\n" for name in names)]
        files.append(File.generated(config, f"api/{folder.name}.md", content="\n".join(lines)))
    index += ["", "::: saliency_gan", "    options: {members: [load_saliency_model, load_directions, load_generator]}"]
    files.append(File.generated(config, "api/index.md", content="\n".join(index)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Shows a link to a file outside of the documentation as the file's path, after a look whether it is there."""

    def path_of(link: re.Match[str]) -> str:
        path = ROOT / "docs" / link[2].partition("#")[0]
        if not path.exists():
            raise FileNotFoundError(f"A page links to {link[2]}, which is not there.")
        return f"{link[1]} (`{path.resolve().relative_to(ROOT)}`)"

    return re.sub(r"\[([^\]]+)\]\((\.\./[^)]*)\)", path_of, markdown)


def _docstring(path: Path) -> str:
    found = re.match(r'"""(.*?)"""', path.read_text(encoding="utf-8"), re.DOTALL)
    return found[1].strip() if found else path.parent.name
