"""Which folders `ugatit train` is about: those with pictures, and that of the run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ugatit_cli.errors import UsageError

if TYPE_CHECKING:
    from ugatit_cli.dataset_files import Folders
    from ugatit_cli.run_folder import RunFolder
    from ugatit_cli.training.session import Request

# Of a folder's name in the default name of a run: two halves fit into the 255 bytes that file systems allow.
LONGEST_NAME, LONGEST_BYTES = 40, 120


def find_folders(domain_a: Path | None, domain_b: Path | None, data: Path | None) -> Folders | None:
    """The folders of pictures, absolute, so that the run goes on from anywhere; None if none are named.

    Raises:
        UsageError: the options contradict each other, one of a pair is missing, or a name is no text.
    """
    from ugatit_cli.dataset_files import Folders, split_layout

    if data is not None:
        if domain_a or domain_b:
            raise UsageError("--data contradicts --domain-a and --domain-b", "Give the one or the others.")
        return split_layout(located(data))
    if domain_a is None and domain_b is None:
        return None
    if domain_a is None or domain_b is None:
        missing = "--domain-a" if domain_a is None else "--domain-b"
        raise UsageError(f"{missing} is missing", "Name a folder for each domain: --domain-a A --domain-b B")
    return Folders(located(domain_a), located(domain_b))


def located(path: Path) -> Path:
    """The absolute path that a run's settings have, so that the run goes on from anywhere.

    Raises:
        UsageError: its name is no text.
    """
    path = path.expanduser().absolute()
    try:
        str(path).encode()
    except UnicodeEncodeError:  # the run's settings are text
        name = str(path).encode(errors="backslashreplace").decode()
        raise UsageError(f"{name}: the folder's name is not text (UTF-8)", "Rename the folder.") from None
    return path


def run_path(
    output: Path | None, resume: Path | None, folders: Folders | None, names: tuple[str, str] | None
) -> Path:
    """The run folder, by default one that is named like the domains.

    Raises:
        UsageError: two different ones are named, or nothing to name it after.
    """
    if resume is not None:
        path = resume.expanduser()
        if output is not None and output.expanduser().resolve() != path.resolve():
            raise UsageError(f"--output {output} and --resume {resume} are two runs", "Leave --output out.")
        return path
    if output is not None:
        return output.expanduser()
    if folders is None:
        raise UsageError(
            "no pictures to train on",
            "Name a folder for each domain: --domain-a A --domain-b B, or a run to go on with: --resume RUN",
        )
    return Path("runs", _default_name(folders, names))


def _default_name(folders: Folders, names: tuple[str, str] | None) -> str:
    from ugatit_cli.training.settings import domain_names

    a, b = domain_names(folders) if names is None else names
    if (a, b) == ("A", "B") and folders.a.name.casefold() == "traina":
        return _plain(folders.a.resolve().parent.name) or "A2B"
    return f"{_plain(a) or 'A'}2{_plain(b) or 'B'}"


def _plain(name: str) -> str:
    short = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:LONGEST_NAME]
    return short.encode()[:LONGEST_BYTES].decode(errors="ignore").rstrip("-.")


def check_folders(run: RunFolder, request: Request) -> None:
    """A run's pictures change only when the user says that it's this run.

    Raises:
        UsageError: the run was begun with others.
        ModelError: its settings are damaged.
    """
    if request.folders is None or request.must_exist or not run.exists:
        return
    from ugatit_cli.run_folder import RUN_FILE
    from ugatit_cli.training.settings import Settings

    before = Settings.from_document(run.document(), run.path / RUN_FILE).folders
    if [one.resolve() for one in (before.a, before.b)] != [
        one.resolve() for one in (request.folders.a, request.folders.b)
    ]:
        raise UsageError(
            f"{run.path} is a run with other pictures: {before.a} and {before.b}",
            f"Have they moved? Add --resume {shlex.quote(str(run.path))}. For a new run, name it: -o runs/NAME",
        )
