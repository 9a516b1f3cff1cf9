"""The README's tour, pasted into bash as it stands, against a service of its own."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.process import service

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["README.md", "README.ru.md"])
def test_the_tour_of_the_readme_works_as_it_stands(page: str, tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    tour = "\n".join(block for block in blocks if not block.startswith("make "))
    assert tour.count("API=http://127.0.0.1:8000\n") == 1
    tmp_path.chmod(0o711)
    with service("--data-dir", str(tmp_path / "data"), "--workers", "1") as running:
        script = tour.replace("API=http://127.0.0.1:8000\n", f"API={running.url}\n")
        done = subprocess.run(["bash", "-eu"], input=script, capture_output=True, text=True, timeout=60)
    told = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert told[0] == '{"email":"alice@example.com","id":1,"username":"alice"}'
    assert re.fullmatch(r'\{"code":"[0-9A-Z]{10}","expiration_date":"[0-9-]{10}","expires_at":"[^"]+"\}', told[1])
    assert told[2] == '{"email":"bob@example.com","id":2,"username":"bob"}'
    assert re.fullmatch(r'\[\{"email":"bob@example.com","id":2,"registered_at":"[^"]+"\}\]', told[3])
    assert told[4:] == ["204", '{"valid":false}']
