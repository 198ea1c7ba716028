"""Names of search winners."""


def tuned_name(model: str, search_id: str) -> str:
    """Return the leaderboard name of the winner of a search for `model`; each search has its own."""
    return f"{model}-tuned-{search_id[:6]}"


def names_a_winner(name: str, model: str, search_id: str) -> bool:
    """Return whether `name` is the name of the search's winner.

    Earlier versions used the same name for the winners of all searches of a model.
    """
    return name in (tuned_name(model, search_id), f"{model}-tuned")
