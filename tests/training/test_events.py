"""Records of event files against TensorBoard's own writer and reader."""

import io

import pytest
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import crc32c as plain
from tensorboard.summary.writer.record_writer import RecordWriter

from hypersiren.training.events import FEW, crc32c, write_record


@pytest.mark.parametrize("length", [0, 1, 8, FEW - 1, FEW, FEW + 1, 5_000, 70_001])
def test_records_are_tensorboards(length):
    data = bytes(i * i * 31 % 251 for i in range(length))
    ours, theirs = io.BytesIO(), io.BytesIO()
    write_record(ours, data)
    RecordWriter(theirs).write(data)
    assert crc32c(data) == plain(data)
    assert ours.getvalue() == theirs.getvalue()
