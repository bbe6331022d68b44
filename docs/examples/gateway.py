#!/usr/bin/env python3
"""A gateway that was written after the pages of docs/ alone. Needs PyNaCl, blake3 and paho-mqtt.

It learns its devices, proves every record that a node sends (formats.md, "Proofs"), brings deployments from `assigned`
to `confirmed`, sends an event about each, and believes a receipt only when it has its proof:

    gateway.py --account gw-north --key gw-north.key --genesis genesis.json \\
        --http https://10.0.0.1:8080 --mqtt mqtts://10.0.0.1:8883 --ca nodes.pem --images images

Its devices have no key, so the gateway vouches for them. To "install" is to put the image into the folder `--images`
under the device's name: there a real gateway would speak to the device. With --once it ends when the deployments of
all its devices are confirmed and all that it sent is proven.
"""
import argparse
import json
import os
import queue
import shutil
import ssl
import time
import urllib.parse
import urllib.request

import paho.mqtt.client as mqtt
from blake3 import blake3
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from submit import sign
from thing import digest, text, u32, u64

FORMAT_VERSION = 2  # of the genesis file, headers, proofs and messages of work
AGE_MAX_MS = 300_000  # a record of an older block is not acted on
AGAIN_S = 15  # the same bytes are sent again while their receipt is not proven
IMAGE_BYTES_MAX = 256 * 1024 * 1024


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


class Node:
    """A node's HTTP interface, with a token for reading."""

    def __init__(self, options, secret: SigningKey, chain_id: bytes):
        self.url, self.account, self.secret, self.chain_id = options.http, options.account, secret, chain_id
        self.tls = context(options.ca) if options.http.startswith("https:") else None
        self.token, self.until_ms = None, 0

    def ask(self, path: str, body: dict | None = None, bytes_max: int = 13_000_000, reads: bool = True) -> bytes:
        if reads and self.until_ms < now_ms() + 60_000:
            answer = self.log_in("http-read")
            self.token, self.until_ms = answer["token"], answer["expires_ms"]
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.token}"} if reads else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        with urllib.request.urlopen(request, timeout=30, context=self.tls) as answer:
            read = answer.read(bytes_max + 1)
        require(len(read) <= bytes_max, "an answer that is too long")
        return read

    def log_in(self, audience: str) -> dict:
        who = {"account": self.account, "key": bytes(self.secret.verify_key).hex()}
        asked = json.loads(self.ask("/v1/auth/challenge", who, reads=False))
        message = (b"lamplighter/token/2\0" + self.chain_id + u64(asked["node"]) + self.account.encode() + b"\0"
                   + audience.encode() + b"\0" + bytes.fromhex(asked["challenge"]))
        signature = self.secret.sign(message).signature.hex()
        answer = who | {"audience": audience, "challenge": asked["challenge"], "signature": signature}
        return json.loads(self.ask("/v1/auth/token", answer, reads=False))


def context(ca: str | None) -> ssl.SSLContext:
    """TLS 1.3 with a node whose certificate is in the file: that is what names it, not a host name."""
    if ca is None:
        raise SystemExit("TLS needs --ca, a file with the certificates of the nodes")
    tls = ssl.create_default_context(cafile=ca)
    tls.minimum_version, tls.check_hostname = ssl.TLSVersion.TLSv1_3, False
    return tls


def now_ms() -> int:
    return int(time.time() * 1000)


# The next step of a device for which the gateway vouches, and whether the report names the artifact.
STEPS = {"assigned": ("offered", False), "offered": ("downloading", False), "downloading": ("downloaded", True),
         "downloaded": ("installing", True), "installing": ("trial", True), "trial": ("confirmed", True)}


