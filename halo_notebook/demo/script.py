"""The demo agent's script: the support agent of Tidemark, an analytics product that does not exist.

The first pattern found in a message chooses the reply. The payloads of the actions are made up, because
none are documented. It does not know how replies are sent.
"""

from __future__ import annotations

import itertools
import json
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..stream import JSON, Action, ActionSummary, MalformedRecord, StreamParser, encode
from .faults import FAULTS


@dataclass(slots=True)
class Conversation:
    """What the agent remembers in a session; `name` is the one that the user gave."""

    turns: int = 0
    name: str | None = None


_Answer: TypeAlias = str | Callable[[dict[str, JSON], Conversation], str]
"""A reply, with its actions framed as in the stream, or a function that takes the request and returns one."""


def new_session_id() -> str:
    return f"sess_{int(time.time())}_{secrets.token_hex(3)}"


def scripted_reply(message: str, request: dict[str, JSON], session: Conversation) -> bytes:
    """Return the whole reply to `message`: text, actions, and their summary if there are any."""
    for text in (*_earlier_messages(request), message):
        if named := re.search(r"\bmy name is\s+([^\n.,;!?]+)", text, re.IGNORECASE):
            # Keep only printable characters: a separator in a name would frame a record.
            name = "".join(character for character in named.group(1) if character.isprintable())
            session.name = name.strip()[:60] or "friend"
    found = (answer for pattern, answer in _SCRIPT if re.search(pattern, message, re.IGNORECASE))
    answer = next(found, _FALLBACK)
    text = answer if isinstance(answer, str) else answer(request, session)
    parser = StreamParser()
    events = parser.feed(text.encode()) + parser.close()
    if payloads := [event.payload for event in events if isinstance(event, Action)]:
        events.append(ActionSummary(payloads))
    return b"".join(encode(event) for event in events if not isinstance(event, MalformedRecord))


def _earlier_messages(request: dict[str, JSON]) -> list[str]:
    """The user's messages in the `conversation_history` that came with this one."""
    history = request.get("conversation_history")
    items = [item for item in history if isinstance(item, dict)] if isinstance(history, list) else []
    return [
        str(item.get("content", item.get("text")))
        for item in items
        if item.get("role", item.get("speaker")) == "user"
    ]


def _meet(request: dict[str, JSON], session: Conversation) -> str:
    return f"Nice to meet you, {session.name}. I will remember that for the rest of this conversation."


def _recall(request: dict[str, JSON], session: Conversation) -> str:
    if session.name is None:
        return "You have not told me in this conversation. Say, for example: *My name is Ada*."
    return f"Your name is {session.name}. You told me earlier in this conversation."


def _know(request: dict[str, Any], session: Conversation) -> str:
    known = {
        "user_id": request.get("user_id"),
        "user_token": "set" if "user_token" in request else "unset",
        "company_id": request.get("company_id"),
        "mode": request.get("mode", "chat"),
        "context": list(request.get("context", ())),
        "custom_fields": list(request.get("custom_fields", ())),
        "behavior_context_characters": len(request.get("behavior_context", "")),
        "conversation_history_items": len(request.get("conversation_history", ())),
        "images": len(request.get("images", ())),
        "name": session.name,
        "turn": session.turns,
    }
    listed = json.dumps(known, ensure_ascii=False, indent=2)
    return f"""\
This is all I know about you. It came with your message, but for the name and the turn, which I \
remember from this conversation:

```json
{listed}
```

To tell me more, send context or custom fields with your next message.
"""


_EVENT_TRACKING = """\
Happy to help! Setting up event tracking in Tidemark takes about five minutes – four steps:

1. **Open the tracking settings.** I have highlighted them for you in the side bar.
\x1e__ACTION__{"type": "highlight", "selector": "#event-tracking", "label": "Event tracking",
  "style": {"outline": "2px solid", "pulse": true}}\x1e\
2. **Copy your write key.** It starts with `tm_write_` and may be used in a browser.
3. **Install the snippet** on each page, before your own code:

   ```html
   <script src="https://cdn.example.com/tidemark.js" data-key="tm_write_…"></script>
   ```

4. **Send your first event**, for instance when somebody signs up:

   ```js
   tidemark.track("signed_up", { plan: "team", seats: 5 });
   ```

\x1e__ACTION__{"type": "navigate", "path": "/settings/tracking", "title": "Settings → Event tracking",
  "open_in": "same tab"}\x1e\
I have opened **Settings → Event tracking** for you. The *Live* tab shows the event within \
some seconds; until then the page says “Waiting for the first event…”.

> **Tip:** name events in the past tense (`signed_up`, not `sign_up`) – a funnel then reads \
like a story.

Shall I show you how to build a funnel from it?
"""

