"""The README's tour, pasted into bash as it stands."""

import re
import subprocess
from pathlib import Path

from tests.process import service

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
# What differs from run to run, and what stands in its place for the comparison.
VARIES = {
    r"^\d+\.[\w-]{43}$": "<token>",
    r"^[0-9A-Z]{10}$": "<code>",
    r'"registered_at":"[0-9T:.-]+Z"': '"registered_at":"<time>"',
}


def test_the_tour_prints_what_the_readme_says(tmp_path: Path, database_url: str) -> None:
    tour = README.partition("\n## A five-minute tour\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", tour, flags=re.MULTILINE | re.DOTALL)
    script = "".join(text for language, text in blocks if language == "sh")
    printed = "".join(text for language, text in blocks if language != "sh")
    line = "API=http://127.0.0.1:8000\n"
    assert script.count(line) == 1
    with service("--data-dir", str(tmp_path), "--workers", "1", env={"INVITREE_DATABASE_URL": database_url}) as running:
        shell = subprocess.run(
            ["bash"],
            input=script.replace(line, f"API={running.url}\n"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert shell.stderr == ""
    assert _without_what_varies(shell.stdout) == _without_what_varies(printed)


def _without_what_varies(text: str) -> str:
    for pattern, name in VARIES.items():
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    return text
