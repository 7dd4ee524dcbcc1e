"""Ready-made checks, and what a check may accept and return.

A check is a function, sync or async, that receives the arguments that it names, in any order:

==============  ===========================================================================================
`reply`         the `Reply`; the first positional argument gets it under any other name, too
`expect`        what the case expects of this reply, None for nothing
`message`       the message that was sent
`conversation`  the turns so far, this one included: a tuple of `JudgedTurn`, each with `message` and `reply`
`case`          the `Case`
`config`        the name of the configuration
`repeat`        the number of the repeat, from 1
==============  ===========================================================================================

A check that names `conversation` but not `reply`, such as ``def one_ticket(conversation): …``, is called once
for each conversation, at its end; its verdict belongs to the conversation's last turn. Any other check is
called for each reply.

A check returns a bool (pass or fail), a number from 0 to 1 (0.5 or more passes), a `Score`, or None when it
has nothing to say. A failed assertion (also of pytest or unittest) is a fail, and a skipped test says
nothing. A check that raises anything else, or returns `NoVerdict`, could not judge: the turn counts neither
as passed nor as failed. An interrupt, SystemExit and pytest.exit end the run.

A verdict belongs to the `version` of its check: a string, if the check has such an attribute. Otherwise it
is a digest of the check's code, defaults and closure, and of the functions and values to which it refers.

A check that `of_user` marks is about the simulated user of a case, and not about the agent.

The ready-made checks look only at what was received: the text, the actions, the times. Texts that are
canonically equal in Unicode are equal, such as an é of one character and one of two.
"""

from __future__ import annotations

from .conversations import (
    action_count_in_conversation,
    actions_in_conversation,
    at_most_turns,
    escalated,
    no_action_in_conversation,
)
from .judges import autoevals_scorer, follows_goal, judge
from .replies import (
    action,
    actions_in_order,
    agent_is,
    contains,
    faster_than,
    json_schema,
    matches,
    no_action,
)
from .verdicts import Check, JudgedTurn, NoVerdict, Score, Verdict, check_name, of_user

__all__ = [
    "Check",
    "JudgedTurn",
    "NoVerdict",
    "Score",
    "Verdict",
    "action",
    "action_count_in_conversation",
    "actions_in_conversation",
    "actions_in_order",
    "agent_is",
    "at_most_turns",
    "autoevals_scorer",
    "check_name",
    "contains",
    "escalated",
    "faster_than",
    "follows_goal",
    "json_schema",
    "judge",
    "matches",
    "no_action",
    "no_action_in_conversation",
    "of_user",
]
