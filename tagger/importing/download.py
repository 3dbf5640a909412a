"""Gets published files from the Hugging Face hub into a folder: one commit, resumable, each file checked.

An interrupted download goes on where it stopped when started again. What is there already and whole is not fetched.
Until it is done a file says which commit it is of, so that it goes on with that one when its branch has moved on:

    .download.json   {"repository": "Camais03/camie-tagger", "asked": "main", "commit": "9afb19b..."}
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagger.importing.published import BRANCH, Published
from tagger.release import ReleaseError

COMMIT = re.compile("[0-9a-f]{40}")


def download(
    published: Published,
    folder: Path,
    *,
    revision: str | None = None,
    endpoint: str | None = None,
    tell: Callable[[str], object] = print,
    plan: Callable[[dict[str, int]], object] = lambda sizes: None,
) -> str:
    """The commit that was fetched. Raises ReleaseError with the remedy.

    `plan` is told the files to come with their bytes, before the first.
    """
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repository, revision = published.repository, revision or published.revision
    begun = Begun(folder, repository, revision)
    try:
        wanted = begun.commit() or revision
        info = HfApi(endpoint=endpoint).model_info(repository, revision=wanted, files_metadata=True)
        commit = named_commit(repository, wanted, info.sha)
        there = {file.rfilename: file for file in info.siblings or []}
        names = choose_files(published, there)
        tell(f"{repository} at commit {commit}")
        begun.keep(commit)
        plan({name: there[name].size or 0 for name in names})
        for name in names:
            _fetch(repository, commit, there[name], folder, endpoint, tell)
        begun.forget()
    except GatedRepoError as error:
        raise ReleaseError(
            f"{repository} is open only to people who accepted its terms; accept them on its page and set HF_TOKEN."
        ) from error
    except RevisionNotFoundError as error:
        begun.forget()
        raise ReleaseError(
            f"{repository} has no revision {wanted}; choose one with --revision, such as --revision {BRANCH}."
        ) from error
    except RepositoryNotFoundError as error:
        raise ReleaseError(f"There is no public repository {repository}; choose one with --repository.") from error
    except (httpx2.ConnectError, LocalEntryNotFoundError) as error:
        raise ReleaseError(
            f"The hub can't be reached ({_first_line(error)}): see that this machine is on the network, then start"
            " again; what is here already stays. Or get the files elsewhere and name their folder with --from."
        ) from error
    except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        raise ReleaseError(f"The download stopped ({error}); start it again to go on where it stopped.") from error
    return commit


def named_commit(repository: str, wanted: str, found: str | None) -> str:
    """The commit that the hub answered with. Raises ReleaseError when another was asked for."""
    if not found or (COMMIT.fullmatch(wanted) and found != wanted):
        raise ReleaseError(
            f"The hub answers with commit {found} of {repository} when asked for {wanted}; see that HF_ENDPOINT or"
            " --endpoint names the right hub."
        )
    return found


@dataclass(frozen=True)
class Begun:
    """What the folder says of a download that was not finished."""

    folder: Path
    repository: str
    asked: str

    @property
    def file(self) -> Path:
        return self.folder / ".download.json"

    def commit(self) -> str | None:
        """Of an earlier download of the same; None where there is none."""
        try:
            found = json.loads(self.file.read_text("utf-8"))
            same = (found["repository"], found["asked"]) == (self.repository, self.asked)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found["commit"] if same and COMMIT.fullmatch(str(found.get("commit"))) else None

    def keep(self, commit: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {"repository": self.repository, "asked": self.asked, "commit": commit}
        self.file.write_text(json.dumps(about) + "\n", "utf-8")

    def forget(self) -> None:
        self.file.unlink(missing_ok=True)


def choose_files(published: Published, there: Mapping[str, Any]) -> list[str]:
    """The wanted files by the names that the repository has. Raises ReleaseError naming the first it lacks."""
    names = []
    for alternatives in published.files:
        name = next((name for name in alternatives if name in there), None)
        if name is None:
            raise ReleaseError(f"{published.repository} has no {alternatives[0]} at this revision; choose --revision.")
        names.append(name)
    return names + [name for name in published.optional if name in there]


def _fetch(
    repository: str, commit: str, file: Any, folder: Path, endpoint: str | None, tell: Callable[[str], object]
) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    target = folder / file.rfilename
    if target.is_file() and is_whole(target, file):
        tell(f"{file.rfilename} is here already")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = part_of(target)
    if file.size is not None and _size(unfinished) > file.size:
        unfinished.unlink()
    url = hf_hub_url(repository, file.rfilename, revision=commit, endpoint=endpoint)
    # The library's own download keeps no part of a file for the next run; its transfer does.
    with unfinished.open("ab") as stream:
        http_get(url, stream, resume_size=stream.tell(), headers=build_hf_headers(), expected_size=file.size)
    unfinished.replace(target)
    if not is_whole(target, file):
        target.unlink()
        raise ReleaseError(f"{file.rfilename} came damaged: its checksum is wrong; start the download again.")


def is_whole(target: Path, file: Any) -> bool:
    """Whether a file has the size and checksum that the hub states: SHA-256 of large files, git's of small ones."""
    if file.size is not None and target.stat().st_size != file.size:
        return False
    if file.lfs is not None:
        return _digest(hashlib.sha256(), target) == file.lfs.sha256
    if file.blob_id is None:
        return True
    header = f"blob {target.stat().st_size}\0".encode()
    return _digest(hashlib.sha1(header, usedforsecurity=False), target) == file.blob_id


def part_of(target: Path) -> Path:
    """Where a file gathers until it is whole."""
    return target.with_name(f"{target.name}.part")


def bytes_here(folder: Path, names: Iterable[str]) -> int:
    """How much of these files has come so far."""
    return sum(_size(folder / name) + _size(part_of(folder / name)) for name in names)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # not there yet, or finished and renamed just now
        return 0


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _digest(checksum: Any, file: Path) -> str:
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            checksum.update(block)
    return checksum.hexdigest()
