"""What the documents for people say, compared with the code."""

import re
from pathlib import Path

import pytest

from invitree.base.problems import catalog
from invitree.base.settings import Settings

ROOT = Path(__file__).parents[2]
PROBLEMS = (ROOT / "docs/problems.md").read_text(encoding="utf-8")
READMES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ru.md")}
# How a default that cannot be written as itself is written in each language.
IN_WORDS = {
    "README.md": {"": "empty", "workers": "one a core"},
    "README.ru.md": {"": "пусто", "workers": "по одному на ядро"},
}


def _sections() -> dict[str, str]:
    _, *parts = re.split(r"^## ", PROBLEMS, flags=re.MULTILINE)
    return {code: text for code, _, text in (part.partition("\n") for part in parts)}


def test_every_problem_has_its_section_and_no_section_is_left_over() -> None:
    assert list(_sections()) == [problem.code for problem in catalog()]


@pytest.mark.parametrize("code", [problem.code for problem in catalog()])
def test_a_problem_is_described_as_it_is(code: str) -> None:
    problem = next(kind for kind in catalog() if kind.code == code)
    section = _sections()[code]
    assert section.startswith(f"\nStatus {problem.status}")
    for language, text in (("English", problem.message.en), ("Russian", problem.message.ru)):
        assert re.search(rf"^- {language}: .*`{re.escape(text)}`", section, re.MULTILINE)
    assert "**The client**" in section
    assert ("`Retry-After`" in section) == (problem.retry_after_s is not None)


@pytest.mark.parametrize("readme", READMES)
def test_every_setting_is_in_the_table_with_its_default(readme: str) -> None:
    rows = re.findall(r"^\| `(INVITREE_\w+)` \| ([^|]*) \| [^|]+ \|$", READMES[readme], flags=re.MULTILINE)
    defaults = Settings()
    words = IN_WORDS[readme]
    expected = []
    for field in Settings.__struct_fields__:
        default = str(getattr(defaults, field))
        default = default.lower() if default in ("True", "False") else default
        expected.append((f"INVITREE_{field.upper()}", words.get(field) or words.get(default) or f"`{default}`"))
    assert rows == expected


def test_the_two_readmes_have_the_same_commands() -> None:
    english, russian = (_commands(READMES[name]) for name in ("README.md", "README.ru.md"))
    assert english
    assert english == russian


def _commands(text: str) -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [[line for line in block.splitlines() if not line.startswith("#")] for block in blocks]


@pytest.mark.parametrize(
    "path",
    [
        "CONTRIBUTING.md",
        "docs/coming-from-django.md",
        "docs/decisions/README.md",
        "docs/deploying.md",
        "docs/performance.md",
        "docs/problems.md",
        "docs/safety.md",
        *READMES,
    ],
)
def test_links_lead_to_files(path: str) -> None:
    document = ROOT / path
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert missing == []


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs/decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    pages = sorted(page.name for page in folder.glob("0*.md"))
    assert re.findall(r"\]\((0[^)]+)\)", index) == pages
    assert all(len((folder / page).read_text(encoding="utf-8").splitlines()) <= 50 for page in pages)


def test_every_test_that_proves_something_is_there() -> None:
    text = (ROOT / "docs/safety.md").read_text(encoding="utf-8")
    named = re.findall(r"`([a-z_]+/test_\w+\.py)(?:::(test_\w+))?`", text)
    assert named
    for path, name in named:
        file = ROOT / "tests" / path
        assert file.exists(), path
        assert not name or re.search(rf"^ *(async )?def {name}\(", file.read_text(encoding="utf-8"), re.MULTILINE), name
