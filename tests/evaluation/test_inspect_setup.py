"""A Halo agent as a model of inspect_ai: its settings, what is written, and the command."""

from __future__ import annotations

import contextlib
import gzip
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import errors
from halo_notebook.demo import DemoAgent, Step
from halo_notebook.stream import JSON, Action, TextDelta

from .agents import about, chat, generated, user

if TYPE_CHECKING:
    from inspect_ai.model import Model

    from .conftest import RunEval

PAGE = Path(__file__).parents[2] / "docs/inspect-and-dask.md"
# They are inspect_ai's own, between its tasks, with any model.
pytestmark = [
    pytest.mark.usefixtures("inspect_settings"),
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
]


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("halo/", {}, "halo/default for the one that Halo chooses"),
        ("halo/a", {"api_key": "ha_secret_x"}, "identity secret"),
        ("halo/a", {"base_url": "http://example.com"}, "Plain http"),
        ("halo/a", {"user_token": "t"}, "would be in inspect's log"),
        ("halo/a", {"agent_id": "b"}, "name the agent in the model"),
        ("halo/a", {"session_id": "s"}, "a conversation of its own"),
        ("halo/a", {"mood": "x"}, "did you mean 'mode'"),
        ("halo/a", {"zzz": 1}, "allowed: behavior_context, "),
        ("halo/a", {"mode": "vioce"}, "did you mean 'voice'"),
        ("halo/a", {"silence_timeout_s": 0}, "silence_timeout_s must be"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_runs(name: str, given: dict[str, Any], words: str) -> None:
    """As the package's own error, which inspect's command shows as one line."""
    from inspect_ai.model import get_model

    with pytest.raises(errors.ConfigError, match=r"[Nn]othing was sent") as raised:
        get_model(name, memoize=False, **given)
    assert words in str(raised.value)


def test_without_a_key_the_demo_agent_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its scores could be taken for the user's agent's. inspect shows this kind of error as one line."""
    from inspect_ai._util.error import PrerequisiteError
    from inspect_ai.model import get_model

    monkeypatch.delenv("HALO_API_KEY")
    with pytest.raises(PrerequisiteError, match=r"HALO_API_KEY.*python -m halo_notebook\.demo"):
        get_model("halo/default", memoize=False)


def test_a_model_made_for_other_settings_is_refused(
    agent: DemoAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """inspect keeps models by name, and would continue with the earlier key."""
    from inspect_ai.model import get_model

    generated(get_model("halo/default"), user("Hello"))
    monkeypatch.setenv("HALO_API_KEY", "ab_live_another")
    with pytest.raises(errors.UsageError, match="memoize=False"):
        generated(get_model("halo/default"), user("Hello"))
    generated(get_model("halo/default", memoize=False), user("Hello"))
    assert len(agent.requests) == 2


def test_settings_that_halo_does_not_know_give_a_warning(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, by name; settings that inspect itself uses do not."""
    for _ in range(2):
        generated(model, user("Hello"), temperature=0.5, max_tokens=9, logprobs=False, max_retries=1)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("halo_notebook")]
    assert ours == ["Halo has no setting for max_tokens, temperature: ignored."]


