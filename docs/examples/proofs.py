"""The check of proofs as docs/formats.md describes it, for programs that believe no node. Needs PyNaCl and blake3.

`Trust` knows the newest proven validators and proves headers; `proven_state` and `proven_receipt` prove a record under
one; `RECORDS` decodes the records of the state that a gateway meets.
"""
import json
import os

from blake3 import blake3
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from thing import digest, text, u32, u64

FORMAT_VERSION = 2  # of the genesis file, headers, proofs and messages of work


class NotProven(Exception):
    """What a node sent is not proven, or says that we must not act."""


def require(holds: bool, what: str) -> None:
    if not holds:
        raise NotProven(what)


def hashed(*parts: bytes) -> bytes:
    return blake3(b"".join(parts)).digest()


def verify(key: bytes, message: bytes, signature: bytes) -> None:
    try:
        VerifyKey(key).verify(message, signature)
    except (BadSignatureError, ValueError) as error:
        raise NotProven(f"signature of {key.hex()}: {error}") from error


# The binary encoding of what comes as JSON and is hashed: the fields of a type in their order.


def items(encode):
    return lambda values: u64(len(values)) + b"".join(encode(value) for value in values)


def fields(**encoders):
    return lambda value: b"".join(encode(value[name]) for name, encode in encoders.items())


ROLES = ["administrator", "operator", "approver", "vendor", "security", "auditor", "relay"]
approval_policy = fields(approvals=lambda n: bytes([n]), expires_ms=u64)
allowance = fields(records=u64, bytes=u64)
header = fields(
    version=u32, chain_id=digest, height=u64, parent=digest, timestamp_ms=u64, tx_root=digest, receipt_root=digest,
    event_root=digest, state_root=digest, history_root=digest, validators_hash=digest, batch=digest, position=digest)
validator_set = fields(validators=items(fields(node=u64, account=text, key=digest, address=text)))
genesis_file = fields(
    version=u32, name=text, created_ms=u64, validators=validator_set, organization=text,
    accounts=items(fields(account=text, name=text, key=digest, grants=items(fields(
        role=lambda name: u32(ROLES.index(name)), scope=text, since_ms=u64)))),
    policies=fields(
        approvals=fields(
            releases=approval_policy, rollouts=approval_policy, power=approval_policy, recovery=approval_policy,
            validators=approval_policy, policies=approval_policy, devices=approval_policy),
        newcomer_wait_ms=u64,
        allowances=fields(users=allowance, gateways=allowance, nodes=allowance),
        retention=fields(open_release_ms=u64, open_plan_ms=u64, ended_release_ms=u64)))


# Records of the state, decoded. A reader takes its bytes from a `Bytes`.


class Bytes:
    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        require(count <= len(self.data) - self.at, "a record ends too early")
        self.at += count
        return self.data[self.at - count : self.at]


def number(size):
    return lambda data: int.from_bytes(data.take(size), "little")


def variant(*names):
    def read(data):
        place = number(4)(data)
        require(place < len(names), "a variant that this program does not know")
        return names[place]
    return read


def optional(read):
    return lambda data: read(data) if number(1)(data) else None


def listed(read):
    return lambda data: [read(data) for _ in range(number(8)(data))]


def struct(**readers):
    return lambda data: {name: read(data) for name, read in readers.items()}


def blob(data):
    return data.take(number(8)(data))


def name(data):
    return blob(data).decode()


def key(data):
    return data.take(32)


def decode(read, value: bytes):
    data = Bytes(value)
    decoded = read(data)
    require(data.at == len(value), "a record has bytes too many")
    return decoded


def version(data):
    return [number(4)(data) for _ in range(3)]


flag, n8, n32, n64 = number(1), number(1), number(4), number(8)
state = variant(
    "assigned", "offered", "waiting_consent", "postponed", "waiting_window", "downloading", "downloaded", "installing",
    "staged", "trial", "confirmed", "reverted", "failed", "rejected", "timed_out", "cancelled", "superseded", "removed",
    "not_needed")
