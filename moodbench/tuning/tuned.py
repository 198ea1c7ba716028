"""The name of a search's winner."""


def tuned_name(model: str) -> str:
    """The name under which the winner of a search for `model` stands on the board."""
    return f"{model}-tuned"