def test_a_reply_of_another_agent_gives_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A log with an agent's name should hold that agent's replies."""
    from inspect_ai.model import get_model

    monkeypatch.setattr("halo_notebook.demo.server.requested_agent_id", lambda request: "agent_b")
    output = generated(get_model("halo/agent_a", memoize=False), user("Hello"))
    assert output.model == about(output.message)["agent_id"] == "agent_b"
    assert "The message was for the agent 'agent_a', and 'agent_b' answered." in caplog.text


def test_many_streams_are_spread_over_clients(model: Model) -> None:
    """Too many on one client would distort its times."""
    api: Any = model.api
    with contextlib.ExitStack() as streams:
        for _ in range(21):
            streams.enter_context(api._least_busy())
        assert sorted(api._streams.values()) == [1, 10, 10]
    assert not any(api._streams.values())


def test_another_backend_than_asyncio_is_an_error(model: Model) -> None:
    """On trio there is no asyncio loop; here none runs."""
    from inspect_ai.model import GenerateConfig

    asking = model.api.generate(chat([user("Hello")]), [], "none", GenerateConfig())
    with pytest.raises(errors.UsageError, match="unset INSPECT_ASYNC_BACKEND"):
        asking.send(None)


# --- The log ----------------------------------------------------------------------------


def written(folder: Path) -> dict[Path, bytes]:
    """All files in the folder, unpacked."""

    def unpacked(path: Path) -> bytes:
        if path.suffix == ".gz":
            return gzip.decompress(path.read_bytes())
        if not zipfile.is_zipfile(path):
            return path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            return b"".join(map(archive.read, archive.namelist()))

    return {path: unpacked(path) for path in folder.rglob("*") if path.is_file()}


def test_no_secret_is_in_anything_written(
    run_eval: RunEval, agent: DemoAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither key nor token, in success and failure, with the variables of tracebacks logged."""
    monkeypatch.setenv("INSPECT_TRACEBACK_LOCALS", "1")
    monkeypatch.setenv("HALO_USER_TOKEN", "ut-environment")
    keyed: dict[str, Any] = {"api_key": "ab_live_not_to_be_seen"}
    called = {**keyed, "user_token": lambda: "ut-callable"}
    assert [run_eval("Hello", model_args=args).status for args in (keyed, called)] == ["success"] * 2
    agent.faults.extend(["cut text", "500"])
    for _ in range(2):
        assert run_eval("Hello", model_args=keyed, log_format="json").status == "error"
    tokens = [request.body["user_token"].removeprefix("ut-") for request in agent.requests]
    assert tokens == ["environment", "callable", "environment", "environment"]
    files = written(tmp_path)
    assert {path.suffix for path in files} >= {".eval", ".json"}
    for path, data in files.items():
        assert b"not_to_be_seen" not in data and b"ut-" not in data, path


def test_a_hostile_payload_does_not_break_the_log(run_eval: RunEval) -> None:
    """Nested as deep as the stream accepts, and deeper than inspect can write."""

    payload: JSON = "bottom"
    for _ in range(250):
        payload = [payload]
    steps: list[Step] = [TextDelta("Done."), Action({"type": "nested", "deep": payload})]
    with DemoAgent(reply=lambda body: steps, first_byte_s=0) as agent:
        log = run_eval("Hello", model_base_url=agent.url)
    [sample] = log.samples or []
    assert log.status == "success" and sample.output.completion == "Done."
    [action] = about(sample.output.message)["actions"]
    assert action["type"] == "nested" and "bottom" in str(action["deep"])


# --- The command ------------------------------------------------------------------------


@pytest.mark.ci
def test_the_command_finds_the_provider(
    tmp_path: Path, agent: DemoAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in docs/: by the installed entry point, with model args as typed; no file has the key."""
    from inspect_ai.log import list_eval_logs, read_eval_log

    monkeypatch.setenv("HALO_API_KEY", "ab_live_not_to_be_seen")
    page = PAGE.read_text(encoding="utf-8")
    [task] = re.findall(r"^```python file=task\.py\n(.+?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "task.py").write_text(task, encoding="utf-8")
    [line] = re.findall(r"^inspect eval .+", page, re.MULTILINE)
    command = [str(Path(sys.executable).with_name("inspect")), *shlex.split(line)[1:], "--display", "plain"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [found] = list_eval_logs(str(tmp_path / "logs"))
    log = read_eval_log(found)
    assert log.results and log.results.scores[0].metrics["accuracy"].value == 1
    assert (log.eval.model, log.eval.model_args) == ("halo/default", {"mode": "voice"})
    assert [request.body["mode"] for request in agent.requests] == ["voice"]
    files = written(tmp_path)
    assert any(path.name.startswith("trace-") for path in files)
    assert not [path for path, data in files.items() if b"not_to_be_seen" in data]