manifest = struct(
    release=name, vendor=name, version=version, artifact=key, size_bytes=n64, hardware_classes=listed(name),
    security_counter=n64, replaces_from=optional(version), depends_on=listed(name), expires_ms=optional(n64),
    critical=flag, provenance=optional(key))
approval = struct(account=name, key=key, at_ms=n64)
RECORDS = {
    "account": struct(
        account=name, kind=variant("user", "gateway", "node"), organization=name, name=name, district=name,
        keys=listed(struct(key=key, label=name)),
        grants=listed(struct(role=variant(*ROLES), scope=name, since_ms=n64)), disabled=flag, registered_height=n64),
    "key": struct(account=name, revoked=flag),
    "device": struct(
        device=name, owner=name, offered_to=optional(name), model=name, hardware_class=name, district=name,
        gateway=optional(name), key=optional(key), tags=listed(struct(name=name, value=name)),
        status=variant("active", "suspended", "decommissioned"), registered_height=n64),
    "state": struct(
        version=optional(version), release=optional(name), digest=optional(key), security_counter=n64,
        report_counter=n64, drifted=flag, active_rollout=optional(name), confirmed=listed(name), key_rotations=n32),
    "release": struct(
        manifest=manifest, signed=struct(manifest=blob, key=key, signature=lambda data: data.take(64)),
        manifest_digest=key, status=variant("signed", "released", "deprecated", "revoked"), author=name,
        organization=name, approvals=listed(approval), reason=name, published_height=n64, published_ms=n64,
        released_ms=optional(n64), ended_ms=optional(n64)),
    "deployment": struct(
        rollout=name, device=name, release=name, state=state, assigned_height=n64,
        steps=listed(struct(
            to=state, height=n64, time_ms=n64, by=optional(name), attested=flag, code=n32, detail=name)),
        retries=n8, postponed_count=n32, postponed_until_ms=optional(n64), postponed_from=optional(state),
        first_offered_ms=optional(n64), deadline_ms=optional(n64)),
}
TABLES = {"account": b"\x02", "key": b"\x03", "device": b"\x10", "state": b"\x11", "release": b"\x20",
          "deployment": b"\x31"}
VALIDATORS = b"\x60"


def state_key(table: str, *names: str) -> bytes:
    if table == "key":
        return TABLES[table] + bytes.fromhex(names[0])
    return TABLES[table] + b"".join(part.encode() + b"\0" for part in names)


# Trees.


def list_root(leaf: bytes, index: int, count: int, path: list) -> bytes:
    """The root of a tree of `count` leaves (RFC 9162, 2.1.3.2), from one leaf and its path."""
    require(index < count, "a place behind the end of a list")
    node, last, root = index, count - 1, leaf
    for sibling in map(bytes.fromhex, path):
        require(last > 0, "a path is too long")
        if node & 1 or node == last:
            root = hashed(b"\1", sibling, root)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            root = hashed(b"\1", root, sibling)
        node, last = node >> 1, last >> 1
    require(last == 0, "a path is too short")
    return root


def counted_root(item: bytes, place: dict) -> bytes:
    root = list_root(hashed(b"\0", item), place["index"], place["count"], place["path"])
    return hashed(b"\2", u64(place["count"]), root)


