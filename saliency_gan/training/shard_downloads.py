"""Downloads shards from an address, for example public object storage, into the cache folder."""

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

from saliency_gan.errors import UserError
from saliency_gan.generators.downloads import PublicFile, fetch
from saliency_gan.masks.shards import read_manifest

MANIFEST = "manifest.json"


def download_shards(address: str) -> Path:
    """Downloads a manifest and its shards, unless the cache has them.

    Every shard must have the sha256 in the manifest. A broken download resumes where it stopped. The cached manifest is
    used until it is deleted. Processes that need the same shards wait for the first one.

    Args:
        address: http or https address of the folder that `masks` wrote, or of its manifest.json.

    Returns:
        The folder in the cache that holds manifest.json and all shards.

    Raises:
        UserError: If the address cannot be that of a folder, or the file there is not a manifest.
        StageError: If a file cannot be downloaded, differs from the manifest, or cannot be written.
    """
    address = address.removesuffix(MANIFEST).rstrip("/")
    try:
        parts = urlsplit(address)
    except ValueError:  # such as an unclosed [
        parts = urlsplit("")
    if not parts.hostname or parts.query or parts.fragment or parts.username:
        raise UserError(
            "--shards takes a folder or its plain address, https://HOST/FOLDER, without password or signature: download"
            " what needs one by other means and give the folder."
        )
    name = f"shards/{parts.hostname}-{hashlib.sha256(address.encode()).hexdigest()[:12]}"
    instead = "download the whole folder and give --shards FOLDER"
    folder = fetch(name, [PublicFile(MANIFEST, (f"{address}/{MANIFEST}",))], instead)
    try:
        shards = read_manifest(folder)["shards"]
    except UserError:
        (folder / MANIFEST).unlink(missing_ok=True)
        raise UserError(
            f"{address}/{MANIFEST} is no manifest that masks wrote: give the address of a folder that holds one."
        ) from None
    return fetch(
        name,
        [PublicFile(shard["file"], (f"{address}/{shard['file']}",), shard["sha256"]) for shard in shards],
        instead,
    )
