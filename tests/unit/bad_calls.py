"""What programs, visitors of the page and the environment can get wrong: rows of the table in test_bad_input.py."""

import asyncio

import httpx
from bad_requests import RUN

from moodbench import api
from moodbench.app import live, try_it
from moodbench.app.guard import Guard
from moodbench.app.page import TABS, render_tab
from moodbench.app.snapshot import SnapshotReader
from moodbench.app.tab import Services
from moodbench.app.url_state import State
from moodbench.benchmark.context import BackgroundRun
from moodbench.config import load_catalogue
from moodbench.errors import MoodBenchError
from moodbench.hardware import hardware
from moodbench.store import Store

TRIALS = {"models": "majority", "datasets": "icwsm-tweets", "executor": "inline"}


def call(function, *arguments, **given):
    """What a program gets: 2 as a command would end, and the message of the error."""
    try:
        function(*arguments, **given)
    except MoodBenchError as error:
        return 2, str(error)
    return 0, "no error"


def run(**given):
    return lambda: call(api.run, **TRIALS | given)


def classify(texts, **given):
    return lambda: call(lambda: api.load_predictor("majority", "majority").predict(texts, **given))


CALLS = {
    "an unknown model": (run(models="vadr"), ["unknown model 'vadr': did you mean 'vader'?"]),
    "a model that is no name": (run(models=[3]), ["models: is 3, of type int; expected a name"]),
    "no models": (run(models=[]), ["models: Tuple should have at least 1 item"]),
    "datasets that are a number": (run(datasets=3), ["datasets: is 3, of type int; expected a name, or a list of names"]),
    "an unknown executor": (run(executor="slurm"), ["executor: is 'slurm', of type str; expected 'ray' or 'inline'"]),
    "no store": (run(store=None), ["store: is None, of type NoneType; expected a path, as text or pathlib.Path, or a URI"]),
    "an empty store": (run(store=""), ["store"]),
    "a store that is a number": (run(store=3), ["store: is 3, of type int"]),
    "a store with a NUL": (run(store="a\0b"), ["no path has a NUL character"]),
    "seeds in words": (run(seeds="three"), ["seeds: is 'three', of type str; expected a whole number, or a list"]),
    "true for seeds": (run(seeds=True), ["seeds: is True, of type bool"]),
    "a seed that is no number": (run(seeds=[1.5]), ["seeds.0: Input should be a valid integer"]),
    "a negative seed": (run(seeds=[-1]), ["seeds.0: Input should be greater than or equal to 0 (seen: -1)"]),
    "a catalogue that is a mapping": (run(config={"models": {}}), ["config: is {'models': {}}, of type dict; expected a path"]),
    "a cluster file without a cluster": (run(cluster="c.yaml"), ["cluster: is 'c.yaml', of type str; expected None without an address"]),
    "an address that is a number": (run(address=6379), ["address: is 6379, of type int; expected a text"]),
    "a listener that is no function": (run(listen="print"), ["listen: is 'print', of type str; expected a function of one event"]),
    "an unknown field": (run(epochs=3), ["epochs: unknown key"]),
    "an unknown hyper-parameter": (run(train={"lr": 1}), ["train.lr: unknown key"]),
    "a label map that is a list": (run(label_map=["a"]), ["label_map"]),
    "a preset that is not there": (lambda: call(api.run, preset="quick"), ["unknown preset 'quick': did you mean 'quickstart'?"]),
    "a preset of another type": (run(preset=5), ["preset: is 5, of type int; expected a text"]),
    "nothing to run": (lambda: call(api.run), ["models"]),
    "a leaderboard of no store": (lambda: call(api.leaderboard, None), ["store: is None"]),
    "a leaderboard of an unknown dataset": (lambda: call(api.leaderboard, dataset="imdb"), ["unknown dataset in", "'imdb'"]),
    "a leaderboard with weights in a list": (lambda: call(api.leaderboard, weights=["f1"]), ["weights: is ['f1'], of type list"]),
    "a leaderboard with an unknown weight": (lambda: call(api.leaderboard, weights={"speed": 1}), ["unknown weight 'speed'"]),
    "a leaderboard with half a weight": (lambda: call(api.leaderboard, weights={"f1": 0.5}), ["add up to 0.5; allowed is a sum of 1"]),
    "a leaderboard with an unknown composite": (lambda: call(api.leaderboard, composite="best"), ["composite", "best"]),
    "a predictor of nobody": (lambda: call(api.load_predictor, "nobody"), ["unknown model in", "'nobody'"]),
    "a predictor that is a number": (lambda: call(api.load_predictor, 3), ["model: is 3, of type int; expected the name of a model"]),
    "a predictor on a device that is not": (lambda: call(api.load_predictor, "majority", "majority", device="tpu"), ["device: is 'tpu', of type str"]),
    "one text for a list": (classify("a text"), ["list of texts"]),
    "no texts": (classify(None), ["texts is missing or null; expected a list of texts"]),
    "bytes for a text": (classify([b"x"]), ["bytes"]),
    "half an emoji for a text": (classify(["\ud83d"]), ["Unicode"]),
    "a batch of nothing": (classify(["a"], batch_size=0), ["batch_size"]),
}  # fmt: skip
"""Calls of the Python interface, and what the message must say."""


