"""Checks of networks' arguments, each with a message that says what is allowed."""

from __future__ import annotations


def check_flag(owner: str, name: str, value: bool) -> bool:
    """Return ``value``, or raise ``ValueError`` if it is neither ``True`` nor ``False``."""
    if not isinstance(value, bool):
        raise ValueError(f'{owner} {name}={value!r} is not allowed; give True or False.')
    return value


def check_integer(owner: str, name: str, value: int, low: int, high: int | None = None) -> int:
    """Return ``value``, or raise ``ValueError`` if it is no integer from ``low`` to ``high``."""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not is_integer or value < low or (high is not None and value > high):
        allowed = f'at least {low}' if high is None else f'from {low} to {high}'
        raise ValueError(f'{owner} {name}={value!r} is not allowed; give an integer {allowed}.')
    return value


def check_indices(owner: str, name: str, indices: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Return ``indices`` as a tuple, or raise ``ValueError`` if they are not some of ``count``."""
    is_sequence = isinstance(indices, (tuple, list))
    if not is_sequence or not indices or not all(_is_index(index, count) for index in indices):
        allowed = ', '.join(map(str, range(count)))
        raise ValueError(
            f'{owner} {name}={indices!r} is not allowed; give one or more of {allowed}.'
        )
    if len(set(indices)) != len(indices):
        raise ValueError(f'{owner} {name}={indices!r} names a level twice.')
    return tuple(indices)


def drop_path_rates(owner: str, rate: float, blocks: int) -> list[float]:
    """Rates that rise linearly from 0 over the blocks of a column, the last one being ``rate``.

    Raises:
        ValueError: The rate is not a number from 0 to below 1.
    """
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate < 1:
        raise ValueError(f'{owner} drop_path_rate={rate!r} is not allowed; give 0 <= rate < 1.')
    return [rate * index / max(blocks - 1, 1) for index in range(blocks)]


def _is_index(index: object, count: int) -> bool:
    return isinstance(index, int) and not isinstance(index, bool) and index in range(count)
