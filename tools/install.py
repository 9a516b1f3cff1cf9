"""Install the project into a virtual environment with uv, fetching uv itself if it is not there.

Needs nothing but Python 3.11: no pip, no venv module. The uv that is fetched is the one that uv.lock names, checked
against the hash there.
"""

import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tomllib
import urllib.request
import zipfile
from pathlib import Path

_ROOT = Path(__file__).parent.parent


def main(venv: Path) -> None:
    """Make `venv` what uv.lock says."""
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.exit(
            f"Invitree needs Python 3.11 or newer; this is {platform.python_version()}. Try make PYTHON=python3.12"
        )
    uv = shutil.which("uv") or _fetch_uv(venv.parent / f"{venv.name}-uv")
    environment = {
        "UV_SYSTEM_CERTS": "1",  # what the machine trusts, as Python does: behind a company's proxy that is its own
        **os.environ,
        "UV_PROJECT_ENVIRONMENT": str(venv.absolute()),
        "UV_PYTHON_DOWNLOADS": "never",
    }
    command = [uv, "sync", "--locked", "--no-progress", "--python", sys.executable]
    done = subprocess.run(command, cwd=_ROOT, env=environment, check=False)  # noqa: S603
    if done.returncode != 0:
        sys.exit("uv could not install the project; see the lines above")


def _fetch_uv(folder: Path) -> str:
    """Return the path of uv in `folder`, put there from the wheel in uv.lock if need be."""
    target = folder / "uv"
    wheel = _wheel(tomllib.loads((_ROOT / "uv.lock").read_text(encoding="utf-8")))
    stamp = folder / wheel["hash"].replace(":", "-")
    if stamp.exists():
        return str(target)
    print("Fetching uv, which installs the rest.", flush=True)
    with urllib.request.urlopen(wheel["url"], timeout=60) as answer:  # noqa: S310  https, from uv.lock
        content = answer.read()
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != wheel["hash"]:
        sys.exit(f"what came from {wheel['url']} is not what uv.lock expects")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/scripts/uv"))
        folder.mkdir(exist_ok=True)
        target.write_bytes(archive.read(name))
    target.chmod(0o755)
    stamp.touch()
    return str(target)


def _wheel(lock: dict[str, list[dict[str, object]]]) -> dict[str, str]:
    """Return the entry of uv's wheel for this machine."""
    package = next(package for package in lock["package"] if package["name"] == "uv")
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    if sys.platform == "darwin":
        wanted = ["macosx", "arm64" if machine == "aarch64" else machine]
    else:
        wanted = ["manylinux" if platform.libc_ver()[0] == "glibc" else "musllinux", f"_{machine}."]
    wheels: list[dict[str, str]] = package["wheels"]  # type: ignore[assignment]
    for wheel in wheels:
        if all(part in wheel["url"].rpartition("/")[2] for part in wanted):
            return wheel
    sys.exit(f"there is no uv for {sys.platform} on {machine} to fetch; install uv by hand and try again")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
