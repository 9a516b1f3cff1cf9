"""What the documents for people say, compared with the code."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

import invitree.app  # noqa: F401  every room has problems of its own
from invitree.base.problems import catalog
from invitree.base.settings import Settings
from invitree.cli import app as command

ROOT = Path(__file__).parents[2]
PROBLEMS = (ROOT / "docs/problems.md").read_text(encoding="utf-8")
READMES = ("README.md", "README.ru.md")
# Pages that are in English and in Russian.
PAIRS = {
    "README.md": "README.ru.md",
    **{f"docs/{page.name}": f"docs/ru/{page.name}" for page in ROOT.glob("docs/ru/*.md")},
}
# How a default that cannot be written as itself is written in each language.
IN_WORDS = {
    "docs/settings.md": {"": "empty", "workers": "one a core"},
    "docs/ru/settings.md": {"": "пусто", "workers": "по одному на ядро"},
}
PAGES = sorted(str(page.relative_to(ROOT)) for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))


def _read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def _sections() -> dict[str, str]:
    _, *parts = re.split(r"^## ", PROBLEMS, flags=re.MULTILINE)
    return {code: text for code, _, text in (part.partition("\n") for part in parts)}


def test_every_problem_has_its_section_and_no_section_is_left_over() -> None:
    assert sorted(_sections()) == sorted(problem.code for problem in catalog())


@pytest.mark.parametrize("code", sorted(problem.code for problem in catalog()))
def test_a_problem_is_described_as_it_is(code: str) -> None:
    problem = next(kind for kind in catalog() if kind.code == code)
    section = _sections()[code]
    assert section.startswith(f"\nStatus {problem.status}")
    for language, text in (("English", problem.message.en), ("Russian", problem.message.ru)):
        assert re.search(rf"^- {language}: .*`{re.escape(text)}`", section, re.MULTILINE)
    assert "**The client**" in section
    assert ("`Retry-After`" in section) == (problem.retry_after_s is not None)


@pytest.mark.parametrize("page", IN_WORDS)
def test_every_setting_is_in_the_table_with_its_default(page: str) -> None:
    rows = re.findall(r"^\| `(INVITREE_\w+)` \| ([^|]*) \| [^|]+ \|$", _read(page), flags=re.MULTILINE)
    defaults = Settings()
    words = IN_WORDS[page]
    expected = []
    for field in Settings.__struct_fields__:
        default = str(getattr(defaults, field))
        default = default.lower() if default in ("True", "False") else default
        expected.append((f"INVITREE_{field.upper()}", words.get(field) or words.get(default) or f"`{default}`"))
    assert rows == expected


@pytest.mark.parametrize("page", ["docs/operating.md", "docs/ru/operating.md"])
def test_every_command_is_in_the_table(page: str) -> None:
    rows = re.findall(r"^\| (`invitree [^|]*) \|", _read(page), flags=re.MULTILINE)
    assert sorted(re.findall(r"`invitree ([^`]+)`", " ".join(rows))) == sorted(_names(command))


def _names(group: App) -> Iterator[str]:
    for name in group:
        if name.startswith("-"):
            continue
        inner = [f"{name} {rest}" for rest in _names(group[name])]
        yield from inner or [name]


@pytest.mark.parametrize("page", READMES)
def test_a_readme_is_an_introduction(page: str) -> None:
    assert len(_read(page).splitlines()) <= 200


@pytest.mark.parametrize("page", PAIRS)
def test_both_languages_have_the_same_commands(page: str) -> None:
    assert _commands(_read(page)) == _commands(_read(PAIRS[page]))


def test_the_readme_has_commands_to_paste() -> None:
    assert _commands(_read("README.md"))


def _commands(text: str) -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [[line for line in block.splitlines() if not line.startswith("#")] for block in blocks]


def test_links_lead_to_pages_and_headings() -> None:
    links = [(page, link) for page in PAGES for link in re.findall(r"\]\((?!https?://)([^)]+)\)", _read(page))]
    assert links
    assert [(page, link) for page, link in links if not _leads(page, link)] == []


def _leads(page: str, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    return target.exists() and (not anchor or anchor in _anchors(target.read_text(encoding="utf-8")))


def _anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to headings, and those that the page names itself."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    named = re.findall(r'<a id="([^"]+)">', text)
    return {*named, *(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)}


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