class Gateway:
    def __init__(self, options):
        with open(options.genesis, encoding="utf-8") as file:
            genesis = json.load(file)
        with open(options.key, encoding="ascii") as file:
            self.secret = SigningKey(bytes.fromhex(file.read().strip()))
        self.options = options
        self.trust = Trust(genesis, options.trusted)
        self.node = Node(options, self.secret, self.trust.chain_id)
        chain_id = json.loads(self.node.ask("/v1/status", reads=False))["chain_id"]
        require(chain_id == self.trust.chain_id.hex(), "a node of another chain")
        self.topic = f"lamplighter/1/gw/{options.account}"
        self.records = {}  # key of the state: (height, decoded record)
        self.pending = {}  # name of a transaction: its envelope, when it was sent, what it says, what follows
        self.counters = {}  # device: the highest counter of our reports
        self.reported = {}  # (rollout, device): the state up to which we have reported
        self.told = set()  # devices whose confirmation we told as an event
        self.sequence = json.loads(self.node.ask(f"/v1/keys/{bytes(self.secret.verify_key).hex()}"))["highest_sequence"]
        self.messages = queue.Queue(maxsize=64)

    # MQTT

    def connect(self) -> None:
        address = urllib.parse.urlsplit(self.options.mqtt)
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=self.options.account)
        self.client.username_pw_set(self.options.account, self.node.log_in("mqtt")["token"])
        if address.scheme == "mqtts":
            self.client.tls_set_context(context(self.options.ca))
        self.client.on_connect = self.on_connect
        self.client.on_message = lambda client, data, message: self.messages.put((message.topic, message.payload))
        # The token ends within 15 minutes, and with it the connection: the next one needs a new token.
        self.client.on_disconnect = lambda client, *_: client.username_pw_set(
            self.options.account, self.node.log_in("mqtt")["token"])
        self.client.connect(address.hostname, address.port)
        self.client.loop_start()

    def on_connect(self, client, data, flags, reason, properties) -> None:
        if reason.is_failure:
            return print("the node does not let us in:", reason, flush=True)
        client.subscribe([(f"{self.topic}/receipt", 1), (f"{self.topic}/work", 1)])
        client.publish(f"{self.topic}/sync", "{}", qos=1)

    def run(self) -> None:
        self.connect()
        while not (self.options.once and self.is_done()):
            try:
                topic, payload = self.messages.get(timeout=1)
                message = json.loads(payload)
                self.on_work(message) if topic.endswith("/work") else self.on_receipt(message)
            except queue.Empty:
                pass
            except (NotProven, OSError, KeyError, ValueError, TypeError) as error:
                print("not believed:", repr(error), flush=True)
            self.send_again()
        self.client.disconnect()
        self.client.loop_stop()

    # Work

    def on_work(self, message: dict) -> None:
        require(message["version"] == FORMAT_VERSION, "a message of another version")
        require(message["gateway"] == self.options.account, "work of another gateway")
        proofs = message["proofs"]
        require(len(proofs["records"]) <= 1024 and len(message["items"]) <= 256, "a message that is too large")
        heads = [self.trust.head(head["certified"], head["set_changes"]) for head in proofs["heads"]]
        headers = {}
        for shared in proofs["records"]:
            place = (shared["head"], shared.get("ancestor"))
            if place not in headers:
                of = None if place[1] is None else proofs["ancestors"][place[1]]
                headers[place] = self.trust.ancestor(heads[place[0]], of)
            self.keep(headers[place], *proven_state(headers[place], shared["record"]))
        for item in message["items"]:
            if "deployment" in item:
                self.advance(item["deployment"]["rollout"], item["deployment"]["device"])
            elif "device" in item:
                device = self.find("device", item["device"]["device"])
                print("device", item["device"]["device"], device and device["status"], flush=True)

    def keep(self, head: dict, state_key: bytes, value: bytes | None) -> None:
        require(head["timestamp_ms"] > now_ms() - AGE_MAX_MS, "a record that is too old")
        table = next((table for table, prefix in TABLES.items() if state_key[:1] == prefix), None)
        if table and self.records.get(state_key, (0, None))[0] <= head["height"]:
            decoded = None if value is None else decode(RECORDS[table], value)
            self.records[state_key] = (head["height"], decoded)

    def find(self, table: str, *names: str) -> dict | None:
        return self.records.get(state_key(table, *names), (0, None))[1]

    def known(self, table: str, *names: str) -> dict:
        found = self.find(table, *names)
        require(found is not None, f"there is no proven {table} {' '.join(names)}")
        return found

    def permitted(self, deployment: dict) -> tuple:
        """Device and manifest of a deployment, when the ledger's records permit to carry it out."""
        device = self.known("device", deployment["device"])
        release = self.known("release", deployment["release"])
        signed, vendor = release["signed"], self.known("account", release["manifest"]["vendor"])
        ours = device["gateway"] == self.options.account and device["status"] == "active"
        require(ours, "the device is not ours, or not active")
        require(device["key"] is None, "the device signs its reports itself")
        of = decode(manifest, signed["manifest"])
        require(of == release["manifest"] and hashed(signed["manifest"]) == release["manifest_digest"],
                "a manifest that is not the recorded one")
        verify(signed["key"], b"lamplighter/release/1\0" + signed["manifest"], signed["signature"])
        key = self.known("key", signed["key"].hex())
        require(key == {"account": of["vendor"], "revoked": 0}, "the vendor does not have this key in use")
        is_vendor = any(grant["role"] == "vendor" for grant in vendor["grants"])
        require(is_vendor and not vendor["disabled"], "the vendor is none any more")
        begun = deployment["state"] not in ("assigned", "offered")
        require(release["status"] == "released" or release["status"] == "deprecated" and begun, "no released release")
        require(device["hardware_class"] in of["hardware_classes"], "a release for other hardware")
        counter = self.known("state", deployment["device"])["security_counter"]
        require(of["security_counter"] >= counter, "an older release")
        require(of["expires_ms"] is None or of["expires_ms"] > now_ms(), "an expired release")
        require(of["size_bytes"] <= IMAGE_BYTES_MAX, "an image that is too large")
        return device, of

    def advance(self, rollout: str, device: str) -> None:
        deployment = self.known("deployment", rollout, device)
        state = deployment["state"]
        if state == "confirmed":
            return self.tell(deployment)
        if state not in STEPS or self.reported.get((rollout, device)) == state:
            return
        _, of = self.permitted(deployment)
        to, names_artifact = STEPS[state]
        if state == "offered":
            self.download(of)
        elif state == "downloaded":
            shutil.copyfile(self.image(of["artifact"].hex()), self.image(device))
        self.reported[(rollout, device)] = state
        counter = max(self.counters.get(device, 0), self.known("state", device)["report_counter"]) + 1
        self.counters[device] = counter
        artifact = of["artifact"].hex() if names_artifact else None
        self.submit(f"{device} {to}", {"rollouts": {"report": {"reports": [{
            "rollout": rollout, "device": device, "from": state, "to": to, "code": 0, "digest": artifact,
            "seen_height": self.records[state_key("deployment", rollout, device)][0],
            "counter": counter, "detail": "", "signature": None}]}}},
            lambda height: self.moved(rollout, device, to, height))

    def moved(self, rollout: str, device: str, to: str, height: int) -> None:
        """The ledger has our report: nobody tells us the state that follows from it."""
        key = state_key("deployment", rollout, device)
        if self.records[key][0] < height:
            self.records[key] = (height, self.records[key][1] | {"state": to})
            self.advance(rollout, device)

    def image(self, name: str) -> str:
        return os.path.join(self.options.images, name)

    def download(self, of: dict) -> None:
        path = self.image(of["artifact"].hex())
        if os.path.exists(path):
            return
        image = self.node.ask(f"/v1/artifacts/{of['artifact'].hex()}", bytes_max=of["size_bytes"])
        require(hashed(image) == of["artifact"], "bytes that are not the artifact")
        with open(path + ".new", "wb") as file:
            file.write(image)
        os.replace(path + ".new", path)

    def tell(self, deployment: dict) -> None:
        device, release = deployment["device"], deployment["release"]
        if (device, release) in self.told:
            return
        self.told.add((device, release))
        cursor = json.loads(self.node.ask(f"/v1/devices/{device}/events?limit=1"))["cursor"]
        self.submit(f"{device} event", {"events": {"append": {"events": [{
            "device": device, "sequence": cursor["highest"] + 1, "time_ms": now_ms(), "kind": "x-updated",
            "severity": "indeterminate", "alarm": "none", "data": release, "signature": None}]}}})

    # Transactions and their receipts

    def submit(self, what: str, action: dict, proven=lambda height: None) -> None:
        self.sequence += 1
        transaction = {"sender": self.options.account, "sequence": self.sequence, "expires_ms": now_ms() + 3_600_000,
                       "action": action}
        envelope = sign(transaction, self.trust.chain_id, self.secret)
        signed = (b"lamplighter/transaction/1\0" + self.trust.chain_id + bytes.fromhex(envelope["key"]) + b"\0"
                  + bytes.fromhex(envelope["payload"]))
        self.pending[hashed(signed).hex()] = [envelope, time.monotonic(), what, proven]
        self.client.publish(f"{self.topic}/tx", json.dumps(envelope), qos=1)

    def send_again(self) -> None:
        for sent in self.pending.values():
            if time.monotonic() - sent[1] > AGAIN_S:
                sent[1] = time.monotonic()
                self.client.publish(f"{self.topic}/tx", json.dumps(sent[0]), qos=1)

    def on_receipt(self, message: dict) -> None:
        name = message["transaction"]
        if name not in self.pending:
            return
        if "refused" in message:
            raise NotProven(f"{self.pending.pop(name)[2]}: {message['refused']}")
        proof = json.loads(self.node.ask(f"/v1/proofs/transactions/{name}?receipt=true&trusted={self.trust.height}"))
        require(proof["version"] == FORMAT_VERSION, "a proof of another version")
        head = self.trust.head(proof["head"], proof["set_changes"])
        head = self.trust.ancestor(head, proof.get("ancestor"))
        receipt = proven_receipt(head, proof["record"])
        require(receipt[:32].hex() == name, "the receipt of another transaction")
        succeeded = receipt[32:36] == u32(0)
        _, _, what, proven = self.pending.pop(name)
        print("proven:" if succeeded else "proven to have failed:", what, "in block", head["height"], flush=True)
        if succeeded:
            proven(head["height"])
        else:
            self.reported.clear()  # a report that failed is made again when a node names its deployment again

    def is_done(self) -> bool:
        records = self.records.values()
        ours = {of["device"] for _, of in records if of and of.get("gateway") == self.options.account}
        return bool(ours) and ours <= {device for device, _ in self.told} and not self.pending


def main() -> None:
    parser = argparse.ArgumentParser(description="A gateway for devices without a key.")
    parser.add_argument("--account", required=True, help="its account on the ledger")
    parser.add_argument("--key", required=True, help="file with the seed of the account's key")
    parser.add_argument("--genesis", required=True, help="the genesis file, the root of trust")
    parser.add_argument("--http", default="http://127.0.0.1:8080", help="a node; https:// is TLS")
    parser.add_argument("--mqtt", default="mqtt://127.0.0.1:1883", help="its MQTT listener; mqtts:// is TLS")
    parser.add_argument("--ca", help="PEM file with the certificates of the nodes")
    parser.add_argument("--trusted", help="file in which the newest proven validators are kept")
    parser.add_argument("--images", default=".", help="folder of the images")
    parser.add_argument("--once", action="store_true", help="end when all is confirmed and proven")
    Gateway(parser.parse_args()).run()


if __name__ == "__main__":
    main()
