"""What the demo leaves behind: the table on the screen and `build/demo.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from localcluster.progress import Step


def table(steps: Sequence[Step]) -> str:
    rows = [f"  {'step':<58} {'seconds':>9}"]
    rows += [f"  {step.name:<58} {step.seconds:>9.1f}{'' if step.ok else '  FAILED'}" for step in steps]
    rows.append(f"  {'all of it':<58} {sum(step.seconds for step in steps):>9.1f}")
    return "\n".join(rows)


def as_object(steps: Sequence[Step], answers: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """`steps` in order, `answers` by question, and facts of this run (seed, what did not run)."""
    return {
        "ok": bool(steps) and all(step.ok for step in steps),
        "steps": [{"name": step.name, "seconds": round(step.seconds, 3), "ok": step.ok} for step in steps],
        "answers": dict(answers),
        **facts,
    }


def write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
