#!/usr/bin/env python3
"""A LwM2M 1.2 device on aiocoap, written from the standards alone. It takes every freedom that they
leave in another way than our own Things: its objects are below another root, it has TLV and nothing
else, answers late and separately, asks for small blocks, registers again in the middle of a transfer,
names its version in object 5 only, and fetches its package if it is told to (--pull). It is configured by
writes to its own objects: it lists its resources, takes several of an instance at once, and makes instances.

    device.py --gateway 127.0.0.1:5683 --endpoint urn:dev:os:32473-1 --image received [--pull] [--szx 2]
              [--oscore folder [--bootstrap]]

With OSCORE it speaks and hears nothing in clear. Its keys are contexts of aiocoap: `lasting` in the folder,
or `bootstrap`, by which it gets the other one.

It ends once it runs a new image, which it writes to the file of --image, and has been asked for its
version then. It exits with 1 if the gateway broke a rule.
"""

import argparse
import asyncio
import random
import sys

import aiocoap
from aiocoap import resource
from aiocoap.numbers.codes import Code
from aiocoap.optiontypes import BlockOption

import oscore

TLV = 11542
LINKS = '</lw>;rt="oma.lwm2m";ct=11542,</lw/1/0>,</lw/3/0>;ver=1.2,</lw/5>;ver=1.1,</lw/5/0>,</lw/3311/0>'


def tlv(number, value):
    """A resource with value (kind 3), with its length in a byte of its own."""
    return bytes([0xC8, number, len(value)]) + value


def tlv_instances(number, values):
    """A multiple resource (kind 2) of resource instances (kind 1)."""
    inside = b"".join(bytes([0x41, at, value]) for at, value in enumerate(values))
    return bytes([0x88, number, len(inside)]) + inside


