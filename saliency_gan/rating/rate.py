"""`rate`: serves the page on which people judge directions."""

import threading
import webbrowser
from contextlib import suppress

from saliency_gan.config import RateConfig
from saliency_gan.rating.answers import clean_rater, load_raters
from saliency_gan.rating.server import RatingServer
from saliency_gan.rating.session import Session
from saliency_gan.rating.study import Study
from saliency_gan.runs.stage_folder import StageFolder

CHANGEABLE = {"generator", "weights", "learned", "random", "coordinate", "rater", "port", "browser", "precision"}
"""Settings that may change between two calls; seed and samples may not, because they decide what a rater sees."""


def rate(config: RateConfig) -> None:
    """Serves the page until Ctrl-C. Every answer is written to `run/rating/raters/NAME.json` at once.

    Raises:
        UserError: If a setting is out of range, the port is taken, or the run's directions are missing, not learned or
            not the ones that were rated before.
    """
    if config.rater is not None:
        clean_rater(config.rater)
    study = Study(config)
    with StageFolder(config, "rating", CHANGEABLE) as folder:
        study.claim(folder.path)
        raters = folder.path / "raters"
        session = Session(study, raters)
        with RatingServer(session, config.port) as server:
            print(f"Rate {len(study.directions)} directions at {server.url}", flush=True)
            print("Every answer is saved at once; Ctrl-C ends the server.", flush=True)
            if config.browser:  # a browser of the terminal returns only at its end, and asks for the page before
                threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
            with suppress(KeyboardInterrupt):
                server.serve_forever()
            study.close()
        counts = ", ".join(f"{rater}: {len(answers)}" for rater, answers in load_raters(raters).items())
    print(f"\n{session.saved} answers saved just now; answered so far by {counts or 'nobody'}")
