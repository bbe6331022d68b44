#!/usr/bin/env python3
"""Makes a transaction, signs it, sends it to a node and prints the receipt. Needs PyNaCl.

    echo '{"events": {"acknowledge": {"alarm": {"device": "lamp-1", "sequence": 7},
           "comment": "crew is on its way"}}}' |
        submit.py --node https://127.0.0.1:8080 --cacert node.pem --sender anna --key anna.key

`lamplighter node certificate` prints a node's certificate. A devnet has those of all in nodes.pem.

The key file holds the 32 bytes of an Ed25519 seed as hexadecimal text. With --print the signed
transaction is printed and not sent: as it is it can be published to the MQTT edge.
"""
import argparse
import json
import ssl
import sys
import time
import urllib.error
import urllib.request

from nacl.signing import SigningKey

ENCODING_JSON = 0  # the byte that says in the signed message how the payload is encoded


def sign(transaction: dict, chain_id: bytes, secret: SigningKey) -> dict:
    """The envelope: these very payload bytes are signed, sent and stored."""
    payload = json.dumps(transaction, ensure_ascii=False, separators=(",", ":")).encode()
    key = bytes(secret.verify_key)
    message = b"lamplighter/transaction/1\0" + chain_id + key + bytes([ENCODING_JSON]) + payload
    signature = secret.sign(message).signature
    envelope = {"key": key, "payload": payload, "signature": signature}
    return {"encoding": "json"} | {name: value.hex() for name, value in envelope.items()}


def request(url: str, tls: ssl.SSLContext, body: dict | None = None) -> dict:
    """GET, or POST where there is a body. An error of the node is printed as it said it."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    try:
        asked = urllib.request.Request(url, data, headers)
        with urllib.request.urlopen(asked, timeout=30, context=tls) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.code} {error.reason}: {error.read().decode()}")
    except urllib.error.URLError as error:
        sys.exit(f"{url}: {error.reason}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Signs an action (JSON on stdin) and submits it.")
    parser.add_argument("--node", default="https://127.0.0.1:8080", help="address of any node")
    parser.add_argument("--cacert", help="file with the TLS certificates of nodes")
    parser.add_argument("--sender", required=True, help="the account that acts")
    parser.add_argument("--key", required=True, help="file with the seed of one of its keys")
    parser.add_argument("--chain-id", help="64 hexadecimal digits; asked from the node if unsaid")
    parser.add_argument("--sequence", type=int, help="used once per key; asked if unsaid")
    parser.add_argument("--print", action="store_true", help="print the transaction, do not send")
    options = parser.parse_args()

    tls = ssl.create_default_context(cafile=options.cacert)
    now_ms = int(time.time() * 1000)
    with open(options.key, encoding="ascii") as file:
        secret = SigningKey(bytes.fromhex(file.read().strip()))
    sequence = options.sequence
    if sequence is None:
        key = bytes(secret.verify_key).hex()
        sequence = request(f"{options.node}/v1/keys/{key}", tls)["highest_sequence"] + 1
    transaction = {
        "sender": options.sender,
        "sequence": sequence,
        "expires_ms": now_ms + 60_000,
        "action": json.load(sys.stdin),
    }
    chain_id = options.chain_id or request(options.node + "/v1/status", tls)["chain_id"]
    signed = sign(transaction, bytes.fromhex(chain_id), secret)
    answer = signed if options.print else request(options.node + "/v1/transactions", tls, signed)
    print(json.dumps(answer, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
