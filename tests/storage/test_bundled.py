import subprocess
import sys

from saliency_gan.storage.bundled import bundled_folder

NAME = "biggan-caltech101-64"


def test_no_name_leaves_the_folder_of_weights() -> None:
    assert bundled_folder("../../../etc").parent == bundled_folder(NAME).parent


def test_it_needs_no_torch() -> None:
    script = "import sys, saliency_gan.storage.run_layout; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"