_MARKDOWN = r"""# Markdown of every kind

Plain text with **bold**, *italic*, ***both***, ~~struck out~~, `inline code`, a
[link](https://example.com/docs) and a bare one: https://example.com.

## Lists

- First
  - nested
    - and deeper
- Second

1. One
2. Two
   1. Two and a half
3. Three

- [x] a task that is done
- [ ] a task that is not

## A table

| Plan | Seats | Price |
|:-----|:-----:|------:|
| Free | 1 | $0 |
| Team | 5 | $10 |
| Business | 50 | $250 |

Prices stay prices: from $5 to $10 a month, or US$ 100 a year.

## A quotation

> What gets measured gets managed.
>
> > Not all that counts can be counted.

## Code

```python
def conversion(signed_up: int, visited: int) -> float:
    # Nobody visited: nobody converted.
    return signed_up / visited if visited else 0.0
```

```json
{"event": "signed_up", "properties": {"plan": "team", "seats": 5}}
```

## Mathematics

The rate is $r = \frac{s}{v}$, and its standard error

$$
\sigma_r = \sqrt{\frac{r\,(1 - r)}{v}}
$$

## Scripts and signs

Grüße · naïve café · Привет, мир · 你好,世界 · こんにちは · 안녕하세요 · שלום · مرحبا · हिन्दी
· 🚀 👩‍💻 🇺🇳 · ≈ ∑ → €

## An image

![A chart of sign-ups by week](https://example.com/charts/sign-ups.png)

---

Raw HTML is text: <b>not bold</b>. That is all.
"""

_TICKET = """\
I am opening a ticket with our support team, with what we know so far…

\x1e__ACTION__{"type": "create_ticket", "ticket": {
  "id": "TM-4217", "subject": "Events arrive twice since the last release", "priority": "high",
  "status": "open", "tags": ["tracking", "duplicates", "sdk-js"],
  "requester": {
    "id": "user_102", "name": "Zoë Müller",
    "company": {"id": "company_17", "name": "Kaffeehaus & Söhne", "plan": "team"}},
  "timeline": [
    {"at": "2025-04-26T09:12:04Z", "actor": "user", "event": "reported"},
    {"at": "2025-04-26T09:12:31Z", "actor": "agent", "event": "diagnosed", "confidence": 0.82},
    {"at": "2025-04-26T09:12:40Z", "actor": "agent", "event": "ticket created", "note": null}],
  "sla": {"first_response_minutes": 60, "business_hours_only": true}}}\x1e\
**Ticket TM-4217** is open, with priority *high*. What happens next:

- A colleague answers within **one hour** in business hours.
- You get an e-mail at each step, and can answer it to add to the ticket.
- Meanwhile no event is lost: duplicates can be removed after the fact.

Is there anything you would like me to add to it?
"""

_BILLING = """\
Invoices live under **Settings → Billing**. \
\x1e__ACTION__{"type": "navigate", "path": "/settings/billing", "title": "Settings → Billing",
  "tab": "invoices"}\x1e\
I have opened the page for you:

- *Invoices* lists every invoice as PDF, the newest first.
- *Payment method* is where to change the card.
- *Plan* shows your seats: 5 at $10 each, so $50 a month.

Only owners and admins see it. If the page is empty, ask an owner for the role **Billing admin**.
"""

_HELP = f"""\
I am a scripted demo agent: I know these questions, and match them loosely.

- **How do I set up event tracking?** – steps, code, two actions and a summary
- **Show me Markdown** – headings, tables, code, mathematics and more
- **Open a ticket** – an action with a nested payload
- **Where are my invoices?** – a navigate action
- **Write a long answer** – some 2,000 words
- **My name is Ada**, then **What is my name?** – the session remembers
- **What do you know about me?** – what came with your message
- **Help** – this list

To see what goes wrong, ask for a fault with `/fault NAME` (`/error 401` is short for \
`/fault 401`). The names: {", ".join(f"`{name}`" for name in FAULTS)}.
"""

