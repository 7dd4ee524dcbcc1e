"""`%%halo --configs`: one message to several configurations, in columns of one cell."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from ..harness.cells import LOAD_FAST, SEED, evaluated, html, plain, refused
from ..harness.kernels import Kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel
CONFIGS = """\
from halo_notebook import AsyncHaloClient, HaloClient
from halo_notebook.demo import DEMO_KEY
other = DemoAgent(first_byte_s=0, chunk_s=0).start()
client = HaloClient(DEMO_KEY, base_url=other.url)
both = {"short": {"custom_fields": {"style": "short"}}, "other": client}
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Kernel]:
    """One kernel for all tests: each uses a session of its own."""
    with Kernel() as running:
        assert running.run(LOAD_FAST + CONFIGS).status == "ok"
        yield running


def test_each_configuration_answers_in_its_column(shared: Kernel) -> None:
    """All get the message and the fields of the line; the output and `_halo` hold all replies by name."""
    result = shared.run(f"%%halo --configs both -s one -u u_1 -o kept\n{SEED}")
    assert (result.status, len(result.displays)) == ("ok", 1)
    shown = html(result)
    assert shown.count('class="halo-column"') == 2 and shown.count("action 2: navigate") == 2
    text = plain(result)
    assert text.index("[short]") < text.index("session one/short") < text.index("[other]")
    assert evaluated(shared, "kept is _halo and {name: reply.status for name, reply in _halo.items()}") == {
        "short": "complete",
        "other": "complete",
    }
    mine, others = evaluated(shared, "[agent.requests[-1].body for agent in (magics.connection.demo, other)]")
    assert mine == {"message": SEED, "user_id": "u_1", "custom_fields": {"style": "short"}}
    assert others == {"message": SEED, "user_id": "u_1"}
    about = result.outputs[0]["metadata"]["halo"]
    assert (about["status"], list(about["configs"])) == ("complete", ["short", "other"])
    assert about["configs"]["other"]["session"] == "one/other"
    assert about["configs"]["other"]["session_id"] == evaluated(shared, "_halo['other'].session_id")


def test_the_next_cell_continues_each_session(shared: Kernel) -> None:
    """Until one starts new conversations; a cell without --configs has a session of its own."""
    shared.run("%%halo --configs both -s two\nMy name is Zelda")
    shared.run("%%halo --configs both -s two\nWhat is my name?")
    assert evaluated(shared, "['Zelda' in reply.text for reply in _halo.values()]") == [True, True]
    shared.run("%%halo --configs both -s two --new\nWhat is my name?")
    assert evaluated(shared, "['Zelda' in reply.text for reply in _halo.values()]") == [False, False]
    names = evaluated(shared, "[name for name in magics.sessions if name.startswith('two')]")
    assert names == ["two/short", "two/other", "two/short-1", "two/other-1"]


def test_a_reply_that_fails_does_not_end_the_others(shared: Kernel) -> None:
    """Its column says why; the cell fails with one line at the end, so Run All stops."""
    shared.run("other.faults.append('500')")
    # The first cell keeps the kernel until it has the last: a cell that comes after the error is run.
    cells = ["import time; time.sleep(1)", f"%%halo --configs both -s three\n{SEED}", "print('not reached')"]
    _, failed, after = shared.run_all(cells)
    assert (failed.ename, len(failed.traceback), after.status) == ("ServerError", 1, "aborted")
    assert "'other' did not complete. The replies of the others are kept in _halo." in failed.evalue
    assert "Shall I show you how" in html(failed) and "The service failed (500" in html(failed)
    assert failed.outputs[0]["metadata"]["halo"]["status"] == "failed"
    assert evaluated(shared, "[reply.status for reply in _halo.values()]") == ["complete", "failed"]
    shared.run("other.faults += ['401']\nmagics.connection.demo.faults += ['500']")
    failed = shared.run(f"%%halo --configs both -s three\n{SEED}")
    assert (failed.ename, len(failed.traceback)) == ("HaloError", 1)
    assert "'short', 'other' did not complete. First error:" in failed.evalue


def test_an_interrupt_stops_all(shared: Kernel) -> None:
    """Within a second, with the text of each; the sessions continue."""
    running = shared.start("%%halo --configs both -s four\n/fault stall")
    running.wait_for(lambda cell: str(cell.outputs).count("This reply stalls") == 2, "both texts")
    started = time.monotonic()
    shared.interrupt()
    result = running.result(5)
    assert time.monotonic() - started < 1
    assert (result.ename, len(result.traceback)) == ("ReplyStopped", 1)
    assert "the agents may still act on it" in result.evalue
    assert html(result).count("This reply stalls") == html(result).count(">stopped<") == 2
    assert shared.run("%%halo --configs both -s four\nHello").status == "ok"


def test_one_session_is_stopped_elsewhere(shared: Kernel) -> None:
    """A panel's Stop, or a program's, ends that reply only; the cell names it at the end."""
    shared.run(
        "import threading, time\nfrom halo_notebook import current_session\n"
        "def stop():\n"
        "    session = current_session('five/other')\n"
        "    while not (session.turns and session.turns[-1].reply.text): time.sleep(0.01)\n"
        "    session.stop()\n"
        "other.faults.append('stall')\nthreading.Thread(target=stop).start()"
    )
    result = shared.run("%%halo --configs both -s five\nHello")
    assert (result.ename, len(result.traceback)) == ("ReplyStopped", 1)
    assert "'other' did not complete" in result.evalue
    assert evaluated(shared, "[reply.status for reply in _halo.values()]") == ["complete", "stopped"]


