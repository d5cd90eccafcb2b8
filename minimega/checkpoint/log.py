"""log.jsonl: what a run did, one JSON object per line. All reading and writing of logs is here."""

import json
import math
from io import FileIO
from pathlib import Path

from minimega.checkpoint.run_folder import whole
from minimega.errors import naming


def read(path: str | Path) -> tuple[list[dict], int]:
    """The records of a log, and the number of lines that hold none: blank, cut short or damaged.

    A missing log has no records.
    """
    path = Path(path)
    lines = path.read_bytes().splitlines() if path.exists() else []
    records = [record for line in lines if (record := _record(line))]
    return records, len(lines) - len(records)


def _record(line: bytes) -> dict | None:
    try:
        record = json.loads(line)
    except ValueError:  # UnicodeDecodeError is one
        return None
    return record if isinstance(record, dict) and type(record.get("step")) is int else None


def skipped(path: str | Path, lines: int) -> str:
    """The message about lines that could not be read.

    >>> skipped("run/log.jsonl", 1)
    'run/log.jsonl: 1 line cannot be read and is left out'
    """
    what = "1 line cannot be read and is" if lines == 1 else f"{lines} lines cannot be read and are"
    return f"{path}: {what} left out"


class Log:
    """Writes log.jsonl in full precision; numbers that are not finite become null, since JSON has no NaN.

    Each record is written unbuffered, so that an error shows at once and not when the log closes. A log that
    is deleted meanwhile is restored from the file that is still open. Without a path nothing is written.
    """

    def __init__(self, path: Path | None, start: int = 0):
        """Begin a new log, or continue after step `start`: later records are dropped atomically."""
        self.path, self.skipped = path, 0
        self.file: FileIO | None = None
        if path:
            records, self.skipped = read(path) if start else ([], 0)
            self._replace(path, b"".join(_line(r) for r in records if r["step"] <= start))

    def _replace(self, path: Path, content: bytes) -> None:
        with whole(path) as work:
            work.write_bytes(content)
        self.close()
        self.file = path.open("ab+", buffering=0)

    def write(self, record: dict) -> None:
        """Append one record. Raises OSError if the file cannot be written."""
        if not self.file or not self.path:
            return
        if not self.path.exists():
            self.file.seek(0)
            self._replace(self.path, self.file.read())
        line = memoryview(_line(record))
        with naming(self.path):
            while line:
                line = line[self.file.write(line) :]

    def close(self) -> None:
        """Close the file."""
        if self.file:
            self.file.close()


def _line(record: dict) -> bytes:
    plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
    return json.dumps(plain, allow_nan=False).encode() + b"\n"
