"""A reply in a console, in an output widget, in a capture, and in VS Code."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import ipywidgets
import pytest

from halo_notebook.magics.front_end import in_notebook, takes_updates

from ..harness.cells import LOAD_FAST, SEED, evaluated, html, plain
from ..harness.kernels import Kernel

if TYPE_CHECKING:
    from ..harness.kernels import CellResult

pytestmark = pytest.mark.kernel
END = "build a funnel from it?"  # of the reply to SEED


def shown_without_updates(result: CellResult) -> str:
    """What a console shows of a cell: streams and plain text, and no update of any output."""
    texts = []
    for message in result.messages:
        if message.msg_type == "stream":
            texts.append(message.content["text"])
        elif message.msg_type in ("display_data", "execute_result"):
            texts.append(message.content["data"].get("text/plain", "") + "\n")
    return "".join(texts)


@pytest.mark.parametrize(
    ("cell", "action"),
    [(f"%halo ask {SEED}", True), (f"%%halo\n{SEED}", True), (f"%%halo --no-stream\n{SEED}", False)],
)
def test_a_console_shows_the_text_once_as_it_arrives(shared: Kernel, cell: str, action: bool) -> None:
    """Qtconsole, jupyter console and Spyder ignore updates: text and actions are printed there."""
    shown = shown_without_updates(shared.run(cell, console=True))
    assert shown.count("Happy to help!") == shown.count(END) == 1
    assert shown.count("[action 1: highlight]\n{") == int(action)
    assert "connecting" not in shown
    assert shown.splitlines()[-1].startswith("[demo agent · agent agent_demo")


def test_a_console_shows_the_text_while_it_arrives(shared: Kernel) -> None:
    """And an interrupt keeps it."""
    running = shared.start("%halo ask /fault stall", console=True)
    running.wait_for(lambda cell: "stalls" in str(cell.outputs), "the text")
    assert [output["output_type"] for output in running.outputs] == ["stream"]
    shared.interrupt()
    result = running.result()
    assert (result.ename, len(result.traceback)) == ("ReplyStopped", 1)
    assert "stopped" in shown_without_updates(result)


@pytest.mark.parametrize("command", ["history", "status", "help", "sessions", ""])
def test_a_console_shows_what_a_command_shows(shared: Kernel, command: str) -> None:
    """As plain text, and nothing else."""
    shared.run("%halo ask Hello")
    result = shared.run(f"%halo {command}", console=True)
    assert result.stdout and not result.displays


def test_a_console_has_no_panel(shared: Kernel) -> None:
    """One line says what works there."""
    result = shared.run("%halo panel", console=True)
    assert (result.ename, len(result.traceback)) == ("UsageError", 1)
    assert "%halo ask works here" in result.evalue


CAPTURES = {
    "capture_output": "from IPython.utils.capture import capture_output\nwith capture_output() as cap: ask()",
    "%%capture": "get_ipython().run_cell_magic('capture', 'cap', 'ask()')",
    "nested": (
        "from IPython.utils.capture import capture_output\n"
        "with capture_output():\n    with capture_output() as cap: ask()"
    ),
}
ASK = f"def ask(text={SEED!r}): get_ipython().run_line_magic('halo', 'ask ' + text)\n"


@pytest.mark.parametrize("capture", CAPTURES)
def test_a_captured_reply_is_shown_once(shared: Kernel, capture: str) -> None:
    """Each output is complete, and none replaces another, so they may be shown one by one."""
    shared.run(ASK + CAPTURES[capture])
    result = shared.run("for output in cap.outputs: display(output)")
    assert len(result.displays) == 5
    for shown in (html(result), plain(result)):
        assert shown.count("Happy to help!") == shown.count("Shall I show you") == 1
        assert shown.count("action 2: navigate") == 1 and "connecting" not in shown
    assert evaluated(shared, "[output.transient for output in cap.outputs]") == [{}] * 5


WITHIN = {
    "with": "with out: ask()",
    "capture": "@out.capture()\ndef act(): ask()\nact()",
    "button": "button = widgets.Button()\nbutton.on_click(out.capture()(lambda _: ask()))\nbutton.click()",
    "interact": "widgets.interactive(lambda x: ask(), x=1).update()",
}


@pytest.mark.parametrize("within", WITHIN)
def test_an_output_widget_shows_the_reply_once(shared: Kernel, within: str) -> None:
    """It ignores updates, too; what follows it in the cell is updated as usual."""
    result = shared.run(f"import ipywidgets as widgets\nout = widgets.Output()\n{ASK}{WITHIN[within]}")
    kinds = [each.msg_type for each in result.messages]
    assert "update_display_data" not in kinds
    assert html(result).count("Happy to help!") == html(result).count("Shall I show you") == 1
    assert "connecting" not in html(result)
    after = shared.run("with out: pass\nask()")
    assert "update_display_data" in [each.msg_type for each in after.messages]


@pytest.mark.parametrize("parent", [None, {}, {"header": {}}, {"header": {"msg_id": ""}}])
def test_a_kernel_that_knows_no_request_takes_updates(parent: Any) -> None:
    """As JupyterLite's may; widgets on the page change nothing."""
    shell: Any = SimpleNamespace(display_pub=None, kernel=object(), get_parent=lambda: parent)
    in_lite: Any = SimpleNamespace(display_pub=None, kernel=shell)
    widgets = [ipywidgets.Output(), ipywidgets.Button()]
    for each in (shell, in_lite):
        assert in_notebook(each) and takes_updates(each)
    in_lite.kernel = SimpleNamespace(get_parent=lambda: {"header": {"msg_id": "m1"}})
    assert takes_updates(in_lite)
    widgets[0].msg_id = "m1"
    assert not takes_updates(in_lite)
    for widget in widgets:
        widget.close()


