"""What Eclipse paho's interoperability tests (paho.mqtt.testing, client_test.py and client_test5.py) ask of a server,
asked of a node, whose topics are its own: each check has the name of the test there.

Arguments: port, token of gw-1, token of ann (a user of the district north), a folder with transactions tx-N.json of
gw-1 and their hashes tx-N.hash. Prints "ok NAME VERSION" for each check that holds, and for wills the hash that must
be on the ledger in the end.
"""

import itertools
import json
import queue
import sys
import time
import traceback

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

PORT, TOKENS, FOLDER = int(sys.argv[1]), {"gw-1": sys.argv[2], "ann": sys.argv[3]}, sys.argv[4]
BASE, HEAD, NOTIFY = "lamplighter/1/gw/gw-1", "lamplighter/1/head", "lamplighter/1/notify"
RECEIPT, TX = f"{BASE}/receipt", f"{BASE}/tx"
WAIT = 20
QUIET = 0.5  # nothing came within this time
NUMBERS = itertools.count()
V3, V5 = mqtt.MQTTv311, mqtt.MQTTv5


def properties(kind, **values):
    of = Properties(kind)
    for name, value in values.items():
        setattr(of, name, value)
    return of


def transaction():
    number = next(NUMBERS)
    with open(f"{FOLDER}/tx-{number}.json", "rb") as body, open(f"{FOLDER}/tx-{number}.hash") as digest:
        return body.read(), digest.read()


class Paho(mqtt.Client):
    """paho does not look at the reason of a DISCONNECT that has nothing behind it."""

    disconnect_reason = None

    def _handle_disconnect(self):
        self.disconnect_reason = self._in_packet["packet"][0]
        super()._handle_disconnect()


class Client:
    """A client of paho with what the server said in queues."""

    def __init__(self, version, account="gw-1", clean=True, keepalive=60, client_id=None, will=None, will_properties=None,
                 manual=False, **connect):
        self.version = version
        more = {} if version == V5 else {"clean_session": clean}
        name = account if client_id is None else client_id
        self.client = Paho(
            mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=version, manual_ack=manual, **more)
        self.connects, self.ends, self.granted, self.messages, self.published = (queue.Queue() for _ in range(5))
        self.client.on_connect = lambda c, u, flags, reason, of: self.connects.put((flags, reason, of))
        self.client.on_disconnect = lambda c, u, flags, reason, of: self.ends.put((flags, reason))
        self.client.on_subscribe = lambda c, u, mid, reasons, of: self.granted.put(reasons)
        self.client.on_message = lambda c, u, message: self.messages.put(message)
        self.client.on_publish = lambda c, u, mid, reason, of: self.published.put(reason)
        self.client.username_pw_set(account, TOKENS[account])
        if will:
            self.client.will_set(*will, qos=1, properties=will_properties)
        more = {"clean_start": clean, "properties": properties(PacketTypes.CONNECT, **connect)} if version == V5 else {}
        # A client that connects again by itself would hide that it was disconnected.
        self.client.reconnect_delay_set(60, 60)
        self.client.connect("127.0.0.1", PORT, keepalive=keepalive, **more)
        self.client.loop_start()
        self.flags, self.reason, self.terms = self.connects.get(timeout=WAIT)

    def __enter__(self):
        assert not self.reason.is_failure, self.reason
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()

    def vanish(self):
        """The connection breaks without a DISCONNECT."""
        self.client.loop_stop()
        self.client._sock_close()

    def subscribe(self, *filters):
        self.client.subscribe(list(filters))
        return [reason.value for reason in self.granted.get(timeout=WAIT)]

    def publish(self, body, qos=1, topic=TX, retain=False, **of):
        more = properties(PacketTypes.PUBLISH, **of) if of else None
        self.client.publish(topic, body, qos=qos, retain=retain, properties=more)

    def next(self, topic):
        deadline = time.monotonic() + WAIT
        while True:
            message = self.messages.get(timeout=max(0.01, deadline - time.monotonic()))
            if message.topic == topic:
                return message

    def receipt(self, digest):
        while True:
            message = self.next(RECEIPT)
            if json.loads(message.payload)["transaction"] == digest:
                return message

    def silent(self, topic):
        """No message on the topic for a while."""
        until = time.monotonic() + QUIET
        while time.monotonic() < until:
            try:
                assert self.messages.get(timeout=0.05).topic != topic
            except queue.Empty:
                pass

    def ended(self, reason=None):
        """The server ended the connection, with this reason."""
        self.ends.get(timeout=WAIT)
        found = self.client.disconnect_reason
        assert reason is None or found == reason, found


def basic(version):
    for _ in range(2):
        with Client(version) as client:
            assert not client.flags.session_present
            client.subscribe((RECEIPT, 2))
            for qos in (0, 1, 2):
                body, digest = transaction()
                client.publish(body, qos)
                client.receipt(digest)


