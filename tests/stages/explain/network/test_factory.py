"""A user's code may do anything when it is imported or called; none of it ends the run or speaks in its name."""

import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torchvision

import storage
from stages.explain.network.factory import call_factory, code_of
from storage.errors import UserError

ROOT = Path(__file__).parents[4]
NET = "from tests.stages.explain.networks import tiny\n"


MAIN = '; what a script does belongs below if __name__ == "__main__"'
FILE = "; write python:path/to/file.py:factory, a file that can be imported and a function in it"
ALONE = "; a file is imported by itself: write python:package.module:factory"


def refused(path):
    with pytest.raises(UserError) as caught:
        call_factory(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module into an empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])

    def _write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return _write


def test_a_factory_is_found_by_its_file_with_what_lies_beside_it(write):
    write("layers_of_mine.py", "CLASSES = 4\n")
    file = write(
        "nets/model.py",
        NET
        + "from dataclasses import dataclass\nimport beside_it\n"
        + "@dataclass\nclass Sizes:\n    classes: int = beside_it.CLASSES\n"
        + "def make():\n    return tiny(classes=Sizes().classes)\n",
    )
    write("nets/beside_it.py", "CLASSES = 4\n")
    before = list(sys.path)
    assert call_factory(f"{file}:make")[0].head.out_features == 4
    assert call_factory("nets/model.py:make")[0].head.out_features == 4
    assert sys.path == before


def test_a_file_may_have_any_name(write):
    file = write("storage.py", NET + "make = tiny\n")
    assert call_factory(f"{file}:make")[0].head.out_features == 5
    assert sys.modules["storage"] is storage


@pytest.mark.parametrize(
    ("text", "said", "remedy"),
    [
        ("import sys; sys.exit()", "it ends the program with sys.exit(None)", MAIN),
        ("import sys; sys.exit(0)", "it ends the program with sys.exit(0)", MAIN),
        ("raise SystemExit('no license')", "it ends the program with sys.exit('no license')", MAIN),
        (
            "import argparse; p = argparse.ArgumentParser(); p.add_argument('--data', required=True); p.parse_args()",
            "it ends the program with sys.exit(2): ",
            MAIN,
        ),
        ("import torch.missing_things", "ModuleNotFoundError: No module named 'torch.missing_things'", FILE),
        ("1 / 0", "ZeroDivisionError: division by zero", FILE),
        ("raise RuntimeError('x' * 5000)", f"RuntimeError: {'x' * 200} ...; ", FILE),
        ("raise ValueError", "ValueError; ", FILE),
        ("def make(:", "SyntaxError: ", FILE),
        ("model = None", "AttributeError: module '_factory_broken' has no attribute 'make'", FILE),
        ("from .layers import x", "ImportError: attempted relative import with no known parent package", ALONE),
    ],
)
def test_what_happens_at_import_is_told(write, text, said, remedy, capsys):
    message = refused(f"{write('broken.py', text)}:make")
    assert message.startswith(f"model.source python:{write('broken.py', text)}:make: {said}")
    assert message.endswith(remedy)
    assert capsys.readouterr().err == ""  # argparse printed a usage, which is not ours


def test_argparse_gives_its_last_word(write):
    text = "import argparse; p = argparse.ArgumentParser(); p.add_argument('--data', required=True); p.parse_args()"
    assert "the following arguments are required: --data" in refused(f"{write('broken.py', text)}:make")


