"""One matrix out of a file that torch.save wrote, without unpickling anything.

Such a file is a zip archive: a pickle that describes tensors, and each tensor's bytes in
an entry of their own. Where exactly one tensor of a known shape is expected, its bytes
are enough; the pickle is never read.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from tokret.errors import ModelError
from tokret.types import Floats

ORDER_MOST = 64  # bytes that say "little"; more are packed to fill the memory


def read_matrix(path: Path, rows: int, columns: int) -> Floats:
    """Read the only tensor of the file as float32 [rows, columns], row after row.

    Raises ModelError for a file in torch's older form, for another number of tensors,
    another size, or other byte order.
    """
    size = rows * columns * 4
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {info.filename: info for info in archive.infolist()}
            data = [name for name in entries if name.split("/")[-2:-1] == ["data"]]
            order = [name for name in entries if name.endswith("/byteorder")]
            if len(data) != 1 or entries[data[0]].file_size != size:
                sizes = [entries[name].file_size for name in data]
                raise ModelError(
                    f"{path}: expected one float32 tensor [{rows}, {columns}] of {size} bytes, "
                    f"got tensors of {sizes} bytes."
                )
            little = not order or (
                entries[order[0]].file_size < ORDER_MOST
                and archive.read(order[0]).strip() == b"little"
            )
            if not little:
                raise ModelError(f"{path}: its bytes are not little-endian.")
            weights = np.frombuffer(archive.read(data[0]), "<f4").reshape(rows, columns)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        OverflowError,
        RuntimeError,  # encrypted, or packed as zipfile cannot unpack
        ValueError,
        struct.error,
    ) as error:
        raise ModelError(f"{path} is not in torch's zip form ({error}).") from error
    if not np.isfinite(weights).all():
        raise ModelError(f"{path}: the weights hold NaN or infinity.")
    return weights.astype(np.float32)
