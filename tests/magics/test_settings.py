"""Keys, tokens and settings in a real kernel, and what a restart or a reload keeps."""

from __future__ import annotations

import pytest

from halo_notebook.demo import DEMO_KEY, DemoAgent, sign_user_token

from ..harness.cells import LOAD, evaluated, plain, sent
from ..harness.kernels import Kernel

pytestmark = pytest.mark.kernel


def test_status_shows_no_secret(kernel: Kernel) -> None:
    """Settings, sessions and the client's state, with secrets as 'set'; `%config` likewise."""
    key, token = "ab_live_very_private", "aaa.bbb.ccc"
    kernel.run(
        f"{LOAD}\n%config HaloMagics.api_key = {key!r}\n%config HaloMagics.user_token = {token!r}\n"
        "%config HaloMagics.base_url = 'http://127.0.0.1:9'\n"
        "m = get_ipython().magics_manager.registry['HaloMagics']"
    )
    printed = "print(vars(m), m.trait_values(), m.config)"
    codes = ("%halo status", "%config HaloMagics", "%config HaloMagics.api_key", printed)
    outputs = [kernel.run(code) for code in codes]
    assert all(result.status == "ok" for result in outputs), outputs
    shown = str([result.outputs for result in outputs])
    assert key not in shown and token not in shown
    assert outputs[0].displays[0]["application/json"]["client"]["api_key"] == "set"
    secret = kernel.run("%config HaloMagics.api_key = 'ha_secret_never'")
    assert "never" not in str(secret.outputs).replace("never leave", "")


def test_secrets_of_the_environment_stay_hidden() -> None:
    """The magics' own state shows none, and neither does a traceback with every local variable."""
    key, token = "ab_live_very_private", "aaa.bbb.ccc"
    with DemoAgent(first_byte_s=0, chunk_s=0) as agent:
        environment = {"HALO_API_KEY": key, "HALO_USER_TOKEN": token, "HALO_BASE_URL": agent.url}
        with Kernel(env=environment) as kernel:
            kernel.run(f"{LOAD}\n%xmode Verbose")
            printed = "print(vars(get_ipython().find_magic('halo').__self__))"
            codes = ("%halo ask Hello", printed, "%halo status", "%halo ask /error 401")
            wrong = ("%config HaloMagics.user_token = 5", "%%halo --timeout -1\nHello")
            outputs = [kernel.run(code) for code in codes + wrong]
    shown = str([(result.outputs, result.traceback) for result in outputs])
    assert agent.requests[0].body["user_token"] == token
    assert key not in shown and token not in shown


def test_connect_uses_the_key_from_the_environment() -> None:
    """With a key in the environment the agent that it names answers, and no badge says demo."""
    with (
        DemoAgent(first_byte_s=0, chunk_s=0) as agent,
        Kernel(env={"HALO_API_KEY": DEMO_KEY, "HALO_BASE_URL": agent.url}) as kernel,
    ):
        kernel.run(LOAD)
        result = kernel.run("%%halo\nHello")
        assert result.status == "ok"
        assert "demo agent" not in result.displays[-1]["text/plain"] and result.stdout == ""
        assert len(agent.requests) == 1
        kernel.run("%halo demo start")
        assert "demo agent" in kernel.run("%%halo\nHello").displays[-1]["text/plain"]
        assert f"target   {agent.url}" in kernel.run("%halo connect").stdout
        kernel.run("%%halo\nHello")
        assert len(agent.requests) == 2
        assert "session_id" not in agent.requests[1].body, "the demo agent's session is not sent elsewhere"


def test_connect_asks_for_the_key(kernel: Kernel) -> None:
    """By way of the front end, in one line where that cannot ask; a blank answer changes nothing."""
    kernel.run(f"{LOAD}\nimport getpass")
    failed = kernel.run("%halo connect")
    assert failed.ename == "ConfigError" and "cannot ask for one" in failed.evalue
    # In the cell itself: the kernel puts its own function there as each cell begins.
    typed = "getpass.getpass = lambda prompt: {!r}\n"
    assert "No key was given. Nothing was changed" in kernel.run(typed.format(" ") + "%halo connect").evalue
    assert kernel.run("%halo ask Hello").status == "ok", "the demo agent still answers"
    connected = kernel.run(typed.format("ab_live_typed") + "%halo connect http://127.0.0.1:9")
    assert "target   http://127.0.0.1:9" in connected.stdout
    assert "ab_live_typed" not in str(connected.outputs)