def test_a_dry_run_shows_each_request(shared: Kernel) -> None:
    """Nothing is sent, and no session is made."""
    before = evaluated(shared, "len(other.requests)")
    result = shared.run("%%halo --configs both -s six --no-stream --dry-run\nHello")
    requests = result.displays[0]["application/json"]
    assert requests["short"]["body"] == {"message": "Hello", "custom_fields": {"style": "short"}}
    assert requests["other"]["url"] == f"{evaluated(shared, 'other.url')}/chat"
    assert evaluated(shared, "len(other.requests)") == before
    assert not evaluated(shared, "[name for name in magics.sessions if name.startswith('six')]")


@pytest.mark.parametrize(
    ("configs", "options", "words"),
    [
        ("both", "--configs both", "is given twice"),
        ("both", "-f traits", "both give custom_fields"),
        ("both", "--timeout 3", "leave out --timeout"),
        ("{}", "", "has 0 configurations"),
        ("{n: {} for n in range(13)}", "", "has 13 configurations"),
        ("['a']", "", "configs is list"),
        ("{' ': {}}", "", "is not the name of a configuration"),
        ("{'n' * 81: {}}", "", "it needs 1 to 80 characters"),
        ("{'a': {}, 'b': 7}", "", "Configuration 'b' is int"),
        ("{'a': {'message': 'x'}}", "", "has a message"),
        ("{'a': {}, 'b': {'mode': 'chta'}}", "", "Configuration 'b' (2 of 2): Unknown mode 'chta'"),
        ("{'a': {'user_name': 'u'}, 'b': {}}", "", "Configuration 'a' (1 of 2): Unknown field 'user_name'"),
        ("{'a': {'agent_id': 7}}", "", "Configuration 'a' (1 of 1): agent_id must be a string"),
        ("{'a': {1: 2}}", "", "has the key 1"),
        ("{1: {}, '1': {}}", "", "Two configurations are called '1'"),
    ],
)
def test_what_makes_no_sense_is_refused(configs: str, options: str, words: str, shared: Kernel) -> None:
    """Before anything is sent to any of them; no session is left behind."""
    shared.run(f"traits = {{'a': 1}}\ngiven = {configs}")
    names = evaluated(shared, "list(magics.sessions)")
    refused(shared, f"%%halo --configs given -s seven {options}\nHello", words)
    assert evaluated(shared, "list(magics.sessions)") == names


def test_an_unknown_variable_is_named(shared: Kernel) -> None:
    """As for the other options that take a variable; only a name of the user's that is alike is suggested."""
    refused(shared, "%%halo --configs boht\nHello", "did you mean 'both'")
    for word in ("nope", "exist", "notebooks"):  # IPython has open, exit and no variable of the user's
        refused(
            shared, f"%%halo --configs {word}\nHello", f"'{word}' for --configs. Nothing was sent; define it"
        )


def test_a_whole_reply_and_one_configuration(shared: Kernel) -> None:
    """`--no-stream` asks each for its reply in one piece; an async client and a lone column work, too."""
    shared.run("lone = {'naïve 🎉': AsyncHaloClient(DEMO_KEY, base_url=other.url)}")
    result = shared.run("%%halo --configs lone -s eight --no-stream\nHello")
    assert result.status == "ok" and "[naïve 🎉]" in plain(result)
    assert evaluated(shared, "_halo['naïve 🎉'].raw is not None")
    assert evaluated(shared, "other.requests[-1].path").endswith("/chat")


def test_captured_outputs_are_shown_once(shared: Kernel) -> None:
    """Where an output cannot be updated, the columns are published at the end only."""
    result = shared.run(
        "from IPython.utils.capture import capture_output\n"
        "with capture_output() as out:\n"
        "    get_ipython().run_cell_magic('halo', '--configs both -s nine', 'Hello')\n"
        "print(len(out.outputs), out.outputs[0].data['text/html'].count('halo-column\"'))"
    )
    assert result.stdout == "1 2\n"


def test_a_user_token_is_asked_for_in_the_cell(shared: Kernel) -> None:
    """A callable of a configuration runs on the cell's thread, and its token shows nowhere."""
    shared.run(
        "import threading\ndef token():\n"
        "    print('main', threading.current_thread() is threading.main_thread())\n    return 'a.b.c'\n"
        "signed = {'a': {'user_id': 'u_1', 'user_token': token}}\n"
        "signed['b'] = {'user_id': 'u_2', 'user_token': 'd.e.f'}"
    )
    result = shared.run("%%halo --configs signed -s ten\nHello")
    assert (result.status, result.stdout) == ("ok", "main True\n")
    tokens = evaluated(
        shared, "[each.body['user_token'] for each in list(magics.connection.demo.requests)[-2:]]"
    )
    assert sorted(tokens) == ["a.b.c", "d.e.f"]
    assert "a.b.c" not in str(result.messages) and "d.e.f" not in str(result.messages)


def test_a_normal_pair_of_replies_costs_little(shared: Kernel) -> None:
    """Two replies of some 2,000 characters over two seconds: under 0.4 MB for the page."""
    shared.run(
        "from halo_notebook import TextDelta\n"
        "def words(request):\n"
        "    for number in range(100):\n"
        "        yield TextDelta(f'word **{number}** and so on' + ('.\\n\\n' if number % 10 == 9 else ' '))\n"
        "        yield 0.02\n"
        "slow = DemoAgent(first_byte_s=0, reply=words).start()\n"
        "pair = dict.fromkeys('ab', HaloClient(DEMO_KEY, base_url=slow.url))"
    )
    result = shared.run("%%halo --configs pair -s eleven\nHello")
    assert result.status == "ok" and evaluated(shared, "len(_halo['a'].text)") > 2_000
    frames = [message for message in result.messages if "halo-columns" in str(message.content)]
    size = sum(len(str(message.content)) for message in frames)
    assert 5 < len(frames) < 60 and size < 400_000, (len(frames), size)
