"""Ask the database of advisories about everything in uv.lock, and say in one line where it does not answer."""

import re
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_FOUND = (0, 1)  # nothing, and something; else it could not be asked


def main(uv: str, *flags: str) -> None:
    """Exit with 0 if nothing is known against any of it, with 1 if something is, with 2 if nobody could be asked."""
    command = [uv, "audit", "--locked", "--preview-features", "audit-command", *flags]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode in _FOUND:
        print(done.stdout or done.stderr, end="")
        sys.exit(done.returncode)
    reasons = re.findall(r"^\s*(?:error|cause): (.+)$", done.stderr, flags=re.MULTILINE) or ["uv said nothing"]
    print(f"Nothing was audited: {reasons[0]}: {reasons[-1]}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main(*sys.argv[1:])
