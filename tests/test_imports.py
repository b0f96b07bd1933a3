import ast
import subprocess
import sys
from pathlib import Path

import unfreeze

SOURCE = Path(unfreeze.__file__).parent
HEAVY = ("torch", "transformers", "peft", "datasets", "sklearn", "scipy", "plotly", "pyarrow", "ray")

# What each room may import besides itself; docs/decisions.md says why where it is not the plan.
ROOMS = {
    "errors": set(),
    "records": {"errors"},
    "section": {"errors"},
    "recipe": {"section"},
    "study": {"recipe", "section", "errors"},
    "studydir": {"records", "errors"},
    "datasets": {"study", "records", "errors"},
    "strategies": {"study", "section", "errors"},
    "analysis": {"studydir", "study", "records", "errors"},
    "report": {"analysis", "studydir", "study", "records", "errors"},
    "training": {"recipe", "strategies", "datasets", "analysis", "studydir", "study", "records", "errors"},
    "grid": {"recipe", "report", "training", "strategies", "datasets", "analysis"}
    | {"studydir", "study", "records", "errors"},
    "display": {"report", "study"},
    "progress": {"display", "report"},
    "cli": {"progress", "display", "grid", "report", "training", "datasets", "studydir", "study", "errors"},
    "__main__": {"cli"},
    "__init__": {"grid", "report", "datasets", "study", "errors"},
}


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def loaded(code):
    return run(f"import sys\n{code}\nprint(sorted(set({HEAVY}) & set(sys.modules)))")


def test_the_package_and_its_help_are_light():
    assert loaded("import unfreeze, unfreeze.cli") == "[]"
    assert loaded(
        "import sys, unfreeze.cli as c\nsys.argv=['unfreeze','--help']\ntry: c.main()\nexcept SystemExit: pass"
    ).endswith("[]")


def test_validation_and_reports_do_not_import_torch():
    assert "torch" not in loaded("from unfreeze import load_study; load_study('demo')")
    assert "torch" not in loaded("import unfreeze.report, unfreeze.analysis.compare, unfreeze.datasets")
    assert "torch" not in loaded("from unfreeze.strategies import make_strategy; make_strategy('lora', {})")


def test_public_names():
    assert unfreeze.__all__ == sorted(unfreeze.__all__)
    assert set(unfreeze.__all__) == set(unfreeze._HOME)
    for name in unfreeze.__all__:
        assert getattr(unfreeze, name).__name__ == name


def test_imports_point_one_way():
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                parts = name.split(".")
                if parts[0] == "unfreeze" and len(parts) > 1 and parts[1] != room:
                    assert parts[1] in ROOMS[room], f"{path.relative_to(SOURCE)} imports {name}"