_FALLBACK: _Answer = """\
I am a scripted demo agent, so I cannot answer that – no model is behind me. But I stream, act and \
remember as a real one does. Try one of these:

- How do I set up event tracking?
- Show me Markdown
- Open a ticket
- What do you know about me?

`help` lists all that I know, and the faults that you can ask me for.
"""


# The chapters of the long answer: title | team | what the team looks at | what for.
_CHAPTERS = """\
Start with one question | product team | the question itself | what they will do differently tomorrow
Name events well | engineering team | the list of event names | which actions of a user are worth a name
Decide what a user is | data team | the count of distinct users | whether two visits were made by one person
Measure activation | growth team | the activation rate | how many newcomers get what they came for
Read a funnel from the end | design team | the largest drop in the funnel | where people give up
Look at cohorts, not averages | leadership | retention by sign-up week | whether newer customers stay longer
Segment with restraint | marketing team | the few segments that behave differently | who gets value
Run honest experiments | research team | the difference between two variants | whether a change caused it
Keep the data clean | platform team | the share of invalid events | how far the numbers can be trusted
Respect privacy | legal team | the list of fields that identify a person | what they could not explain
Share what you learn | whole company | the short note that goes out on Monday | what the others should know
Prune every quarter | tracking plan's owner | the list of dashboards without readers | what to switch off
"""
_ADVICE = """\
In practice the {team} looks at {subject} once a week and asks {question}. Half an hour is enough when the
chart is ready beforehand, and when the meeting ends with a name and a date rather than a wish.

To put this to work, let the {team} own {subject}. They need not build it, but they should be able to say,
from memory and without a slide, {question}, and what they changed because of it.

A useful habit for the {team}: print {subject} as it stood three months ago and lay it beside today's. The
comparison shows {question} far more plainly than any single number can.

Beware of comfort. When {subject} looks better each week, ask first whether the way of counting has changed.
Only then ask the pleasant question of who deserves the credit.

The usual mistake is to stop here. Having found {subject}, teams report it faithfully for years without once
acting on it; a number that changes nothing may as well not be known.

A small example: a company of thirty people put off the work on {subject} for a year, then did it in two
afternoons. They found one broken form, repaired it, and gained more than from any campaign.

If time is short, do a rough version by hand. Twenty rows about {subject} in a spreadsheet, gathered this
afternoon, beat a perfect pipeline that is promised for the spring.
"""


def _long_answer(request: dict[str, JSON], session: Conversation) -> str:
    chapters = [line.split(" | ") for line in _CHAPTERS.splitlines()]
    advice = itertools.cycle(" ".join(text.splitlines()) for text in _ADVICE.strip().split("\n\n"))
    answer = (
        "# A field guide to product analytics\n\n"
        f"You asked for a long answer, so here are {len(chapters)} short chapters. Each says what to do, "
        "how it looks in practice, and what tends to go wrong.\n\n"
    )
    for number, (title, team, subject, question) in enumerate(chapters, start=1):
        answer += f"## {number}. {title}\n\n"
        for text in itertools.islice(advice, 4):
            answer += text.format(subject=subject, question=question, team=team) + "\n\n"
    return answer + (
        "## In short\n\nAsk one question, name things well, count people with care, read from the end, and "
        "tell others what you found. Everything else is detail, and detail can be looked up.\n"
    )


# The first pattern that is found in the message answers it.
_SCRIPT: tuple[tuple[str, _Answer], ...] = (
    (r"\bmy name is\s+[^\n.,;!?]", _meet),
    (r"\b(what('s| is)|do you (know|remember)|remember) my name\b|\bwho am i\b", _recall),
    (r"\bknow about me\b|\bwhat (do|can) you (know|see)\b", _know),
    (r"\blong (answer|reply|text)\b|\b2[,.]?000 words\b", _long_answer),
    (r"\btracking\b|\btrack\b.*\bevents?\b", _EVENT_TRACKING),
    (r"\bmarkdown\b", _MARKDOWN),
    (r"\btickets?\b", _TICKET),
    (r"\bbilling\b|\binvoices?\b", _BILLING),
    (r"\bhelp\b|\bwhat can (you|i)\b", _HELP),
)
