"""The house rules that no linter knows."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [
    "errors",
    "locks",
    "fields",
    "types",
    "registry",
    "kernels",
    "scoring",
    "encoders",
    "indexes",
    "collections",
    "evaluation",
    "cli",
]
HEAVY = {"torch", "transformers", "sentence_transformers", "onnxruntime", "bm25s", "ir_measures"}


def imports(path):
    """Modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("folder", ["evaluation", "indexes", "kernels"])
def test_root_folders_hold_nothing_importable(folder):
    # kernels/__init__.py would shadow Hugging Face's package and break `import transformers`.
    assert not list((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", sorted((ROOT / "tokret").rglob("*.py")), ids=str)
def test_arrows_run_down_only(path):
    layer = path.relative_to(ROOT / "tokret").parts[0].removesuffix(".py")
    if layer.startswith("__"):
        return  # the package's face and its command
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "tokret" and len(parts) > 1 and parts[1] in LAYERS:
            assert LAYERS.index(parts[1]) <= LAYERS.index(layer), f"{layer} imports {name}"


def test_every_folder_of_the_package_has_its_layer():
    found = {p.name for p in (ROOT / "tokret").iterdir() if (p / "__init__.py").exists()}
    assert found == {layer for layer in LAYERS if (ROOT / "tokret" / layer).is_dir()}


@pytest.mark.parametrize("module", ["tokret", "tokret.cli", "tokret.encoders", "tokret.scoring"])
def test_importing_is_light(module):
    code = f"import sys, {module}; print(sorted({HEAVY!r} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_no_library_file_loads_what_can_run_code():
    unsafe = {"eval", "exec", "pickle.load", "pickle.loads", "torch.load", "yaml.load"}
    for path in (ROOT / "tokret").rglob("*.py"):
        calls = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
        ]
        for call in calls:
            assert ast.unparse(call.func) not in unsafe, f"{path}:{call.lineno}"
            pickled = [k for k in call.keywords if k.arg == "allow_pickle"]
            assert all(ast.unparse(k.value) == "False" for k in pickled), f"{path}:{call.lineno}"


def test_every_root_folder_says_what_it_is_for():
    for folder in ("evaluation", "indexes", "kernels"):
        assert (ROOT / folder / "README.md").is_file()
