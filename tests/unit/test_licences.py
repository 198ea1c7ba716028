"""The licence in the header of an exported card is one that the hub accepts, and is known to be right or called unknown."""

import pytest
import yaml

from moodbench.config import load_catalogue
from moodbench.serving.export import HUB_LICENCES, licence_lines


@pytest.mark.parametrize(
    ("stated", "header"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("MIT", {"license": "mit"}),
        ("Apache-2.0 (card)", {"license": "apache-2.0"}),
        ("Apache-2.0 (unchecked)", {"license": "unknown"}),
        ("Gemma terms (unchecked)", {"license": "unknown"}),
        ("Gemma terms", {"license": "gemma"}),
        ("not stated (card says unknown)", {"license": "unknown"}),
        ("not stated", {"license": "unknown"}),
        ("", {"license": "unknown"}),
        (None, {"license": "unknown"}),
        ('House "rules": v2', {"license": "other", "license_name": 'House "rules": v2'}),
    ],
)
def test_a_licence_becomes_an_identifier_of_the_hub(stated, header):
    assert yaml.safe_load("\n".join(licence_lines(stated))) == header


def test_every_licence_of_the_catalogue_is_valid_in_a_card():
    for name, entry in load_catalogue().models.items():
        header = yaml.safe_load("\n".join(licence_lines(entry.licence)))
        assert header["license"] in HUB_LICENCES | {"unknown"}, name
        assert (header["license"] == "unknown") == any(word in entry.licence for word in ("unchecked", "not stated")), (
            name
        )
