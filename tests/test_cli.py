"""The command line: exit codes, one readable sentence per error, and options that work anywhere."""

import os
import subprocess
import sys

import pytest

import idx


def run_idx(*arguments):
    # A wide terminal, so that a sentence stays on one line.
    environment = {**os.environ, "COLUMNS": "240", "NO_COLOR": "1"}
    code = "import sys; from idx.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, env=environment)


def test_version():
    assert run_idx("--version").stdout.strip() == f"idx {idx.__version__}"


def test_no_command_prints_help():
    result = run_idx()
    assert "Commands" in result.stdout + result.stderr


def test_missing_option_is_a_usage_error():
    result = run_idx("run", "--ct", "x")
    assert result.returncode == 2
    assert "--mask" in result.stderr


@pytest.mark.parametrize("flags", [(), ("--quiet",)])
def test_bad_input_is_one_sentence_and_exit_code_1(tmp_path, flags):
    missing = tmp_path / "nothing"
    result = run_idx("info", missing, *flags)
    assert result.returncode == 1
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert "nothing" in lines[0]


def test_debug_shows_the_traceback(tmp_path):
    result = run_idx("info", tmp_path / "nothing", "--debug")
    assert result.returncode == 1
    assert "Traceback" in result.stderr


@pytest.mark.parametrize(("room", "word"), [("radiomics", "YEKZ"), ("histology", "um2")])
def test_feature_lists_have_units_and_codes(room, word):
    result = run_idx(room, "features")
    assert result.returncode == 0
    assert word in result.stdout


def test_error_text_with_brackets_is_printed_as_it_is(tmp_path):
    result = run_idx("info", tmp_path / "[bold]x[/bold]")
    assert "[bold]x[/bold]" in result.stderr
