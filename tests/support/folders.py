"""What lies in a folder."""

from pathlib import Path


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too: {path from the folder: bytes}, in the order of paths."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
