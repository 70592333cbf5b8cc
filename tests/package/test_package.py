"""What is built: a wheel that works by itself in a clean environment, and a whole sdist."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from spikeloom.base.extras import EXTRAS
from spikeloom.program.shipped import shipped_recipes

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LARGEST = 1.25e9
"""Bytes of a plain installation with the CPU build of torch."""

needs_checkout = pytest.mark.skipif(
    not (ROOT / "src" / "spikeloom").is_dir(), reason="needs the sources"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with wheel and sdist, built without network."""
    pytest.importorskip("hatchling")
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", out],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return out


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    (file,) = built.glob("*.whl")
    return file


@needs_checkout
class TestContents:
    def test_the_wheel_holds_recipes_data_and_licences(self, wheel):
        with zipfile.ZipFile(wheel) as archive:
            names = set(archive.namelist())
            for name, file in shipped_recipes():
                inside = f"spikeloom/recipes/{name}.toml"
                assert archive.read(inside) == file.read_bytes()
        wanted = {"py.typed", "data/digits.npz", "data/digits_licence.txt", "data/digits_split.txt"}
        assets = ROOT / "src" / "spikeloom" / "report" / "html" / "assets"
        wanted |= {f"report/html/assets/{path.name}" for path in assets.iterdir()}
        assert {"charts.js", "page.html", "reading.html"} <= {
            path.name for path in assets.iterdir()
        }
        assert {f"spikeloom/{name}" for name in wanted} <= names
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
        assert not any("test" in name.split("/")[0] for name in names)
        for file in (ROOT / "src" / "spikeloom").rglob("*.py"):
            assert file.relative_to(ROOT / "src").as_posix() in names

    def test_the_sdist_holds_tests_docs_and_recipes(self, built):
        (file,) = built.glob("*.tar.gz")
        with tarfile.open(file) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        for folder in ("tests", "docs", "recipes", "src", "benchmarks"):
            there = [
                path.relative_to(ROOT).as_posix()
                for path in (ROOT / folder).rglob("*.*")
                if path.is_file() and "__pycache__" not in path.parts
            ]
            assert there and set(there) <= names, folder
        assert {"LICENSE", "README.md", "CHANGELOG.md", "Makefile", "constraints.txt"} <= names


@needs_checkout
class TestRequirements:
    def test_every_extra_that_an_error_names_exists(self):
        extras = PROJECT["optional-dependencies"]
        for library, extra in EXTRAS.items():
            assert any(line.startswith(library) for line in extras[extra]), library

    def test_all_brings_every_extra_and_dev_brings_all(self):
        extras = PROJECT["optional-dependencies"]
        (line,) = extras["all"]
        named = set(re.findall(r"\w+", line.partition("[")[2]))
        assert named == extras.keys() - {"all", "dev"} == set(EXTRAS.values())
        assert "spikeloom[all]" in extras["dev"]

    def test_a_plain_installation_has_none_of_them(self):
        plain = {re.split(r"[>=<\[]", line)[0] for line in PROJECT["dependencies"]}
        assert not plain & {*EXTRAS, "scikit-learn", "pandas", "huggingface_hub"}

    def test_this_python_is_one_of_those_named(self):
        named = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "3." in line}
        assert f"{sys.version_info.major}.{sys.version_info.minor}" in named


@pytest.mark.slow
@needs_checkout
def test_the_wheel_works_in_a_clean_environment(wheel, tmp_path):
    """Installs torch and the wheel from the registry, and compares in an empty folder."""
    home, empty = tmp_path / "venv", tmp_path / "empty"
    empty.mkdir()
    venv.create(home, with_pip=True)
    bin_ = home / ("Scripts" if sys.platform == "win32" else "bin")
    settings = {name: value for name, value in os.environ.items() if "PYTHON" not in name}

    def run(*words: object) -> str:
        done = subprocess.run(
            [str(word) for word in words],
            cwd=empty,
            env=settings,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    pins = ROOT / "constraints.txt"
    (torch,) = re.findall(r"^torch==.*", pins.read_text("utf-8"), re.MULTILINE)
    run(bin_ / "python", "-m", "pip", "install", "-q", torch)
    run(bin_ / "python", "-m", "pip", "install", "-q", "-c", pins, wheel)
    if run(bin_ / "python", "-c", "import torch; print(torch.version.cuda)") == "None\n":
        files = (file for file in home.rglob("*") if file.is_file() and not file.is_symlink())
        assert sum(file.stat().st_size for file in files) < LARGEST
    assert "demo" in run(bin_ / "spikeloom", "list", "recipes")
    out = run(bin_ / "spikeloom", "compare", "demo", "--seeds", "0", "--quiet")
    assert "BPTT" in out and "pip install 'spikeloom[pages]'" in out
    page = (empty / "runs" / "demo" / "report.html").read_text("utf-8")
    assert "pip install 'spikeloom[pages]'" in page
