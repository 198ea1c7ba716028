"""The name of a search's winner."""


def tuned_name(model: str, search_id: str) -> str:
    """The name under which the winner of that search for `model` stands on the board; another search gives another."""
    return f"{model}-tuned-{search_id[:6]}"


def names_a_winner(name: str, model: str, search_id: str) -> bool:
    """Whether `name` is that of the search's winner; earlier versions called the winners of all searches of a model alike."""
    return name in (tuned_name(model, search_id), f"{model}-tuned")