def test_loading_again_keeps_the_sessions(fresh: Kernel) -> None:
    """`%reload_ext` is harmless; unloading stops the demo agent and takes the magics away."""
    fresh.run("%halo ask Hello")
    for again in (LOAD, "%reload_ext halo_notebook"):
        assert fresh.run(again).status == "ok"
        assert "1 turn" in fresh.run("%halo").stdout
    reload = "import importlib, halo_notebook.magics.magic as m; importlib.reload(m)"
    for code in (reload, "%reload_ext halo_notebook", "%halo ask Is it?", "%unload_ext halo_notebook"):
        assert fresh.run(code).status == "ok", code
    assert "not found" in fresh.run("%halo").stderr
    assert fresh.run(LOAD).status == "ok"
    assert "2 turns" in fresh.run("%halo").stdout, "kept on the shell"


def test_a_client_takes_the_magics_settings(kernel: Kernel) -> None:
    """`%config` goes before the environment for a client made by hand, too."""
    kernel.run(
        f"{LOAD}\nimport os\nos.environ['HALO_USER_ID'] = 'u_env'\nfrom halo_notebook import HaloClient"
    )
    made = "HaloClient('ab_live_x').debug()['user_id']"
    assert evaluated(kernel, made) == "u_env"
    kernel.run("%config HaloMagics.user_id = 'u_config'")
    assert evaluated(kernel, made) == "u_config"
    assert evaluated(kernel, "HaloClient('ab_live_x', user_id='u_arg').debug()['user_id']") == "u_arg"


def test_a_method_may_give_the_token(fresh: Kernel) -> None:
    """The one of that very object, not of a copy."""
    fresh.run(
        "import threading\n"
        "class Signer:\n"
        "    lock, asked = threading.Lock(), 0\n"
        "    def token(self):\n"
        "        self.asked += 1\n"
        "        return 'aaa.bbb.ccc'\n"
        "signer = Signer()"
    )
    assert fresh.run("%config HaloMagics.user_token = signer.token").stderr == ""
    assert fresh.run("%halo ask Hello").status == "ok"
    assert sent(fresh)["user_token"] == "aaa.bbb.ccc"
    assert evaluated(fresh, "signer.asked") == 1


def test_a_conversation_is_resumed_after_a_restart(kernel: Kernel) -> None:
    """By the id that the saved output's metadata holds."""
    with DemoAgent(first_byte_s=0, chunk_s=0) as agent:
        aim = f"%config HaloMagics.base_url = {agent.url!r}\n%config HaloMagics.api_key = {DEMO_KEY!r}"
        kernel.run(f"{LOAD}\n{aim}")
        first = kernel.run("%halo ask My name is Zelda")
        session_id = first.outputs[-1]["metadata"]["halo"]["session_id"]
        kernel.restart()
        kernel.run(f"{LOAD}\n{aim}")
        assert "Zelda" not in plain(kernel.run("%halo ask What is my name?"))
        assert session_id in kernel.run(f"%halo resume {session_id}").stdout
        assert "Zelda" in plain(kernel.run("%halo ask What is my name?"))


def test_an_async_token_runs_on_the_kernels_own_loop(fresh: Kernel) -> None:
    """It may hold objects of that loop; the cells behind it all run."""
    secret = "ha_secret_for_this_test"
    fresh.run(
        "import asyncio\n"
        f"agent = DemoAgent(first_byte_s=0, chunk_s=0, identity_secret={secret!r}).start()\n"
        f"magics.base_url, magics.api_key, magics.user_id = agent.url, {DEMO_KEY!r}, 'u_1'\n"
        "kernel_loop = asyncio.get_event_loop()\n"
        "seen = []\n"
        "async def fresh():\n"
        "    await asyncio.sleep(0.01)\n"
        "    seen.append(asyncio.get_running_loop() is kernel_loop)\n"
        f"    return {sign_user_token(secret, 'u_1')!r}\n"
        "magics.user_token = fresh"
    )
    results = fresh.run_all(["%%halo\nHello", "%%halo\nMarkdown", "print(seen)"])
    assert [result.status for result in results] == ["ok"] * 3, results[0].traceback
    assert results[2].stdout == "[True]\n"
