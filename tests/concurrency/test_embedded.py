"""Python within a program that has a SIGINT handler of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

HOST = r"""
#include <Python.h>
#include <signal.h>
static volatile sig_atomic_t interrupts = 0;
static void count(int number) { interrupts++; }
int main(int argc, char **argv) {
    signal(SIGINT, count);
    Py_InitializeEx(0);
    int failed = PyRun_SimpleString(argv[1]);
    int during = interrupts;
    raise(SIGINT);
    printf("interrupts: %d during, %d after\n", during, (int)interrupts - during);
    return failed;
}
"""
ASK = """
import os, signal
from IPython.core.interactiveshell import InteractiveShell
from halo_notebook import DemoAgent, evaluate
assert signal.getsignal(signal.SIGINT) is None
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "halo_notebook")
magics = shell.magics_manager.registry["HaloMagics"]
agent = magics.connection.demo = DemoAgent(first_byte_s=0, chunk_s=0).start()

def token():
    os.kill(os.getpid(), signal.SIGINT)
    return "a.b.c"

for setting in (None, token):
    magics.user_id, magics.user_token = ("u_1", token) if setting else (None, None)
    for line in ("ask Hello", "ask Open a ticket"):
        shell.run_line_magic("halo", line)
        assert shell.user_ns["_halo"].status == "complete"
assert list(evaluate(["Hello"], [], progress=False).df["status"]) == ["complete"]
assert signal.getsignal(signal.SIGINT) is None
"""
HEADER = Path(sysconfig.get_path("include")) / "Python.h"
LIBRARY = Path(sysconfig.get_config_var("LIBDIR") or "") / (sysconfig.get_config_var("LDLIBRARY") or "")


@pytest.mark.skipif(
    not (shutil.which("cc") and HEADER.exists() and LIBRARY.suffix == ".so"),
    reason="needs a C compiler, and Python as a library; test_interrupts.py has the same without them",
)
def test_the_hosts_handler_is_left_alone(tmp_path: Path) -> None:
    """Python gives None for it and could not put it back. Replies and evaluations work; it gets Ctrl-C."""
    host = tmp_path / "host"
    (tmp_path / "host.c").write_text(HOST)
    library = f"-lpython{sysconfig.get_config_var('LDVERSION')}"
    folders = [f"-I{HEADER.parent}", f"-L{LIBRARY.parent}", f"-Wl,-rpath,{LIBRARY.parent}"]
    subprocess.run(["cc", *folders, "-o", host, tmp_path / "host.c", library], check=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HALO_")}
    env = clean | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHOME": sys.base_prefix}
    command = [str(host), ASK]
    ran = subprocess.run(
        command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Ticket TM-4217" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "interrupts: 1 during, 1 after"
