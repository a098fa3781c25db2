"""What a process may use of the machine."""

import os

import pytest

from jaxstruct import machine


def test_processor_and_cores():
    assert machine.processor() not in ("", "cpu")
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/job/step", {"job/memory.max": "4096", "job/step/memory.max": "max"}, 4096),
        ("0::/of/the/host", {"memory.max": "8192"}, 8192),  # in a container
        ("0::/job", {"job/memory.max": "max"}, None),
        ("0::/job", {}, None),
        (
            "9:cpu,cpuacct:/a\n4:memory:/b\n0::/",
            {"memory/b/memory.limit_in_bytes": "4096", "memory/a/memory.limit_in_bytes": "1"},
            4096,
        ),
        (None, {}, None),
    ],
)
def test_memory_is_what_a_control_group_leaves(groups, limits, expected, tmp_path, monkeypatch):
    own, root = tmp_path / "proc" / "cgroup", tmp_path / "sys"
    monkeypatch.setattr(machine, "GROUPS_OF_PROCESS", own)
    monkeypatch.setattr(machine, "GROUPS", root)
    if groups is not None:
        write(own, f"{groups}\n")
    for name, limit in limits.items():
        write(root / name, f"{limit}\n")
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert machine.memory() == (expected or installed)
