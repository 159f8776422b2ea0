"""Firmware images: round trip, size, every single damage refused, and what boot refuses."""

from __future__ import annotations

import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yieldkit.errors import BadFile, BadInput
from yieldkit.fabric import Fabric, FirmwareImage
from yieldkit.fabric.packing import pack, unpack, unzigzag, zigzag
from yieldkit.faultmap import FaultMap
from yieldkit.repair import RowShift, plan_repair
from yieldkit.wafer import WaferSpec

MINI = WaferSpec.preset("mini")


@pytest.fixture(scope="module")
def plan():
    faults = FaultMap.for_wafer(MINI, dead_cores=[(4, 7), (9, 12), (9, 3)], wafer_id="W01")
    return plan_repair(faults, RowShift.for_wafer(MINI))


@pytest.fixture(scope="module")
def image(plan):
    return plan.firmware(wafer_id="W01")


def test_round_trip(tmp_path, plan, image):
    path = image.save(tmp_path / "fw.bin")
    again = FirmwareImage.load(path)
    assert again.data == image.data == path.read_bytes()
    assert again.fingerprint == image.fingerprint
    fabric = Fabric.boot(again, MINI, wafer_id="W01")
    assert (fabric.core_of == plan.core_of).all()
    assert fabric.wafer_id == "W01"
    assert fabric.spec is MINI
    assert fabric.image_fingerprint == image.fingerprint


def test_the_header_is_what_the_documentation_says(image):
    data = image.data
    assert data[:8] == b"YKFWIMG\0"
    assert struct.unpack_from("<HHI", data, 8) == (1, 0, len(data))
    assert data[16:32].decode() == MINI.fingerprint
    assert struct.unpack_from("<IIIII", data, 32) == (*MINI.logical_shape, *MINI.shape, MINI.logical.first_row)
    assert data[52] in (1, 2)
    assert data[53] in (0, 1)
    assert struct.unpack_from("<H", data, 54) == (3,)
    assert struct.unpack_from("<I", data, 56) == (len(image.group_sizes),)
    assert data[60:63] == b"W01"
    assert struct.unpack("<I", data[-4:]) == (zlib.crc32(data[:-4]),)


def test_every_flipped_byte_and_every_truncation_is_refused(image):
    data = image.data
    for i in range(len(data)):
        flipped = bytearray(data)
        flipped[i] ^= 1 << (i % 8)
        with pytest.raises(BadFile):
            FirmwareImage.from_bytes(bytes(flipped))
        with pytest.raises(BadFile):
            FirmwareImage.from_bytes(data[:i])
    with pytest.raises(BadFile):
        FirmwareImage.from_bytes(data + b"\0")


def sealed(data):
    """The bytes with a right length and CRC, as a faulty writer would leave them."""
    body = bytearray(data[:-4])
    struct.pack_into("<I", body, 12, len(body) + 4)
    return bytes(body) + struct.pack("<I", zlib.crc32(bytes(body)))


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.data())
def test_a_right_crc_over_wrong_content_is_refused_or_harmless(image, data):
    changed = bytearray(image.data)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(8, len(changed) - 5))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, 3))
    body = bytes(changed[: len(changed) - 4 - cut]) + b"\0\0\0\0"
    try:
        read = FirmwareImage.from_bytes(sealed(body))
        Fabric.boot(read, MINI)
    except BadFile:
        return
    assert read.columns.min() >= 0
    assert (np.diff(read.columns, axis=1) >= 1).all()


def test_boot_refuses_the_wrong_wafer(image):
    with pytest.raises(BadFile, match="not for the one that is there"):
        Fabric.boot(image, MINI, wafer_id="W02")
    with pytest.raises(BadFile, match="another kind of wafer"):
        Fabric.boot(image, WaferSpec.preset("wse1"))
    with pytest.raises(BadFile, match="another kind of wafer"):
        Fabric.boot(image, None)
    other = MINI.changed({"repair.vertical_reach": 0})
    with pytest.raises(BadFile, match="another kind of wafer"):
        Fabric.boot(image, other)


def test_boot_refuses_another_version(image):
    changed = bytearray(image.data)
    changed[8] = 2
    with pytest.raises(BadFile, match="version must be 1"):
        FirmwareImage.from_bytes(sealed(bytes(changed)))


def test_boot_refuses_sites_that_the_wafer_does_not_have():
    height, width = MINI.logical_shape
    bare = plan_repair(FaultMap(MINI.shape), RowShift(0, logical_shape=(height, width), first_row=1))
    # Without the spec's holes the plan runs straight through them.
    image = bare.firmware(wafer_id="W01", wafer=MINI)
    with pytest.raises(BadFile, match="hole"):
        Fabric.boot(image, MINI)
    edge = plan_repair(FaultMap(MINI.shape), RowShift(0, logical_shape=(22, 22)))
    with pytest.raises(BadFile, match="edge"):
        Fabric.boot(edge.firmware(wafer_id="W01", wafer=MINI), MINI)


def test_a_plan_ships_only_to_its_own_wafer(plan):
    with pytest.raises(BadInput, match="made for wafer W01"):
        plan.firmware(wafer_id="W02")
    with pytest.raises(BadInput, match="another kind"):
        plan.firmware(wafer=WaferSpec.preset("wse1"))
    nameless = plan_repair(FaultMap((3, 4)), RowShift(spares=1))
    with pytest.raises(BadInput, match="wafer_id"):
        nameless.firmware()


def test_unreadable_files(tmp_path):
    with pytest.raises(BadFile, match="cannot be read"):
        FirmwareImage.load(tmp_path / "none.bin")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(BadFile, match="not a firmware image"):
        FirmwareImage.load(tmp_path / "text")


def test_a_wafer_of_a_million_cores_is_small_and_boots_at_once():
    wafer = WaferSpec.preset("wse3")
    rng = np.random.default_rng(4)
    present = np.argwhere(wafer.present_mask())
    faults = FaultMap.for_wafer(wafer, dead_cores=present[rng.choice(len(present), 50, replace=False)], wafer_id="W03")
    plan = plan_repair(faults, RowShift.for_wafer(wafer))
    data = plan.firmware().data
    assert len(data) < 64 << 10
    begin = time.process_time()
    fabric = Fabric.boot(FirmwareImage.from_bytes(data), wafer, wafer_id="W03")
    core = fabric.core_of
    assert time.process_time() - begin < 0.2
    assert (core == plan.core_of).all()
    for r, c in rng.integers(0, wafer.logical_shape, (500, 2)).tolist():
        assert fabric.logical_of(*core[r, c].tolist()) == (r, c)
    for r, c in faults.dead_cores.tolist():
        assert fabric.logical_of(r, c) is None


@settings(deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 2**32 - 1)))
def test_numbers_pack_and_unpack(numbers):
    assert list(unpack(pack(numbers))) == numbers


@given(st.integers(-(10**6), 10**6))
@settings(deadline=None, derandomize=True)
def test_zigzag(number):
    assert zigzag(number) >= 0
    assert unzigzag(zigzag(number)) == number


@pytest.mark.parametrize("wrong", [b"\x80", b"\xff" * 5 + b"\x01", b"\x80\x00"])
def test_wrong_numbers(wrong):
    with pytest.raises((ValueError, EOFError)):
        list(unpack(wrong))
