#!/usr/bin/env python3
"""Signs what a Thing says, as docs/formats.md describes it, and prints it with its signature. Needs PyNaCl.

    echo '{"device": "lamp-1", "sequence": 1, "time_ms": 1800000000000, "kind": "lampFailure",
           "severity": "major", "alarm": "raise", "data": ""}' |
        thing.py --type DeviceEvent --chain-id 4394..2068 --key lamp-1.key

The key file holds the 32 bytes of the Thing's Ed25519 seed as hexadecimal text. Events go to the ledger in
{"events": {"append": {"events": [..]}}}, the reports in the `report` actions of rollouts, devices and config, each by
the device's gateway. With --message the bytes that are signed are printed instead.
"""
import argparse
import json
import struct
import sys

from nacl.signing import SigningKey

# The binary encoding: fixed-width little-endian numbers, lengths of 8 bytes, variants of 4, options of one.


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def boolean(value: bool) -> bytes:
    return b"\1" if value else b"\0"


def text(value: str) -> bytes:
    encoded = value.encode()
    return u64(len(encoded)) + encoded


def digest(value: str) -> bytes:
    return bytes.fromhex(value)


def version(value: str) -> bytes:
    return b"".join(u32(int(part)) for part in value.split("."))


def option(encode):
    return lambda value: b"\0" if value is None else b"\1" + encode(value)


def one_of(*names: str):
    return lambda value: u32(names.index(value))


SEVERITY = one_of("critical", "major", "minor", "warning", "indeterminate")
ALARM = one_of("none", "raise", "clear")
STATE = one_of(
    "assigned", "offered", "waiting_consent", "postponed", "waiting_window", "downloading", "downloaded",
    "installing", "staged", "trial", "confirmed", "reverted", "failed", "rejected", "timed_out", "cancelled",
    "superseded", "removed", "not_needed",
)

# The fields of each type in their order, but for the last one, the signature.
EVENT, REPORT = "lamplighter/device-event/1", "lamplighter/device-report/1"
TYPES = {
    "DeviceEvent": (EVENT, [
        ("device", text), ("sequence", u64), ("time_ms", u64), ("kind", text), ("severity", SEVERITY),
        ("alarm", ALARM), ("data", text)]),
    "DeploymentReport": (REPORT, [
        ("rollout", text), ("device", text), ("from", STATE), ("to", STATE), ("code", u32),
        ("digest", option(digest)), ("seen_height", u64), ("counter", u64), ("detail", text)]),
    "InventoryReport": (REPORT, [
        ("device", text), ("version", option(version)), ("digest", digest), ("security_counter", u64),
        ("counter", u64)]),
    "ConfigReport": (REPORT, [
        ("device", text), ("document", digest), ("applied", boolean), ("detail", text), ("counter", u64)]),
}


def message(name: str, value: dict, chain_id: bytes) -> bytes:
    """The bytes that a Thing signs: domain, chain, name of the type, the value without a signature."""
    domain, fields = TYPES[name]
    encoded = b"".join(encode(value.get(field)) for field, encode in fields)
    no_signature = b"\0"
    return domain.encode() + b"\0" + chain_id + name.encode() + b"\0" + encoded + no_signature


def main() -> None:
    parser = argparse.ArgumentParser(description="Signs an event or report (JSON on stdin) as a Thing does.")
    parser.add_argument("--type", required=True, choices=TYPES)
    parser.add_argument("--chain-id", required=True, help="64 hexadecimal digits, as in /v1/status")
    parser.add_argument("--key", required=True, help="file with the seed of the Thing's key")
    parser.add_argument("--message", action="store_true", help="print what is signed, in hexadecimal")
    options = parser.parse_args()

    with open(options.key, encoding="ascii") as file:
        secret = SigningKey(bytes.fromhex(file.read().strip()))
    value = json.load(sys.stdin)
    signed = message(options.type, value, bytes.fromhex(options.chain_id))
    if options.message:
        print(signed.hex())
    else:
        signature = secret.sign(signed).signature.hex()
        print(json.dumps(value | {"signature": signature}, ensure_ascii=False))


if __name__ == "__main__":
    main()