def second_connect(version):
    with Client(version) as client:
        client.client._send_connect(60)
        client.ended()


def retained_messages(version):
    with Client(version) as client:
        # The only retained message is the node's.
        client.subscribe((HEAD, 1))
        assert client.next(HEAD).retain
        body, digest = transaction()
        client.subscribe((RECEIPT, 1))
        client.publish(body, retain=True)
        if version == V5:
            assert client.terms.RetainAvailable == 0
            client.ended(0x9A)
        else:
            client.silent(RECEIPT)


def will_message(version):
    body, digest = transaction()
    Client(version, will=(TX, body)).vanish()
    print("will", digest)


def zero_length_clientid(version):
    with Client(version, client_id="") as client:
        assert version == V3 or client.terms.AssignedClientIdentifier == "gw-1"
    if version == V3:
        # paho itself refuses to ask for this: tests/mqtt/standard.rs does.
        return
    with Client(version, client_id="", clean=False):
        pass


def offline_message_queueing(version):
    lasting = {"SessionExpiryInterval": 600} if version == V5 else {}
    with Client(version, clean=False, **lasting) as client:
        client.subscribe((RECEIPT, 1))
        body, digest = transaction()
        client.publish(body)
        client.published.get(timeout=WAIT)
    with Client(version, clean=False, **lasting) as client:
        assert client.flags.session_present
        # The receipt may have come before the end, and then the same bytes ask for it again.
        client.publish(body)
        client.receipt(digest)
    with Client(version):
        pass


def overlapping_subscriptions(version):
    with Client(version, "ann") as client:
        filters = [f"{NOTIFY}/device_tagged/north/+", f"{NOTIFY}/+/north/lamp-1"]
        assert client.subscribe((filters[0], 0), (filters[1], 1)) == [0, 1]
        # One message for all matching filters, with the highest QoS.
        first, second = (client.next(f"{NOTIFY}/device_tagged/north/lamp-1") for _ in range(2))
        assert first.payload != second.payload and first.qos == second.qos == 1


def keepalive(version):
    client = Client(version, keepalive=1)
    client.client.loop_stop()  # it sends no pings and reads nothing any more
    start = time.monotonic()
    while client.client.loop_read() == mqtt.MQTT_ERR_SUCCESS:
        time.sleep(0.05)
        assert time.monotonic() < start + WAIT
    assert time.monotonic() > start + 1


def redelivery_on_reconnect(version):
    lasting = {"SessionExpiryInterval": 600} if version == V5 else {}
    with Client(version, clean=False, manual=True, **lasting) as client:
        client.subscribe((RECEIPT, 1))
        body, digest = transaction()
        client.publish(body)
        client.receipt(digest)
        client.vanish()
    with Client(version, clean=False, **lasting) as client:
        assert client.flags.session_present
        assert client.receipt(digest).dup
    with Client(version):
        pass


def subscribe_failure(version):
    with Client(version) as client:
        refused = client.subscribe(("lamplighter/1/gw/gw-2/work", 1), ("test/nosubscribe", 2), (HEAD, 1))
        assert refused == ([0x87, 0x87, 1] if version == V5 else [0x80, 0x80, 1]), refused


def dollar_topics(version):
    with Client(version) as client:
        assert client.subscribe(("#", 1), ("$SYS/#", 1))[0] >= 0x80
        client.publish(b"x", topic="$SYS/broker", qos=1)
        client.ended(0x90 if version == V5 else None)


def unsubscribe(version):
    with Client(version) as client:
        client.subscribe((RECEIPT, 1), (HEAD, 0))
        client.client.unsubscribe(RECEIPT)
        body, digest = transaction()
        client.publish(body)
        client.published.get(timeout=WAIT)
        client.silent(RECEIPT)
        client.next(HEAD)


def session_expiry(version):
    def present(clean, expiry):
        with Client(version, clean=clean, SessionExpiryInterval=expiry) as client:
            client.subscribe((RECEIPT, 1))
            return client.flags.session_present

    assert not present(True, 0)
    assert not present(False, 600)
    assert present(False, 1)
    time.sleep(2.5)
    assert not present(False, 0)
    # DISCONNECT may change it.
    client = Client(version, SessionExpiryInterval=600)
    client.client.disconnect(properties=properties(PacketTypes.DISCONNECT, SessionExpiryInterval=0))
    client.ended()
    client.client.loop_stop()
    # MQTT has no answer to DISCONNECT, and a connection that takes over does not wait for it.
    time.sleep(QUIET)
    assert not present(False, 0)


