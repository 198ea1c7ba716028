"""Licences as the Hugging Face hub names them in the header of a model card."""

from __future__ import annotations

import json
import re

_NAMES = """
apache-2.0 mit openrail openrail++ bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 afl-3.0 gemma
bigcode-openrail-m artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0
cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 wtfpl
cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 ecl-2.0 epl-1.0 zlib
cdla-permissive-1.0 cdla-permissive-2.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
lgpl-2.1 lgpl-3.0 lgpl-lr isc lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl osl-3.0 postgresql ofl-1.1 pddl
ncsa unlicense deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4
intel-research
"""
HUB_LICENCES = frozenset(_NAMES.split())
"""Identifiers that the hub accepts, besides `unknown` and `other`.

Source: https://huggingface.co/docs/hub/repositories-licenses.
"""
_ALIASES = {"gemma terms": "gemma", "llama 3.2 community": "llama3.2", "apache 2.0": "apache-2.0"}
_UNKNOWN = ("", "none", "unknown", "not stated", "not specified", "other")


def licence_lines(licence: str | None) -> list[str]:
    """Return the lines of a card's header that state `licence`, always with an identifier that the hub accepts.

    A licence that nobody has checked, or that is not stated, is `unknown`; one that the hub has no identifier for is
    `other` with its name.
    """
    stated = licence or ""
    name = re.sub(r"\s*\([^)]*\)\s*$", "", stated).strip()
    known = _ALIASES.get(name.lower(), name.lower())
    if "unchecked" in stated or "not checked" in stated or known in _UNKNOWN:
        return ['license: "unknown"']
    if known in HUB_LICENCES:
        return [f"license: {json.dumps(known)}"]
    return ['license: "other"', f"license_name: {json.dumps(name)}"]
