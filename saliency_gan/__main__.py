"""`python -m saliency_gan` is the command `saliency-gan`."""

import sys


def run() -> int:
    """Runs the command. An interrupt while its modules are imported ends it without a traceback.

    Returns:
        Exit code, see `saliency_gan.cli.main.main`.
    """
    try:
        from saliency_gan.cli.main import main
    except KeyboardInterrupt:
        return 130
    return main()


if __name__ == "__main__":
    sys.exit(run())