def state_root(state_key: bytes, value: bytes | None, path: dict) -> bytes:
    """The root of the state, from the record under a key, or its absence, and its path."""
    place, siblings = hashed(state_key), path["siblings"]
    require(len(siblings) <= 256, "a path is too long")

    other = path.get("other")
    if value is not None:
        root = hashed(b"\3", place, hashed(value))
    elif other is None:
        root = bytes(32)
    else:
        require(other["key"] != place.hex(), "the key itself is there")
        root = hashed(b"\3", bytes.fromhex(other["key"]), bytes.fromhex(other["value"]))
    for depth in reversed(range(len(siblings))):
        sibling, right = bytes.fromhex(siblings[depth]), place[depth // 8] >> (7 - depth % 8) & 1
        root = hashed(b"\4", sibling, root) if right else hashed(b"\4", root, sibling)
    return root


def quorum(validators: dict) -> int:
    count = len(validators["validators"])
    return (count + (count - 1) // 3) // 2 + 1


def signers(certified: dict, validators: dict) -> list:
    """Checks that a quorum of `validators` signed a header, and returns their keys."""
    head, certificate = certified["header"], certified["certificate"]
    encoded = header(head)
    require(head["validators_hash"] == hashed(validator_set(validators)).hex(), "other validators")
    require(certificate["header"] == hashed(encoded).hex(), "a certificate of another header")
    require(certificate["height"] == head["height"], "a certificate of another height")
    keys = [signature["key"] for signature in certificate["signatures"]]
    require(keys == sorted(set(keys)), "signatures are not in the order of their keys")
    require(set(keys) <= {validator["key"] for validator in validators["validators"]}, "a stranger signed")
    require(len(keys) >= quorum(validators), "too few signatures")
    signed = b"lamplighter/attestation/2\0" + u64(head["height"]) + hashed(encoded)
    for signature in certificate["signatures"]:
        verify(bytes.fromhex(signature["key"]), signed, bytes.fromhex(signature["signature"]))
    return keys


class Trust:
    """The newest validators that were proven, kept in a file from which they never go back."""

    def __init__(self, genesis: dict, path: str | None):
        require(genesis["version"] == FORMAT_VERSION, "a genesis file of another version")
        self.chain_id = hashed(genesis_file(genesis))
        self.path, self.height, self.validators = path, 0, genesis["validators"]
        if path and os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                kept = json.load(file)
            require(kept["chain_id"] == self.chain_id.hex(), "trusted validators of another chain")
            self.height, self.validators = kept["height"], kept["validators"]

    def check_header(self, head: dict) -> None:
        require(head["version"] == FORMAT_VERSION, "a header of another version")
        require(head["chain_id"] == self.chain_id.hex(), "a header of another chain")

    def follow(self, set_changes: list) -> None:
        for change in set_changes:
            head, following = change["certified"]["header"], change["next"]
            if head["height"] <= self.height:
                continue
            self.check_header(head)
            trusted = {validator["key"] for validator in self.validators["validators"]}
            known = trusted & set(signers(change["certified"], change["in_force"]))
            require(len(known) >= quorum(self.validators), "too few of the trusted validators signed")
            root = state_root(VALIDATORS, validator_set(following), change["path"])
            require(root.hex() == head["state_root"], "validators that are not in the state")
            self.keep(head["height"], following)

    def keep(self, height: int, validators: dict) -> None:
        if self.path:
            kept = {"chain_id": self.chain_id.hex(), "height": height, "validators": validators}
            with open(self.path + ".new", "w", encoding="utf-8") as file:
                json.dump(kept, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(self.path + ".new", self.path)
        self.height, self.validators = height, validators

    def head(self, certified: dict, set_changes: list) -> dict:
        """A certified header, proven."""
        self.follow(set_changes)
        head = certified["header"]
        self.check_header(head)
        require(head["height"] > self.height or self.height == 0, "a header older than the validators")
        signers(certified, self.validators)
        return head

    def ancestor(self, head: dict, ancestor: dict | None) -> dict:
        """The header of a record's block: the head, or one below it."""
        if ancestor is None:
            return head
        below = ancestor["header"]
        self.check_header(below)
        leaf = hashed(b"\0", hashed(header(below)))
        root = list_root(leaf, below["height"], head["height"], ancestor["path"])
        require(root.hex() == head["history_root"], "a header that is not below the head")
        return below


def proven_state(head: dict, proof: dict) -> tuple:
    """Key and value of a record of the state; the value is None where the key is proven absent."""
    of = proof["state"]
    value = None if of.get("value") is None else bytes.fromhex(of["value"])
    state_key = bytes.fromhex(of["key"])
    require(state_root(state_key, value, of["path"]).hex() == head["state_root"], "a record not in the state")
    return state_key, value


def proven_receipt(head: dict, proof: dict) -> bytes:
    """A receipt of a block; it begins with the name of its transaction, then 0 for one that succeeded."""
    of = proof["receipt"]
    receipt = bytes.fromhex(of["receipt"])
    require(counted_root(receipt, of["place"]).hex() == head["receipt_root"], "a receipt not in the block")
    return receipt
