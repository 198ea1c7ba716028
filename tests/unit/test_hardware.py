import dataclasses

import pytest

from moodbench.errors import PrerequisiteError
from moodbench.hardware import Gpu, Hardware, environment, gpus_of, hardware

GIB = 2**30
GPU = Gpu(name="Toy GPU", memory_bytes=16 * GIB, driver="1.2", mig="[N/A]", power_limit_w="70.00")
PLAIN = Hardware(cpu="Toy CPU", num_cores=4, memory_bytes=16 * GIB, gpus=(), mps=False)
CUDA = dataclasses.replace(PLAIN, gpus=(GPU,))
APPLE = dataclasses.replace(PLAIN, cpu="Toy M1", mps=True)
KEY = PLAIN.perf_key("cpu", 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"cpu": "Other CPU"},
        {"num_cores": 8},
        {"memory_bytes": 32 * GIB},
        {"gpus": (GPU,)},
        {"mps": True},
    ],
)
def test_other_hardware_has_another_key(changes):
    assert dataclasses.replace(PLAIN, **changes).perf_key("cpu", 4) != KEY


@pytest.mark.parametrize(
    "changes",
    [{"name": "Other"}, {"driver": "1.3"}, {"power_limit_w": "50.00"}, {"mig": "Enabled"}, {"memory_bytes": GIB}],
)
def test_another_gpu_driver_or_power_limit_has_another_key(changes):
    other = dataclasses.replace(PLAIN, gpus=(dataclasses.replace(GPU, **changes),))
    assert other.perf_key("cuda", 4) != CUDA.perf_key("cuda", 4)


def test_other_threads_and_devices_have_other_keys():
    assert len({CUDA.perf_key(device, threads) for device in ("cpu", "cuda") for threads in (1, 2, 4)}) == 6


@pytest.mark.parametrize("mebibytes", [-100, -3, 3, 100])
def test_a_few_mebibytes_between_boots_change_no_key(mebibytes):
    other = dataclasses.replace(PLAIN, memory_bytes=16 * GIB + mebibytes * 2**20)
    assert other.perf_key("cpu", 4) == KEY == dataclasses.replace(PLAIN).perf_key("cpu", 4)


@pytest.mark.parametrize(("machine", "best"), [(PLAIN, "cpu"), (CUDA, "cuda"), (APPLE, "mps")])
def test_the_best_device_is_taken_unless_another_is_asked_for(machine, best):
    assert machine.device() == machine.device("auto") == machine.device(best) == best
    assert machine.device("cpu") == "cpu"


@pytest.mark.parametrize(("machine", "device"), [(PLAIN, "cuda"), (PLAIN, "mps"), (CUDA, "mps"), (APPLE, "cuda")])
def test_a_device_that_is_not_here_is_refused_with_what_to_choose(machine, device):
    with pytest.raises(PrerequisiteError, match=f"device {device}: .* ; choose auto or cpu"):
        machine.device(device)


@pytest.mark.parametrize(
    ("machine", "device", "name"),
    [(PLAIN, "cpu", "Toy CPU, 4 cores"), (CUDA, "cuda", "Toy GPU"), (CUDA, "cpu", "Toy CPU, 4 cores"), (APPLE, "mps", "Toy M1 GPU")],
)  # fmt: skip
def test_a_device_has_the_name_that_its_owner_knows(machine, device, name):
    assert machine.device_name(device) == name


def test_this_machine_is_what_the_operating_system_says():
    psutil = pytest.importorskip("psutil")
    here = hardware()
    assert here is hardware()
    assert here.memory_bytes == psutil.virtual_memory().total
    assert 1 <= here.num_cores <= psutil.cpu_count()


def test_the_environment_of_a_record_names_the_hardware_and_the_versions():
    from importlib.metadata import version

    facts = environment("cpu")
    assert facts["hardware"] == dataclasses.asdict(hardware())
    assert facts["libraries"]["torch"] == version("torch")


@pytest.mark.parametrize(
    ("capability", "has_it"), [("8.0", True), ("8.6", True), ("9.0", True), ("12.0", True), ("7.5", False), ("", False)]
)
def test_bf16_is_in_hardware_from_compute_capability_8_on(capability, has_it):
    card = dataclasses.replace(GPU, compute_capability=capability)
    assert card.bf16 == has_it == dataclasses.replace(PLAIN, gpus=(card,)).multiplies_bf16("cuda")
    assert not dataclasses.replace(PLAIN, gpus=(card, GPU)).multiplies_bf16("cuda"), "a fit may meet either"
    assert not PLAIN.multiplies_bf16("cuda")
    assert dataclasses.replace(PLAIN, cpu_bf16=True).multiplies_bf16("cpu") and not PLAIN.multiplies_bf16("cpu")
    assert dataclasses.replace(PLAIN, cpu_bf16=True).machine_key == PLAIN.machine_key, "it follows from the name"


def test_the_compute_capability_changes_no_key():
    known = dataclasses.replace(PLAIN, gpus=(dataclasses.replace(GPU, compute_capability="8.6"),))
    assert known.perf_key("cuda", 4) == CUDA.perf_key("cuda", 4) == "589cb35fc66f08046d30"


def test_a_driver_that_does_not_tell_capabilities_still_lists_its_devices():
    lines = ["NVIDIA A10G, 23028, 550.1, [N/A], 300.00", "Tesla T4, 15360, 550.1, [N/A], 70.00"]
    assert [(g.name, g.compute_capability) for g in gpus_of(lines, ["8.6", " 7.5"])] == [
        ("NVIDIA A10G", "8.6"), ("Tesla T4", "7.5")
    ]  # fmt: skip
    assert [g.compute_capability for g in gpus_of(lines, [])] == ["", ""]
    assert gpus_of([], []) == ()
