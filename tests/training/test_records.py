"""Records of TensorBoard's events: the checksums, and what TensorBoard reads."""

import os

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import crc32c as byte_by_byte

from hypersiren.training.records import crc32c, record


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 251, 252, 253, 256, 257, 508, 509, 1000, 20_001])
def test_the_checksum_is_that_of_bytes_one_by_one(count):
    content = os.urandom(count)
    assert crc32c(content) == byte_by_byte(content)


def test_tensorboard_reads_what_is_written(tmp_path):
    events = [Event(file_version="brain.Event:2"), Event(step=3), Event(step=4, file_version="a" * 5000)]
    with open(tmp_path / "events", "wb") as file:
        for event in events:
            file.write(record(event.SerializeToString()))
    read = EventFileLoader(str(tmp_path / "events"))
    assert [event.SerializeToString() for event in read.Load()] == [event.SerializeToString() for event in events]
    content = bytearray((tmp_path / "events").read_bytes())
    content[-10] ^= 1
    (tmp_path / "events").write_bytes(content)
    assert len(list(EventFileLoader(str(tmp_path / "events")).Load())) == 2
