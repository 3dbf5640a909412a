"""Gets published files from the Hugging Face hub into a folder: one commit, resumable, each file checked.

An interrupted download goes on where it stopped when started again. What is there already and whole is not fetched.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tagger.importing.published import Published
from tagger.release import ReleaseError


def download(
    published: Published,
    folder: Path,
    *,
    revision: str | None = None,
    endpoint: str | None = None,
    tell: Callable[[str], object] = print,
) -> str:
    """The commit that was fetched. Raises ReleaseError with the remedy."""
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    repository, revision = published.repository, revision or published.revision
    try:
        info = HfApi(endpoint=endpoint).model_info(repository, revision=revision, files_metadata=True)
        there = {file.rfilename: file for file in info.siblings or []}
        names = choose_files(published, there)
        tell(f"{repository} at commit {info.sha}")
        for name in names:
            _fetch(repository, info.sha, there[name], folder, endpoint, tell)
    except GatedRepoError as error:
        raise ReleaseError(
            f"{repository} is open only to people who accepted its terms; accept them on its page and set HF_TOKEN."
        ) from error
    except RevisionNotFoundError as error:
        raise ReleaseError(f"{repository} has no revision {revision}; choose one with --revision.") from error
    except RepositoryNotFoundError as error:
        raise ReleaseError(f"There is no public repository {repository}; choose one with --repository.") from error
    except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        raise ReleaseError(f"The download stopped ({error}); start it again to go on where it stopped.") from error
    return str(info.sha)


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
    from huggingface_hub import hf_hub_download

    target = folder / file.rfilename
    if target.is_file() and is_whole(target, file):
        tell(f"{file.rfilename} is here already")
        return
    hf_hub_download(repository, file.rfilename, revision=commit, local_dir=folder, endpoint=endpoint)
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


def _digest(checksum: Any, file: Path) -> str:
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            checksum.update(block)
    return checksum.hexdigest()
