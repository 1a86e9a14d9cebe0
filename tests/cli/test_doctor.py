"""What doctor says of faiss, whichever is installed."""

import sys
from types import SimpleNamespace

import pytest

from tokret.cli import checks


@pytest.fixture
def installed(monkeypatch):
    """Pretend that these distributions are installed, and that this is what `faiss` holds."""

    def pretend(module, **versions):
        dashed = {name.replace("_", "-"): version for name, version in versions.items()}
        monkeypatch.setattr(checks, "_version", dashed.get)
        monkeypatch.setitem(sys.modules, "faiss", module)
        (found,) = checks._faiss()
        return found

    return pretend


def fake(gpus=None):
    level = SimpleNamespace(get_level_name=lambda: "AVX2")
    module = SimpleNamespace(__version__="1.15.1", SIMDConfig=level, get_num_gpus=lambda: gpus)
    if gpus is not None:
        module.StandardGpuResources = object
    return module


def test_absence_is_no_fault_and_names_the_extras(installed):
    found = installed(None)
    assert found.status == "note" and "not installed" in found.detail
    assert "tokret[faiss]" in found.advice and "tokret[gpu]" in found.advice


def test_faiss_for_cpus_says_version_and_instruction_set(installed):
    found = installed(fake(), faiss_cpu="1.15.1")
    assert found.status == "ok"
    assert found.detail == "faiss-cpu 1.15.1, instruction set AVX2, built for CPUs alone"


def test_faiss_for_gpus_says_how_many_it_sees(installed):
    found = installed(fake(gpus=2), faiss_gpu="1.15.1")
    assert found.status == "ok" and found.detail.endswith("GPUs that it sees: 2")


def test_both_at_once_are_a_conflict(installed):
    found = installed(fake(), faiss_cpu="1.15.1", faiss_gpu="1.15.1")
    assert found.status == "warn" and "overwrite each other" in found.detail
    assert found.advice.startswith("pip uninstall faiss-cpu faiss-gpu")


def test_one_that_cannot_be_imported_is_told_with_its_reason(installed):
    found = installed(None, faiss_gpu="1.15.1")
    assert found.status == "warn" and "cannot be imported: " in found.detail
