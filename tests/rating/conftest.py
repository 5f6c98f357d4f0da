import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from saliency_gan.config import RateConfig
from saliency_gan.rating.server import RatingServer
from saliency_gan.rating.session import Session
from saliency_gan.rating.study import Study
from tests.directions.finished import finished_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return finished_run(tmp_path)


@pytest.fixture
def config(run: Path) -> RateConfig:
    """Eight directions of the tiny BigGAN: 4 learned ones, 2 random ones, 2 latent axes."""
    return RateConfig(
        run=run, learned=4, random=2, coordinate=2, samples=3, port=0, browser=False, device="cpu", precision="fp32"
    )


@pytest.fixture
def serve(config: RateConfig) -> Iterator[Callable[..., RatingServer]]:
    """Starts servers that end with the test."""
    servers, studies = [], []

    def start(settings: RateConfig = config) -> RatingServer:
        study = Study(settings)
        server = RatingServer(Session(study, settings.run / "rating" / "raters"), 0)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        studies.append(study)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
    for study in studies:
        study.close()