def test_argparse_at_import_sees_its_defaults_and_not_our_command_line(write, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sightline", "run", "my.yaml"])
    file = write(
        "train.py",
        NET + "import argparse\np = argparse.ArgumentParser()\np.add_argument('--classes', type=int, default=3)\n"
        "args = p.parse_args()\ndef make():\n    return tiny(classes=args.classes)\n",
    )
    assert call_factory(f"{file}:make")[0].head.out_features == 3
    assert sys.argv == ["sightline", "run", "my.yaml"]


def test_an_exit_in_the_factory_is_told(write):
    file = write("model.py", "import sys\ndef make():\n    sys.exit(3)\n")
    assert refused(f"{file}:make") == (
        f"model.source python:{file}:make: the factory raised it ends the program with sys.exit(3)"
    )


def test_ctrl_c_stays_ctrl_c(write):
    file = write("model.py", "def make():\n    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        call_factory(f"{file}:make")


def test_what_a_factory_prints_on_standard_error_is_shown(write, capsys):
    file = write("model.py", NET + "import sys\ndef make():\n    print('no GPU', file=sys.stderr)\n    return tiny()\n")
    call_factory(f"{file}:make")
    assert capsys.readouterr().err == "no GPU\n"


def test_a_missing_file_is_named(tmp_path):
    assert f"there is no file {tmp_path / 'gone.py'}" in refused(f"{tmp_path / 'gone.py'}:make")


@pytest.mark.parametrize("path", ["my.module", ":make", "my.module:"])
def test_a_path_without_a_factory_gets_both_forms(path):
    assert refused(path) == (
        f"model.source python:{path} names no factory; write python:package.module:factory or "
        "python:path/to/file.py:factory"
    )


@pytest.mark.parametrize("source", ["storage.net:make", "train.py:make"])
def test_a_package_of_the_user_s_with_one_of_our_names_is_told_with_both_places(write, source):
    write("storage/__init__.py", "")
    write("storage/net.py", NET + "make = tiny\n")
    write("train.py", "from storage.net import make\n")
    message = refused(source)
    theirs, ours = re.escape(str(write("storage/__init__.py", "").parent)), re.escape(storage.__path__[0])
    assert re.search(
        rf"No module named 'storage\.net'; {theirs} has the name of Sightline's own package {ours}, which is imported "
        r"in its place: rename yours, or name a file that does not import it",
        message,
    )


NET_OF_TWO_FILES = """
from torch import nn
import {parts}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = {parts}.Body()

    def forward(self, x):
        return self.body(x)

def make():
    return Net()
"""
BODY = """
import torch
from torch import nn

class Body(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4, padding=1), nn.ReLU())
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return 9 * self.head(self.features(x).mean((2, 3))) - 2
"""


def digest_in_a_process_of_its_own(file: Path) -> str:
    code = (
        "from stages.explain.network.model import ModelSettings, load_classifier; import sys;"
        "print(load_classifier(ModelSettings(source=sys.argv[1]), 32).digest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"python:{file}:make"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_digest_of_a_network_is_also_that_of_the_files_of_its_classes(tmp_path):
    model, parts = tmp_path / "model.py", tmp_path / "digest_parts.py"
    model.write_text(NET_OF_TWO_FILES.format(parts="digest_parts"))
    parts.write_text(BODY)
    first, again = digest_in_a_process_of_its_own(model), digest_in_a_process_of_its_own(model)
    assert first == again
    parts.write_text(BODY.replace(".mean(", ".flip(1).mean("))  # nothing of it is seen in the weights, or printed
    flipped = digest_in_a_process_of_its_own(model)
    model.write_text(NET_OF_TWO_FILES.format(parts="digest_parts").replace("self.body(x)", "-self.body(x)"))
    negated = digest_in_a_process_of_its_own(model)
    assert len({first, flipped, negated}) == 3
    (tmp_path / "elsewhere.py").write_text("unused = 1")
    assert digest_in_a_process_of_its_own(model) == negated


def test_a_module_that_was_edited_after_it_was_imported_has_the_digest_of_what_runs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "edited_parts.py").write_text(BODY)
    (tmp_path / "edited_model.py").write_text(NET_OF_TWO_FILES.format(parts="edited_parts"))
    before = code_of(*call_factory("edited_model:make"))
    (tmp_path / "edited_parts.py").write_text(BODY.replace(".mean(", ".flip(1).mean("))
    assert code_of(*call_factory("edited_model:make")) == before


def test_packages_count_by_their_weights_alone():
    factory = types.ModuleType("made_by_hand")
    assert code_of(torchvision.models.squeezenet1_1(num_classes=3), factory) == ""
