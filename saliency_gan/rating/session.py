"""The questions and answers of the page. Nothing in them shows which kind a direction is."""

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from saliency_gan.directions.annotation import clean_name, rename
from saliency_gan.directions.gallery import GALLERY_SHIFTS
from saliency_gan.errors import StageError, UserError
from saliency_gan.rating.answers import Answer, clean_rater, load_answers, now, save_answers
from saliency_gan.rating.study import RatedDirection, Study, digest_of
from saliency_gan.results.directions import load_directions
from saliency_gan.storage.locks import lock_folder

FIELDS = {"rater": str, "position": int, "consistent": bool, "one_factor": bool, "name": str}
"""Fields of an answer and their types."""


class Session:
    """Raters and their answers while the page is served.

    The page knows only a direction's position in the rater's order.

    Args:
        study: The rated directions.
        folder: Folder of the raters' files.
    """

    def __init__(self, study: Study, folder: Path) -> None:
        self._study = study
        self._folder = folder
        self._shown: set[tuple[str, str]] = set()
        self._copied: dict[int, tuple[str, str]] = {}  # column -> rater and name, as copied into directions.json
        self._writing = threading.Lock()
        self.saved = 0

    def describe(self) -> dict[str, Any]:
        """The number of directions, what a sheet shows, and the rater's name if it is set."""
        config = self._study.config
        return {
            "directions": len(self._study.directions),
            "rows": config.samples,
            "shifts": list(GALLERY_SHIFTS),
            "rater": config.rater and clean_rater(config.rater),
        }

    def answers_of(self, rater: str) -> dict[str, Any]:
        """The rater's stored name, and an answer or None for every position.

        Raises:
            UserError: If the name cannot be used or the rater's file is damaged.
        """
        rater = clean_rater(rater)
        answers = load_answers(self._folder, rater)
        given = (answers.get(direction.id) for direction in self._study.order_of(rater))
        return {"rater": rater, "answers": [answer and _shown_answer(answer) for answer in given]}

    def sheet(self, rater: str, position: int) -> bytes:
        """The sheet of a position as JPEG.

        Raises:
            UserError: If there is no such rater or position.
        """
        rater = clean_rater(rater)
        direction = self._direction(rater, position)
        sheet = self._study.sheet(rater, direction)
        self._shown.add((rater, direction.id))
        return sheet

    def take(self, body: Any) -> dict[str, Any]:
        """Saves an answer that the page sent.

        Args:
            body: The values of FIELDS.

        Returns:
            The number of directions that this rater has answered.

        Raises:
            UserError: If a value is missing, of another type or out of range, or the images were never shown.
        """
        if not isinstance(body, dict) or body.keys() != FIELDS.keys():
            raise UserError(f"An answer holds {', '.join(FIELDS)}.")
        for field, kind in FIELDS.items():
            if type(body[field]) is not kind:
                raise UserError(f"{field} has to be of type {kind.__name__}.")
        rater = clean_rater(body["rater"])
        direction = self._direction(rater, body["position"])
        if (rater, direction.id) not in self._shown:
            raise UserError("Nobody has looked at this direction's images yet: load the page again.")
        name = clean_name(body["name"]) if body["name"].strip() else ""
        with self._writing:
            answers = load_answers(self._folder, rater)
            before = answers.get(direction.id)
            answers[direction.id] = Answer(body["consistent"], body["one_factor"], name, now())
            save_answers(self._folder, rater, answers)
            self.saved += 1
            self._offer_name(direction, name, before.name if before else "", rater)
        return {"answered": len(answers)}

    def _direction(self, rater: str, position: int) -> RatedDirection:
        order = self._study.order_of(rater)
        if not 0 <= position < len(order):
            raise UserError(f"There is no position {position}: give 0 to {len(order) - 1}.")
        return order[position]

    def _offer_name(self, direction: RatedDirection, name: str, before: str, rater: str) -> None:
        """Copies a name into directions.json.

        It is not copied if somebody else has named this direction, if another direction has this name, if another
        process works with the directions, or if they were trained further. Baselines have no names there. The page gets
        no message, not even if the file cannot be written, because that would show which kind the direction is.
        """
        folder = self._study.found.folder
        if direction.kind != "learned" or folder.parent != self._study.config.run or name == before:
            return
        with suppress(UserError, StageError), lock_folder(folder, "--run"):
            directions = load_directions(folder)
            own = directions.own_name(direction.index)
            present = directions.names.get(direction.index, "").removeprefix(own).removeprefix(": ")
            full = f"{own}: {name}" if own and name else name
            same = digest_of(directions.matrix) == digest_of(self._study.found.directions.matrix)
            is_own = present == "" or self._copied.get(direction.index) == (rater, present)
            if same and is_own and full not in directions.names.values():
                rename(folder, direction.index, name or None)
                self._copied[direction.index] = (rater, name)


def _shown_answer(answer: Answer) -> dict[str, Any]:
    return {"consistent": answer.consistent, "one_factor": answer.one_factor, "name": answer.name}
