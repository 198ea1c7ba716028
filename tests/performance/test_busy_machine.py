"""Training steps beside other work, with threads that wait asleep against threads that wait awake, as a ratio.

`uv run pytest -s -m performance tests/performance/test_busy_machine.py`; MOODBENCH_REPEATS=5 repeats more often. Both take turns, with
one process that only computes on every core, and without. Nothing is asserted about time; that both end with the same loss is.
"""

import os
import statistics
import subprocess
import sys

import pytest

from moodbench.hardware import hardware

pytestmark = [pytest.mark.performance, pytest.mark.timeout(1800)]
REPEATS = int(os.environ.get("MOODBENCH_REPEATS", "3"))
STEPS = """
import time, torch
from transformers import BertConfig, BertForSequenceClassification
torch.manual_seed(0)
model = BertForSequenceClassification(BertConfig(hidden_size=384, num_hidden_layers=3, num_attention_heads=12,
                                                 intermediate_size=1536, vocab_size=1000, hidden_dropout_prob=0.0,
                                                 attention_probs_dropout_prob=0.0))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
tokens, labels = torch.randint(0, 1000, (16, 32)), torch.randint(0, 2, (16,))
for step in range(12):
    if step == 2:
        began = time.monotonic()
    loss = model(tokens, labels=labels).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
print((time.monotonic() - began) / 10, loss.item())
"""

OTHER = "from moodbench.hardware import die_with_parent\ndie_with_parent()\nwhile True: pass"


def seconds_per_step(policy: str | None) -> tuple[float, float]:
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    environment |= {"OMP_NUM_THREADS": str(hardware().num_cores)} | ({"OMP_WAIT_POLICY": policy} if policy else {})
    done = subprocess.run(
        [sys.executable, "-c", STEPS], env=environment, capture_output=True, text=True, check=True, timeout=900
    )
    seconds, loss = map(float, done.stdout.split())
    return seconds, loss


@pytest.mark.parametrize("busy", [False, True])
def test_ratio_of_steps_with_threads_asleep_and_awake(busy):
    others = [subprocess.Popen([sys.executable, "-c", OTHER]) for _ in range(hardware().num_cores if busy else 0)]
    try:
        pairs = [(seconds_per_step("passive"), seconds_per_step(None)) for _ in range(REPEATS)]
    finally:
        for other in others:
            other.kill()
            other.wait()
    ratios = [asleep[0] / awake[0] for asleep, awake in pairs]
    print(
        f"\n{'busy' if busy else 'quiet'}: a step takes {statistics.median(ratios):.2f} of the time with threads that wait asleep "
        f"({', '.join(f'{ratio:.2f}' for ratio in ratios)}; {hardware().num_cores} cores, load {os.getloadavg()[0]:.1f})"
    )
    assert len({round(loss, 5) for pair in pairs for _, loss in pair}) == 1
