"""A gateway with paho-mqtt: transactions at every QoS, receipts, work, head, refusals.

Arguments: plain port, TLS port, token of gw-1, folder with cert.pem, key.pem, node.pem and
transactions tx-N.json with their hashes tx-N.hash.
"""

import itertools
import json
import queue
import ssl
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PLAIN, TLS, TOKEN, FOLDER = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
BASE = "lamplighter/1/gw/gw-1"
WAIT = 10
NUMBERS = itertools.count()


def read(name):
    with open(f"{FOLDER}/{name}", "rb") as file:
        return file.read()


def message_on(messages, topic):
    while True:
        message = messages.get(timeout=WAIT)
        if message.topic == topic:
            return message


def run(protocol, secure):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="gw-1", protocol=protocol)
    connected, subscribed, messages = queue.Queue(), queue.Queue(), queue.Queue()
    client.on_connect = lambda c, u, flags, reason, properties: connected.put(reason)
    client.on_subscribe = lambda c, u, mid, reasons, properties: subscribed.put(reasons)
    client.on_message = lambda c, u, message: messages.put(message)
    if secure:
        context = ssl.create_default_context(cafile=f"{FOLDER}/node.pem")
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(f"{FOLDER}/cert.pem", f"{FOLDER}/key.pem")
        client.tls_set_context(context)
        client.connect("localhost", TLS)
    else:
        client.username_pw_set("gw-1", TOKEN)
        client.connect("127.0.0.1", PLAIN)
    client.loop_start()
    assert not connected.get(timeout=WAIT).is_failure

    topics = [(f"{BASE}/receipt", 2), (f"{BASE}/work", 1), ("lamplighter/1/head", 0)]
    client.subscribe(topics + [("lamplighter/1/gw/gw-2/work", 1)])
    reasons = subscribed.get(timeout=WAIT)
    assert [reason.value for reason in reasons[:3]] == [1, 1, 0], reasons
    assert reasons[3].is_failure
    assert json.loads(message_on(messages, "lamplighter/1/head").payload)["header"]["height"] > 0
    assert json.loads(message_on(messages, f"{BASE}/work").payload)["gateway"] == "gw-1"

    for qos in (0, 1, 2):
        properties = None
        if protocol == mqtt.MQTTv5:
            properties = Properties(PacketTypes.PUBLISH)
            properties.CorrelationData = b"number %d" % qos
            properties.ContentType = "application/json"
        number = next(NUMBERS)
        body, digest = read(f"tx-{number}.json"), read(f"tx-{number}.hash").decode()
        client.publish(f"{BASE}/tx", body, qos=qos, properties=properties).wait_for_publish(WAIT)
        receipt = message_on(messages, f"{BASE}/receipt")
        assert json.loads(receipt.payload)["transaction"] == digest
        if protocol == mqtt.MQTTv5:
            assert receipt.properties.CorrelationData == b"number %d" % qos
            assert receipt.properties.UserProperty[0][0] == "transaction"
    client.disconnect()
    client.loop_stop()
    print("ok", protocol, secure)


# A gateway that has shown its certificate is not let in by a token any more.
for secure in (False, True):
    for protocol in (mqtt.MQTTv311, mqtt.MQTTv5):
        run(protocol, secure)
