import dataclasses

import pytest

from moodbench.errors import PrerequisiteError
from moodbench.hardware import (
    CgroupLimits,
    Gpu,
    Hardware,
    cgroup_limits,
    environment,
    free_memory_bytes,
    gpus_of,
    hardware,
)
from moodbench.models.device import check_cards

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
    assert here.memory_bytes <= psutil.virtual_memory().total
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


A10G = "NVIDIA A10G, 23028, 550.1, [N/A], 300.00, GPU-aaaa1111"
T4 = "Tesla T4, 15360, 550.1, [N/A], 70.00, GPU-bbbb2222"


def test_a_driver_that_does_not_tell_capabilities_still_lists_its_devices():
    lines = [A10G, T4]
    assert [(g.name, g.compute_capability) for g in gpus_of(lines, ["8.6", " 7.5"])] == [
        ("NVIDIA A10G", "8.6"), ("Tesla T4", "7.5")
    ]  # fmt: skip
    assert [g.compute_capability for g in gpus_of(lines, [])] == ["", ""]
    assert [g.compute_capability for g in gpus_of(lines, ["[N/A]", "7.5"])] == ["", "7.5"]
    assert gpus_of([], []) == ()


def test_what_the_driver_does_not_tell_is_no_error():
    spark = "NVIDIA GB10, [N/A], 580.1, [N/A], [N/A], GPU-cccc"
    lost = "NVIDIA A10G, [GPU requires reset], 550.1, [N/A], 300.00, GPU-dddd"
    (unified,) = gpus_of(
        [spark, lost, "Unable to determine the device handle for GPU0: Unknown Error"], [], None, 128 * GIB
    )
    assert (unified.name, unified.memory_bytes, unified.unified) == ("NVIDIA GB10", 128 * GIB, True)
    (commas,) = gpus_of(["Toy, GPU, 100, 1, [N/A], 5, GPU-e"], [])
    assert (commas.name, commas.memory_bytes) == ("Toy, GPU", 100 * 2**20)


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ["NVIDIA A10G", "Tesla T4"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1", ["Tesla T4"]),
        ("1, 0", ["Tesla T4", "NVIDIA A10G"]),
        ("0,7,1", ["NVIDIA A10G"]),
        ("0,0", []),
        ("GPU-bbbb", ["Tesla T4"]),
        ("GPU-", []),
        ("MIG-bbbb2222", []),
    ],
)
def test_cuda_visible_devices_counts_as_in_cuda(visible, names):
    assert [gpu.name for gpu in gpus_of([A10G, T4], ["8.6", "7.5"], visible)] == names


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ("8.6", ["sm_80"], True),
        ("8.0", ["sm_86"], False),
        ("9.0", ["sm_80", "sm_86"], False),
        ("9.0", ["sm_80", "compute_86"], True),
        ("6.1", ["sm_75", "sm_80", "sm_90", "compute_90"], False),
        ("12.0", ["sm_100", "sm_120"], True),
        ("9.0", ["sm_90a"], True),
        ("9.1", ["sm_90a", "compute_90a"], False),
        ("", ["sm_90"], True),
        ("5.0", [], True),
        ("9.0", ["gfx90a", "gfx1100"], True),
        ("8.0", ["gfx90a", "sm_90"], False),
        ("9.0", ["sm_", "sm_9", "compute_x", ""], True),
    ],
)
def test_a_card_runs_what_torch_was_built_for(capability, architectures, runs):
    assert dataclasses.replace(GPU, compute_capability=capability).runs(architectures) == runs


def test_a_card_that_torch_cannot_use_is_refused_with_what_to_do():
    old, new = (dataclasses.replace(GPU, name=n, compute_capability=c) for n, c in (("Old", "6.1"), ("New", "8.6")))
    check_cards((new,), ["sm_80"], "2.9")
    check_cards((), [], "2.9")
    with pytest.raises(
        PrerequisiteError, match=r"Old has compute capability 6.1, torch 2.9 is built for sm_80; .*--device cpu"
    ):
        check_cards((new, old), ["sm_80"], "2.9")
    with pytest.raises(PrerequisiteError, match=r"finds no CUDA device, though nvidia-smi lists New: .* driver 1.2"):
        check_cards((new,), [], "2.9+cpu")


def written(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return cgroup_limits(root)


V2 = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n", "sys/fs/cgroup/memory.max": "max\n"}


def test_without_a_limit_there_is_none(tmp_path):
    assert written(tmp_path, V2) == (None, None, None)
    assert cgroup_limits(tmp_path / "no such system") == (None, None, None)


def test_the_limits_of_control_group_2_are_those_of_the_container(tmp_path):
    files = {
        "sys/fs/cgroup/cpu.max": "150000 100000\n", "sys/fs/cgroup/memory.max": f"{4 * GIB}\n",
        "sys/fs/cgroup/memory.current": f"{3 * GIB}\n", "sys/fs/cgroup/memory.stat": f"anon 5\ninactive_file {GIB}\n",
    }  # fmt: skip
    assert written(tmp_path, V2 | files) == (1.5, 4 * GIB, 2 * GIB)


def test_the_strictest_limit_of_the_group_and_its_parents_counts(tmp_path):
    files = {
        "proc/self/cgroup": "0::/slice/job\n", "sys/fs/cgroup/slice/cpu.max": "200000 100000\n",
        "sys/fs/cgroup/slice/job/cpu.max": "400000 100000\n", "sys/fs/cgroup/slice/job/memory.max": "1000\n",
        "sys/fs/cgroup/slice/job/memory.current": "1500\n", "sys/fs/cgroup/slice/memory.max": "2000\n",
        "sys/fs/cgroup/slice/memory.current": "1500\n",
    }  # fmt: skip
    assert written(tmp_path, files) == (2.0, 1000, 0)


def test_the_limits_of_control_group_1_are_read_also_inside_a_container(tmp_path):
    files = {
        "proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n1:name=systemd:/docker/abc\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "300000\n", "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
        "sys/fs/cgroup/memory/memory.stat": "inactive_file 7\ntotal_inactive_file 1000\n",
    }  # fmt: skip
    assert written(tmp_path, files) == (3.0, 2 * GIB, GIB + 1000)
    unlimited = {
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    }
    assert written(tmp_path, unlimited) == (None, None, None)


def test_a_limit_is_part_of_the_machines_key():
    limited = dataclasses.replace(PLAIN, num_cores=1, cpu_quota=1.5, memory_bytes=4 * GIB)
    others = [
        dataclasses.replace(limited, **change)
        for change in ({"cpu_quota": None}, {"cpu_quota": 1.0}, {"memory_bytes": 2 * GIB})
    ]
    assert len({machine.machine_key for machine in (limited, *others, PLAIN)}) == 5
    assert Hardware.from_json(dataclasses.asdict(limited)) == limited


def test_this_machine_has_what_its_control_group_leaves(monkeypatch):
    limits = CgroupLimits(cpus=1.5, memory_bytes=GIB, free_bytes=GIB // 4)
    monkeypatch.setattr("moodbench.hardware.cgroup_limits", lambda: limits)
    here = hardware.__wrapped__()
    assert (here.num_cores, here.memory_bytes, here.cpu_quota) == (1, GIB, 1.5)
    assert free_memory_bytes() == GIB // 4