class Device(resource.ObservableResource, resource.PathCapable):
    """Objects 3, 5 and 3311 below /lw."""

    def __init__(self, options):
        super().__init__()
        self.options = options
        self.state, self.result, self.version = 0, 0, ""
        self.package, self.uri, self.orders = bytearray(), "", 0
        self.faults, self.asked, self.blocks = [], [], 0
        self.credentials = None
        self.reregister = asyncio.Event()
        self.work = set()
        self.version_read = asyncio.Event()
        self.level, self.observed = 30, False
        # On time and colour of its lamp, and the levels of lamps that it was told to have.
        self.settings, self.lamps, self.writes = {5852: bytes([0]), 5706: b"white"}, {}, []

    async def needs_blockwise_assembly(self, request):
        return False

    async def render(self, request):
        path = tuple(request.opt.uri_path)
        self.asked.append((request.code, path, request.opt.accept))
        if path[:1] != ("lw",):
            self.faults.append(f"{request.code} {path} is not below the root")
            return aiocoap.Message(code=Code.NOT_FOUND)
        # Late enough that the acknowledgement goes out alone.
        await asyncio.sleep(random.uniform(0.15, 0.4) if self.blocks < 3 else 0)
        return self.respond(request, path[1:])

    def respond(self, request, path):
        if request.code == Code.GET:
            return self.read(request, path)
        if (request.code, path) == (Code.PUT, ("3311", "0")):
            # Write-Attributes: how often it may notify.
            is_pace = request.opt.uri_query == ("pmin=60",) and not request.payload
            return aiocoap.Message(code=Code.CHANGED if is_pace else Code.BAD_REQUEST)
        if path[:1] == ("3311",) and request.code in (Code.POST, Code.PUT):
            return self.configure(request, path)
        if (request.code, path) == (Code.PUT, ("5", "0", "0")):
            return self.write_package(request)
        if (request.code, path) == (Code.PUT, ("5", "0", "1")):
            return self.write_uri(request)
        if (request.code, path) == (Code.POST, ("5", "0", "2")):
            return self.execute()
        return aiocoap.Message(code=Code.METHOD_NOT_ALLOWED)

    def configure(self, request, path):
        """Write (partial update) of its lamp, and Create of another one."""
        if request.opt.content_format != TLV:
            return aiocoap.Message(code=Code.UNSUPPORTED_CONTENT_FORMAT)
        self.writes.append((request.code, path))
        body = request.payload
        if (request.code, path) == (Code.POST, ("3311",)):
            # An instance (kind 0) with its level, a resource with a number of two bytes.
            if body[:1] != b"\x04" or body[2:5] != b"\xe1\x16\xdb":
                return aiocoap.Message(code=Code.BAD_REQUEST)
            self.lamps[str(body[1])] = body[5:]
            response = aiocoap.Message(code=Code.CREATED)
            response.opt.location_path = ("lw", "3311", str(body[1]))
            return response
        if path != ("3311", "0") or request.code != Code.POST:
            return aiocoap.Message(code=Code.METHOD_NOT_ALLOWED)
        changed = dict(self.settings)
        while body:
            if body[0] & 0xF8 != 0xE0:
                return aiocoap.Message(code=Code.BAD_REQUEST)
            number, length = int.from_bytes(body[1:3], "big"), body[0] & 7
            if number not in changed:
                return aiocoap.Message(code=Code.NOT_FOUND)
            changed[number], body = body[3 : 3 + length], body[3 + length :]
        self.settings = changed
        return aiocoap.Message(code=Code.CHANGED)

    def discover(self, path):
        """The resources of a lamp, below the root as they are listed in the registration."""
        has = {"0": [5850, 5851, 5852, 5706]} | {lamp: [5851] for lamp in self.lamps}
        if path[0] != "3311" or len(path) != 2 or path[1] not in has:
            return aiocoap.Message(code=Code.NOT_FOUND)
        base = f"/lw/3311/{path[1]}"
        links = ",".join([f"<{base}>;pmin=60;dim=4"] + [f"<{base}/{one}>" for one in has[path[1]]])
        return aiocoap.Message(code=Code.CONTENT, payload=links.encode(), content_format=40)

    def read(self, request, path):
        if request.opt.accept == 40:
            return self.discover(path)
        long = lambda number, value: bytes([0xE0 | len(value)]) + number.to_bytes(2, "big") + value
        settings = {("3311", "0", str(n)): long(n, value) for n, value in self.settings.items()}
        lamps = {("3311", n, "5851"): long(5851, value) for n, value in self.lamps.items()}
        about = {0: b"Acme", 1: b"Pole", 9: b"\x50", 17: b"lamp"}
        about = b"".join(tlv(number, value) for number, value in about.items())
        values = settings | lamps | {
            ("3", "0"): about + tlv_instances(7, [5, 12]),
            ("5", "0", "3"): tlv(3, bytes([self.state])),
            ("5", "0", "5"): tlv(5, bytes([self.result])),
            ("5", "0", "7"): tlv(7, self.version.encode()),
            ("5", "0", "8"): tlv_instances(8, [1, 0]),
            ("3311", "0"): b"\xe1\x16\xda\x01\xe1\x16\xdb" + bytes([self.level]),
            ("5", "0", "9"): tlv(9, bytes([0 if self.options.pull else 1])),
        }
        if path not in values:
            return aiocoap.Message(code=Code.NOT_FOUND)
        if request.opt.accept not in (None, TLV):
            return aiocoap.Message(code=Code.NOT_ACCEPTABLE)
        if path == ("3311", "0") and request.opt.observe == 0 and not self.observed:
            self.observed = True
            self.start(self.dim())
        if path == ("5", "0", "7") and self.version:
            self.version_read.set()
        return aiocoap.Message(code=Code.CONTENT, payload=values[path], content_format=TLV)

    async def dim(self):
        """Changes the level, of which it notifies."""
        await asyncio.sleep(1)
        self.level = 45
        self.updated_state()

    def write_package(self, request):
        if self.options.pull:
            return aiocoap.Message(code=Code.METHOD_NOT_ALLOWED)
        if not request.payload:
            self.state, self.result, self.package = 0, 0, bytearray()
            return aiocoap.Message(code=Code.CHANGED)
        block = request.opt.block1 or BlockOption.BlockwiseTuple(0, False, 6)
        if block.start != len(self.package):
            return aiocoap.Message(code=Code.REQUEST_ENTITY_INCOMPLETE)
        if block.size_exponent > self.options.szx:
            # Smaller from the first block on: a part of this one would do, but it is not kept.
            size = BlockOption.BlockwiseTuple(0, False, self.options.szx)
            response = aiocoap.Message(code=Code.REQUEST_ENTITY_TOO_LARGE)
            response.opt.block1 = size
            return response
        self.state, self.result = 1, 0
        self.package += request.payload
        self.blocks += 1
        if self.blocks == 20:
            self.reregister.set()
        if not block.more:
            self.state = 2
        response = aiocoap.Message(code=Code.CONTINUE if block.more else Code.CHANGED)
        response.opt.block1 = BlockOption.BlockwiseTuple(
            block.block_number, block.more, block.size_exponent
        )
        return response

    def write_uri(self, request):
        if request.opt.content_format != TLV:
            return aiocoap.Message(code=Code.UNSUPPORTED_CONTENT_FORMAT)
        if not self.options.pull or request.payload[:2] != b"\xc8\x01":
            return aiocoap.Message(code=Code.BAD_REQUEST)
        self.uri = request.payload[3:].decode()
        self.state, self.result = 1, 0
        self.start(self.fetch())
        return aiocoap.Message(code=Code.CHANGED)

    async def fetch(self):
        """Fetches the package from another port than that of the registration."""
        context = await aiocoap.Context.create_client_context()
        context.client_credentials = self.credentials or context.client_credentials
        request = aiocoap.Message(code=Code.GET, uri=self.uri)
        request.opt.block2 = BlockOption.BlockwiseTuple(0, False, self.options.szx)
        response = await context.request(request).response
        if response.code != Code.CONTENT:
            self.faults.append(f"{self.uri}: {response.code}")
        self.package = bytearray(response.payload)
        self.state = 2
        await context.shutdown()

    def execute(self):
        self.orders += 1
        if self.state != 2 or self.orders > 1:
            self.faults.append(f"order {self.orders} in state {self.state}")
            return aiocoap.Message(code=Code.METHOD_NOT_ALLOWED)
        self.state = 3
        self.start(self.install())
        return aiocoap.Message(code=Code.CHANGED)

    async def install(self):
        await asyncio.sleep(1.5)
        with open(self.options.image, "wb") as file:
            file.write(self.package)
        # The new image runs: it says so at once, before it registers.
        self.state, self.result, self.version = 0, 1, "V2.0.0+aiocoap"
        self.reregister.set()

    def start(self, work):
        task = asyncio.ensure_future(work)
        self.work.add(task)
        task.add_done_callback(self.work.discard)