async def _nothing(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def asked(method="GET", path="/", **headers):
    """The status and the text with which the edge of the page's server answers a request."""

    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(app=Guard(_nothing, ("reviews.example.org",)))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7860") as client:
            return await client.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def attempt():
        answered = asyncio.run(answer())
        return answered.status_code, answered.text

    return attempt


def on_tab(key, **state):
    """What a tab of the page shows for a state."""

    def attempt():
        tab = next(tab for tab in TABS if tab.key == key)
        content = render_tab(
            SnapshotReader(Store.open("results"), hardware()), tab, State(tab=key, **state), Services()
        )
        return 200, content.notice + "".join(map(str, content.outputs or ()))

    return attempt


def text(given, **services):
    """What Try it answers to a text."""

    def attempt():
        snapshot = SnapshotReader(Store.open("results"), hardware()).current()
        return 200, try_it.label(snapshot, State(tab="try"), Services(**services), given)

    return attempt


def started(*form):
    """What the form answers that starts a run: preset, models, datasets and the number of seeds."""

    def attempt():
        store = Store.open("results")
        services = Services(runner=BackgroundRun(store, load_catalogue(), hardware()))
        return call(live._start, store, State(tab="live"), services, *form)

    return attempt


PAGES = {
    "a foreign host": (asked(host="evil.example"), 421, ["does not answer to the host 'evil.example'; --allow-host NAME"]),
    "a foreign host with the port": (asked(host="evil.example:7860"), 421, ["does not answer to the host"]),
    "a host that begins like ours": (asked(host="localhost.evil.example"), 421, ["does not answer to the host"]),
    "a host with a user": (asked(host="localhost@evil.example"), 421, ["does not answer to the host"]),
    "no host": (asked(host=""), 421, ["does not answer to the host"]),
    "two hosts": (asked(host="localhost, evil.example"), 421, ["does not answer to the host"]),
    "a foreign host by a proxy": (asked(x_forwarded_host="evil.example"), 421, ["does not answer to the host 'evil.example'"]),
    "another site": (asked("POST", "/gradio_api/run/predict", origin="https://evil.example"), 403, ["only this page itself may send"]),
    "another program of this machine": (asked("POST", "/gradio_api/run/predict", origin="http://127.0.0.1:8888"), 403, ["are refused"]),
    "a site without a name": (asked("POST", "/gradio_api/run/predict", origin="null"), 403, ["'null' are refused"]),
    "a local file": (asked("POST", "/gradio_api/run/predict", origin="file://"), 403, ["'file://' are refused"]),
    "a preflight request": (
        asked("OPTIONS", "/gradio_api/run/predict", origin="https://evil.example", access_control_request_method="POST"),
        403, ["are refused"],
    ),
    "an upload": (asked("POST", "/gradio_api/upload"), 404, ["Not part of this page."]),
    "an upload by another spelling": (asked("POST", "/gradio_api//upload"), 404, ["Not part of this page."]),
    "a way round": (asked("GET", "/gradio_api/run/../upload"), 404, ["Not part of this page."]),
    "a file of another site": (asked("GET", "/gradio_api/file=https://evil.example/x"), 404, ["Not part of this page."]),
    "a proxy for other sites": (asked("GET", "/gradio_api/proxy=https://evil.example/x"), 404, ["Not part of this page."]),
    "a method that nobody needs": (asked("DELETE", "/config"), 404, ["Not part of this page."]),
    "a path of another program": (asked("GET", "/wp-login.php"), 404, ["Not part of this page."]),
    "no latency": (on_tab("which", max_p99_ms=0.0), 200, ["Maximum latency, ms: 0; allowed is a number above 0"]),
    "a negative latency": (on_tab("which", max_p99_ms=-5.0), 200, ["Maximum latency, ms: -5; allowed is a number above 0"]),
    "negative memory": (on_tab("which", max_memory_mib=-0.5), 200, ["Maximum memory, MiB: -0.5; allowed is a number above 0"]),
    "a negative accuracy": (on_tab("which", min_accuracy_percent=-1.0), 200, ["Minimum accuracy, %: -1; allowed is"]),
    "more than all": (on_tab("which", min_accuracy_percent=101.0), 200, ["Minimum accuracy, %: 101; allowed is a number from 0 to 100"]),
    "no text": (text(""), 200, ["Write a text first."]),
    "white space for a text": (text(" \n\t"), 200, ["Write a text first."]),
    "a text of a book": (text("x" * 20_001), 200, ["Your text has 20,001 characters; allowed are up to 20,000"]),
    "a page without models": (text("a fine film"), 200, ["This page was opened without models"]),
    "nothing to start": (started("", [], [], 0), 2, ["Nothing to run: choose a preset, or models and datasets."]),
    "models on no data": (started("", ["vader"], [], 1), 2, ["Nothing to run: choose a preset, or models and datasets."]),
    "a preset that is no text": (started(3, [], [], 1), 2, ["Nothing to run: choose a preset, or models and datasets."]),
    "an unknown preset to start": (started("quick", [], [], 1), 2, ["unknown preset 'quick': did you mean 'quickstart'?"]),
    "too many seeds to start": (started("quickstart", [], [], 1000), 2, ["Seeds: 1000; allowed is a whole number from 0 to"]),
    "half a seed to start": (started("quickstart", [], [], 0.5), 2, ["Seeds: 0.5; allowed is a whole number from 0 to"]),
    "seeds in words to start": (started("quickstart", [], [], "three"), 2, ["Seeds: three; allowed is a whole number"]),
}  # fmt: skip
"""Requests to the page: status of the answer, or 2 where the page shows the message as an error; and what it says."""

ENVIRONMENT = {
    "a checkpoint interval below 0": ({"MOODBENCH_CHECKPOINT_S": "-5"}, RUN, ["MOODBENCH_CHECKPOINT_S='-5': allowed is a number"]),
    "a checkpoint interval that is infinite": ({"MOODBENCH_CHECKPOINT_S": "inf"}, RUN, ["MOODBENCH_CHECKPOINT_S='inf': allowed is"]),
    "a checkpoint interval that is no number": ({"MOODBENCH_CHECKPOINT_S": "nan"}, RUN, ["MOODBENCH_CHECKPOINT_S='nan': allowed is"]),
    "a cluster that does not answer": ({"RAY_ADDRESS": "127.0.0.1:1"}, ["run", "quickstart"], ["RAY_ADDRESS 127.0.0.1:1: nothing answers there"]),
    "a cluster that is no address": ({"RAY_ADDRESS": "nowhere"}, ["run", "quickstart"], ["RAY_ADDRESS", "nowhere", "expected HOST:PORT"]),
    "a job whose store would be lost": (
        {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"},
        ["run", "quickstart", "--address", "127.0.0.1:1"],
        ["--store results: a submitted job runs in a temporary folder"],
    ),
    "a short password": ({"MOODBENCH_APP_PASSWORD": "short"}, ["app", "--user", "me"], ["MOODBENCH_APP_PASSWORD has 5 characters"]),
    "an empty password": ({"MOODBENCH_APP_PASSWORD": ""}, ["app", "--user", "me"], ["MOODBENCH_APP_PASSWORD has 0 characters"]),
    "a cache of nobody": ({"MOODBENCH_CACHE": "~no-such-user/x"}, RUN, ["MOODBENCH_CACHE='~no-such-user/x': ", "write the folder in full"]),
    "a cache in a file": ({"MOODBENCH_CACHE": "a.txt/x"}, RUN, ["MOODBENCH_CACHE=a.txt/x: a.txt is a file; give a folder"]),
    "a user's cache of nobody": (
        {"MOODBENCH_CACHE": "", "XDG_CACHE_HOME": "~no-such-user"}, RUN, ["XDG_CACHE_HOME='~no-such-user': ", "write the folder in full"]
    ),
    "a Kaggle cache of nobody": (
        {"KAGGLEHUB_CACHE": "~no-such-user"}, ["plan", "--models", "vader", "--datasets", "kaggle", "--config", "kaggle.yaml"],
        ["KAGGLEHUB_CACHE='~no-such-user': ", "write the folder in full"],
    ),
}  # fmt: skip
"""Environment variables, a command, and what its message must say; kaggle.yaml has a dataset of Kaggle."""
