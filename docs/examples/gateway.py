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
import urllib.error
import urllib.parse
import urllib.request

import paho.mqtt.client as mqtt
from nacl.signing import SigningKey

from proofs import (
    FORMAT_VERSION, NotProven, RECORDS, TABLES, Trust, decode, hashed, manifest, proven_receipt, proven_state, require,
    state_key, verify)
from submit import sign
from thing import u32, u64

AGE_MAX_MS = 300_000  # a record of an older block is not acted on
AGAIN_S = 15  # the same bytes are sent again while their receipt is not proven
IMAGE_BYTES_MAX = 256 * 1024 * 1024


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
        try:
            with urllib.request.urlopen(request, timeout=30, context=self.tls) as answer:
                read = answer.read(bytes_max + 1)
        except urllib.error.HTTPError as error:
            if error.code == 401:  # The node was restarted, or somebody ended the session: log in again.
                self.until_ms = 0
            raise
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
        os.makedirs(options.images, exist_ok=True)
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
        # Records of several blocks were perhaps never in force together.
        require(len({header["height"] for header in headers.values()}) <= 1, "records of several blocks")
        for shared in proofs["records"]:
            header = headers[(shared["head"], shared.get("ancestor"))]
            self.keep(header, *proven_state(header, shared["record"]))
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
