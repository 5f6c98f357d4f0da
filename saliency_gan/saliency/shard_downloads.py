"""Shards below an address, for example in public object storage, into the cache folder."""

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

from saliency_gan.errors import UserError
from saliency_gan.generators.downloads import PublicFile, fetch
from saliency_gan.masks.shards import read_manifest

MANIFEST = "manifest.json"


def download_shards(address: str) -> Path:
    """Downloads a manifest and the shards that it lists, unless the cache has them.

    Every shard is held to the sha256 in the manifest, a broken download goes on where it stopped, and the manifest that
    was downloaded first counts until it is deleted. Processes that want the same shards wait for the first one.

    Args:
        address: http or https address of the folder that `masks` wrote, or of its manifest.json.

    Returns:
        The folder in the cache that holds manifest.json and all shards.

    Raises:
        UserError: If the address cannot be one of a folder, or what is there is no manifest.
        StageError: If a file cannot be downloaded, is not the one of the manifest, or cannot be written.
    """
    address = address.removesuffix(MANIFEST).rstrip("/")
    parts = urlsplit(address)
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
