"""A dialogue painted turn by turn: who has ended stands still, and when all have, nothing more is painted."""

import torch

from trainer.systems.film import last_pictures, paint_film

SHAPE = (3, 2, 2)


def counted(rounds: list[int], turns: int) -> tuple[list[list[float]], list[int]]:
    """The films of a painter that adds 1 a turn, a number a picture, and the turns that it was asked for."""
    asked = []

    def paint(number: int, before: torch.Tensor, noise: torch.Tensor, epsilon: torch.Tensor | None) -> torch.Tensor:
        asked.append(number)
        return before + 1

    start = torch.zeros(len(rounds), *SHAPE)
    films = paint_film(start, turns, torch.tensor(rounds), torch.zeros(len(rounds), 4), None, paint)
    assert films.shape == (len(rounds), turns, *SHAPE)
    assert torch.equal(last_pictures(start, films)[:, 0, 0, 0], torch.tensor(rounds).clamp(max=turns).float())
    return films[:, :, 0, 0, 0].tolist(), asked


def test_after_its_last_turn_a_dialogue_keeps_its_picture() -> None:
    assert counted([1, 3], 3) == ([[1, 1, 1], [1, 2, 3]], [0, 1, 2])


def test_nothing_is_painted_when_all_dialogues_have_ended() -> None:
    assert counted([2, 1], 5) == ([[1, 2, 2, 2, 2], [1, 1, 1, 1, 1]], [0, 1])
    assert counted([0, 0], 3) == ([[0, 0, 0], [0, 0, 0]], [])
    assert counted([0], 0) == ([[]], [])
