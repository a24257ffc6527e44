"""A container's limits count, not the machine's size."""

import json

import psutil
import pytest

from store import machine


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setattr(machine, "_OWN", tmp_path / "own")
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: list(range(8)), raising=False)

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_DOT_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu_DOT_max": "max 100000\n"}, 8),
        ({"cpu_DOT_max": "250000 100000\n"}, 3),  # 2.5 cores keep 3 threads busy
        ({"cpu_DOT_max": "50000 100000\n"}, 1),
        ({"cpu_DOT_max": "9900000 100000\n"}, 8),
        ({"cpu__cpu_DOT_cfs_quota_us": "200000\n", "cpu__cpu_DOT_cfs_period_us": "100000\n"}, 2),
        ({"cpu__cpu_DOT_cfs_quota_us": "-1\n", "cpu__cpu_DOT_cfs_period_us": "100000\n"}, 8),
    ],
)
def test_cores(cgroup, files, cores):
    cgroup(**files)
    assert machine.cores() == cores


def test_memory_without_a_container_is_the_machine_s(cgroup):
    assert machine.memory() == psutil.virtual_memory().total
    cgroup(memory_DOT_max="max\n")
    assert machine.memory() == psutil.virtual_memory().total
    assert 0 < machine.available_memory() <= machine.memory()


def test_memory_of_a_container_less_what_it_uses_but_for_the_page_cache(cgroup):
    cgroup(memory_DOT_max="1000000\n", memory_DOT_current="700000\n", memory_DOT_stat="anon 1\ninactive_file 200000\n")
    assert machine.memory() == 1_000_000
    assert machine.available_memory() == 500_000


def test_memory_of_an_old_container(cgroup):
    cgroup(
        memory__memory_DOT_limit_in_bytes="1000000\n",
        memory__memory_DOT_usage_in_bytes="400000\n",
        memory__memory_DOT_stat="cache 9\ntotal_inactive_file 100000\n",
    )
    assert (machine.memory(), machine.available_memory()) == (1_000_000, 700_000)


@pytest.mark.parametrize("old", [True, False])
def test_the_tightest_of_nested_groups_counts(cgroup, old):
    """A job of a cluster's scheduler, or a service, within a container."""
    if old:
        cgroup(
            own="4:memory:/slurm/job_7\n3:cpu,cpuacct:/slurm/job_7\n0::/\n",
            memory__memory_DOT_limit_in_bytes="9223372036854771712\n",
            memory__slurm__memory_DOT_limit_in_bytes="4000000\n",
            memory__slurm__job_7__memory_DOT_limit_in_bytes="5000000\n",
            memory__slurm__job_7__memory_DOT_usage_in_bytes="4500000\n",
            cpu__slurm__job_7__cpu_DOT_cfs_quota_us="300000\n",
            cpu__slurm__job_7__cpu_DOT_cfs_period_us="100000\n",
        )
    else:
        cgroup(
            own="0::/slurm/job_7\n",
            slurm__memory_DOT_max="4000000\n",
            slurm__job_7__memory_DOT_max="5000000\n",
            slurm__job_7__memory_DOT_current="4500000\n",
            slurm__job_7__cpu_DOT_max="300000 100000\n",
        )
    assert machine.memory() == 4_000_000
    assert machine.available_memory() == 500_000
    assert machine.cores() == 3


def test_a_group_outside_of_what_is_mounted_is_not_looked_for(cgroup):
    cgroup(own="0::/../../elsewhere\n", memory_DOT_max="4000000\n", elsewhere__memory_DOT_max="1\n")
    assert machine.memory() == 4_000_000


def test_the_description_goes_into_json():
    about = json.loads(json.dumps(machine.describe()))
    assert about["cores"] == machine.cores()
    assert about["processor"]