def test_a_long_reply_in_an_output_widget_comes_in_parts(fresh: Kernel) -> None:
    """Not only at its end; more actions than fit come as one tree behind the text."""
    fresh.run(
        "from halo_notebook.demo import DemoAgent\nfrom halo_notebook.stream import Action, TextDelta\n"
        "pause_s = 30\n"
        "def reply(request):\n"
        "    for number in range(60):\n"
        "        yield TextDelta(f'Paragraph {number}. ' + 'Many words. ' * 10 + '\\n\\n')\n"
        "        yield Action({'number': number})\n"
        "        if number == 5: yield pause_s\n"
        "magics.connection.demo.stop()\n"
        "magics.connection.demo = DemoAgent(first_byte_s=0, reply=reply).start()"
    )
    running = fresh.start(f"import ipywidgets as widgets\n{ASK}with widgets.Output(): ask()")
    running.wait_for(lambda cell: "Paragraph 5." in str(cell.outputs), "the first part")
    fresh.interrupt()
    running.result()
    result = fresh.run("pause_s = 0\nwith widgets.Output(): ask()")
    assert [f"Paragraph {number}." in html(result) for number in range(60)] == [True] * 60
    assert html(result).count("Paragraph 59.") == 1
    trees = [data["application/json"] for data in result.displays if "application/json" in data]
    numbers = [each["number"] for tree in trees for each in (tree if isinstance(tree, list) else [tree])]
    assert numbers == list(range(60))


@pytest.mark.parametrize(
    ("env", "by_cell_id"),
    [
        (
            {},
            {
                "vscode-notebook-cell:/home/ada/a.ipynb#W0sZmlsZQ%3D%3D": False,
                "vscode-interactive-input:/Interactive-1.py#1": False,
                None: True,
            },
        ),
        # The second: JupyterLab, started in a VS Code terminal
        ({"VSCODE_PID": "1"}, {None: False, "a1b2c3d4": True}),
    ],
)
def test_vs_code_gets_no_json(env: dict[str, str], by_cell_id: dict[Any, bool]) -> None:
    """It prefers JSON and shows its source, so an action is the HTML tree with its label there."""
    with Kernel(env) as kernel:
        kernel.run(LOAD_FAST)
        for cell_id, has_tree in by_cell_id.items():
            for line in ("%halo ask Open a ticket", "%halo status"):
                content = {"code": line, "silent": False, "allow_stdin": False}
                result = kernel.send("execute_request", content, cell_id=cell_id).result()
                trees = [data for data in result.displays if "halo-json" in data["text/html"]]
                assert trees and all(("application/json" in data) is has_tree for data in trees), cell_id
