"""Files that are whole at every moment."""

import os
import tempfile
from pathlib import Path


def atomic_write(path: str | Path, data: bytes | str, *, exclusive: bool = False) -> None:
    """Write a file so that a reader or a crash at any moment finds the old one or the new one.

    Args:
        path: Where to write. Missing parent folders are made.
        data: The content; text is written as UTF-8.
        exclusive: Whether an existing file is left as it is. Of several processes that try, one
            succeeds.

    Raises:
        FileExistsError: If ``exclusive`` is set and the file exists.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        if exclusive:
            os.link(temporary, path)  # unlike a replacement, fails where there is a file
            os.unlink(temporary)
        else:
            os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