async def register(context, options):
    """Registers until the gateway knows the device; returns the location."""
    query = f"ep={options.endpoint}&lwm2m=1.2&b=UT&lt=0&sms=%2B11296929753"
    while True:
        request = aiocoap.Message(
            code=Code.POST, uri=f"coap://{options.gateway}/rd?{query}", payload=LINKS.encode()
        )
        request.opt.content_format = 40
        response = await context.request(request).response
        if response.code == Code.CREATED:
            return response.opt.location_path
        print("registration:", response.code, response.payload.decode(), flush=True)
        await asyncio.sleep(0.5)


async def send_values(context, options):
    """Sends a dimming level by itself, in SenML of indefinite length, until it is taken."""
    values = b"\x9f\xbf\x00\x6c/3311/0/5851\x02\x18\x50\xff\xff"
    while True:
        request = aiocoap.Message(code=Code.POST, uri=f"coap://{options.gateway}/dp", payload=values)
        request.opt.content_format = 112
        response = await context.request(request).response
        if response.code == Code.CHANGED:
            return
        print("values:", response.code, response.payload.decode(), flush=True)
        await asyncio.sleep(0.5)


async def run(options):
    device = Device(options)
    site, transports = device, ["simplesocketserver"]
    if options.oscore:
        keys = oscore.Keys(device, options.oscore, options.gateway)
        site, transports = keys.wrapped, ["oscore"] + transports
    context = await aiocoap.Context.create_server_context(
        site, bind=(options.gateway.rsplit(":")[0], options.port), transports=transports
    )
    if options.bootstrap:
        await keys.bootstrap(context, options.endpoint)
    if options.oscore:
        keys.use(context, "lasting")
        device.credentials = context.client_credentials
    location = await register(context, options)
    await send_values(context, options)
    while not device.version_read.is_set():
        waits = [asyncio.ensure_future(event.wait()) for event in (device.reregister, device.version_read)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if device.reregister.is_set():
            device.reregister.clear()
            location = await register(context, options)
    print(f"{len(device.package)} bytes in {device.blocks} blocks, {len(device.asked)} requests", flush=True)
    # A moment for a gateway that would give the order again.
    await asyncio.sleep(3)
    leave = aiocoap.Message(code=Code.DELETE, uri=f"coap://{options.gateway}/{'/'.join(location)}")
    response = await context.request(leave).response
    if response.code != Code.DELETED:
        device.faults.append(f"deregistration: {response.code}")
    if options.configured:
        once = [(Code.POST, ("3311",)), (Code.POST, ("3311", "0"))]
        if sorted(device.writes) != once:
            device.faults.append(f"writes {device.writes}")
        if (device.settings, device.lamps) != ({5852: b"\x07", 5706: b"amber"}, {"1": b"\x50"}):
            device.faults.append(f"configured as {device.settings} {device.lamps}")
    for fault in device.faults:
        print("fault:", fault, flush=True)
    await context.shutdown()
    return 1 if device.faults else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gateway", required=True, help="host:port")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--image", required=True, help="file for the image that is installed")
    parser.add_argument("--port", type=int, required=True, help="of this device")
    parser.add_argument("--oscore", help="folder of its keys")
    parser.add_argument("--bootstrap", action="store_true", help="get the lasting key first")
    parser.add_argument("--pull", action="store_true", help="only fetch packages")
    parser.add_argument("--configured", action="store_true", help="fail without the test's configuration")
    parser.add_argument("--szx", type=int, default=2, help="blocks of 2^(4 + szx) bytes")
    sys.exit(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