def user_properties(version):
    with Client(version) as client:
        client.subscribe((RECEIPT, 1))
        body, digest = transaction()
        client.publish(body, UserProperty=[("a", "2"), ("c", "3")])
        assert client.receipt(digest).properties.UserProperty == [("transaction", digest)]


def payload_format(version):
    with Client(version) as client:
        client.subscribe((RECEIPT, 1))
        body, digest = transaction()
        client.publish(body, PayloadFormatIndicator=1, ContentType="application/json")
        client.receipt(digest)
        client.publish(body, ContentType="My name")
        client.published.get(timeout=WAIT)
        assert client.published.get(timeout=WAIT).value == 0x99


def subscribe_options(version):
    heads = []
    for handling in (0, 1, 2):
        with Client(version) as client:
            options = SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=handling)
            client.client.subscribe(HEAD, options=options)
            client.granted.get(timeout=WAIT)
            heads.append(client.next(HEAD).retain)
    # 2: not at once, but the next one that is made.
    assert heads == [True, True, False], heads


def assigned_clientid(version):
    with Client(version, client_id="") as client:
        assert client.terms.AssignedClientIdentifier == "gw-1"


def subscribe_identifiers(version):
    with Client(version) as client:
        assert client.terms.SubscriptionIdentifierAvailable == 0
        of = properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=2)
        client.client.subscribe(HEAD, options=SubscribeOptions(1), properties=of)
        assert [reason.value for reason in client.granted.get(timeout=WAIT)] == [0xA1]


def request_response(version):
    with Client(version) as client:
        client.subscribe((f"{RECEIPT}/mine", 1))
        body, digest = transaction()
        client.publish(body, ResponseTopic=f"{RECEIPT}/mine", CorrelationData=b"334")
        answer = client.next(f"{RECEIPT}/mine")
        assert answer.properties.CorrelationData == b"334"
        assert json.loads(answer.payload)["transaction"] == digest


def client_topic_alias(version):
    with Client(version) as client:
        assert getattr(client.terms, "TopicAliasMaximum", 0) == 0
        client.publish(b"x", TopicAlias=1)
        client.ended(0x94)


def server_topic_alias(version):
    with Client(version, TopicAliasMaximum=10) as client:
        client.subscribe((HEAD, 1))
        for _ in range(2):
            head = client.next(HEAD)
            assert not hasattr(head.properties, "TopicAlias")


def maximum_packet_size(version):
    with Client(version) as client:
        client.publish(b"." * client.terms.MaximumPacketSize, 0)
        client.ended(0x95)
    with Client(version, MaximumPacketSize=64) as client:
        client.subscribe((HEAD, 1), (RECEIPT, 1))
        body, digest = transaction()
        client.publish(body)
        client.published.get(timeout=WAIT)
        client.silent(HEAD)
        assert client.messages.empty()


def server_keep_alive(version):
    with Client(version, keepalive=6_000) as client:
        assert client.terms.ServerKeepAlive == 600


def flow_control1(version):
    with Client(version, manual=True, ReceiveMaximum=2) as client:
        client.subscribe((RECEIPT, 1))
        for _ in range(3):
            client.publish(transaction()[0])
        first, second = client.next(RECEIPT), client.next(RECEIPT)
        client.silent(RECEIPT)
        client.client.ack(first.mid, first.qos)
        third = client.next(RECEIPT)
        assert len({first.mid, second.mid, third.mid}) == 3 or third.mid == first.mid


def flow_control2(version):
    with Client(version) as client:
        assert client.terms.ReceiveMaximum == 100


def will_delay(version):
    body, digest = transaction()
    of = properties(PacketTypes.WILLMESSAGE, WillDelayInterval=1)
    Client(version, will=(TX, body), will_properties=of, SessionExpiryInterval=600).vanish()
    print("will", digest)


def shared_subscriptions(version):
    with Client(version) as client:
        assert client.terms.SharedSubscriptionAvailable == 0
        assert client.subscribe((f"$share/mine/{HEAD}", 1)) == [0x9E]


BOTH = [
    basic, second_connect, retained_messages, will_message, zero_length_clientid, offline_message_queueing,
    overlapping_subscriptions, keepalive, redelivery_on_reconnect, subscribe_failure, dollar_topics, unsubscribe,
]
ONLY_5 = [
    session_expiry, user_properties, payload_format, subscribe_options, assigned_clientid, subscribe_identifiers,
    request_response, client_topic_alias, server_topic_alias, maximum_packet_size, server_keep_alive, flow_control1,
    flow_control2, will_delay, shared_subscriptions,
]

for version, checks in ((V3, BOTH), (V5, BOTH + ONLY_5)):
    for check in checks:
        try:
            check(version)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            print("FAILED", check.__name__, version, repr(error), place.lineno, place.line, flush=True)
        else:
            print("ok", check.__name__, version, flush=True)
