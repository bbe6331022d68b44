"""The OSCORE (RFC 8613) of a device on aiocoap, and the bootstrap (LwM2M 1.1 core, section 6.1) by which
it gets the key for that: objects 0, 1 and 21, written over the session of a key for bootstraps.
"""

import asyncio
import json
import os

import aiocoap
from aiocoap import credentials, resource
from aiocoap.numbers.codes import Code
from aiocoap.oscore import FilesystemSecurityContext
from aiocoap.oscore_sitewrapper import OscoreSiteWrapper
from aiocoap.transports.oscore import OSCOREAddress

TLV = 11542
# The account of the bootstrap server is at /0/0, with its context at /21/0.
LINKS = '</>;lwm2m=1.1,</0/0>,</1>,</3/0>,</5/0>,</21/0>'


def values_of(body):
    """The resources of a TLV document without nesting."""
    values = {}
    while body:
        head, body = body[0], body[1:]
        if head >> 6 != 3:
            raise ValueError("a resource with value")
        width = 2 if head & 0x20 else 1
        number, body = int.from_bytes(body[:width], "big"), body[width:]
        count = (head >> 3) & 3
        length = head & 7 if count == 0 else int.from_bytes(body[:count], "big")
        values[number], body = body[count : count + length], body[count + length :]
    return values


class Account(resource.Resource, resource.PathCapable):
    """What a bootstrap server may write."""

    def __init__(self):
        super().__init__()
        self.deleted, self.written, self.finished = [], {}, asyncio.Event()

    async def render(self, request):
        path = tuple(request.opt.uri_path)
        if (request.code, path) == (Code.GET, ()):
            return aiocoap.Message(code=Code.CONTENT, payload=LINKS.encode(), content_format=40)
        if request.code == Code.DELETE and path in (("0",), ("1",), ("21",)):
            self.deleted.append(path[0])
            return aiocoap.Message(code=Code.DELETED)
        if request.code == Code.PUT and len(path) == 2 and path[0] in ("0", "1", "21"):
            if request.opt.content_format != TLV or path in (("0", "0"), ("21", "0")):
                return aiocoap.Message(code=Code.BAD_REQUEST)
            self.written[path] = values_of(request.payload)
            return aiocoap.Message(code=Code.CHANGED)
        if (request.code, path) == (Code.POST, ("bs",)):
            objects = sorted(path[0] for path in self.written)
            if objects != ["0", "1", "21"]:
                return aiocoap.Message(code=Code.NOT_ACCEPTABLE)
            self.finished.set()
            return aiocoap.Message(code=Code.CHANGED)
        return aiocoap.Message(code=Code.NOT_FOUND)

    def settings(self):
        """The context that was written, for a file of aiocoap, and where to register."""
        (security,) = [values for path, values in self.written.items() if path[0] == "0"]
        link = security[17]
        if (security[1], security[2], link[:2]) != (b"\x00", b"\x03", b"\x00\x15"):
            raise ValueError(f"the account {security}")
        context = self.written["21", str(int.from_bytes(link[2:], "big"))]
        if (context[3], context[4]) != (b"\x0a", b"\xf6"):
            raise ValueError("other algorithms")
        settings = {
            "secret_hex": context[0].hex(),
            "sender-id_hex": context[1].hex(),
            "recipient-id_hex": context[2].hex(),
            "salt_hex": context.get(5, b"").hex(),
        }
        if 6 in context:
            settings["id-context_hex"] = context[6].hex()
        return settings, security[0].decode()


class ProtectedSite(resource.Resource):
    """Gives requests to the device or to its account, by the key that protects them."""

    def __init__(self, device):
        self.device, self.account, self.bootstrap = device, Account(), None

    def get_resources_as_linkheader(self):
        return self.device.get_resources_as_linkheader()

    async def render_to_pipe(self, pipe):
        remote = pipe.request.remote
        if not isinstance(remote, OSCOREAddress):
            self.device.faults.append(f"{pipe.request.code} without protection")
        elif remote.security_context is self.bootstrap:
            return await self.account.render_to_pipe(pipe)
        await self.device.render_to_pipe(pipe)


class Keys:
    """The contexts of the device, each in a folder below one."""

    def __init__(self, device, folder, gateway):
        self.folder, self.gateway = folder, gateway
        self.site = ProtectedSite(device)
        self.credentials = credentials.CredentialsMap()
        self.wrapped = OscoreSiteWrapper(self.site, self.credentials)

    def use(self, context, name):
        """Protects requests to the gateway with this key from now on."""
        key = FilesystemSecurityContext(os.path.join(self.folder, name))
        self.credentials[f":{name}"] = key
        context.client_credentials[f"coap://{self.gateway}/*"] = key
        return key

    async def bootstrap(self, context, endpoint):
        """Gets the key `lasting` with the key `bootstrap`."""
        self.site.bootstrap = self.use(context, "bootstrap")
        account = self.site.account
        while not account.finished.is_set():
            uri = f"coap://{self.gateway}/bs?ep={endpoint}"
            response = await context.request(aiocoap.Message(code=Code.POST, uri=uri)).response
            print("bootstrap:", response.code, response.payload.decode(), flush=True)
            wait = 30 if response.code == Code.CHANGED else 0.5
            try:
                await asyncio.wait_for(account.finished.wait(), wait)
            except asyncio.TimeoutError:
                pass
        settings, uri = account.settings()
        if uri != f"coap://{self.gateway}" or account.deleted != ["0", "1", "21"]:
            self.site.device.faults.append(f"{uri} and {account.deleted}")
        lasting = os.path.join(self.folder, "lasting")
        os.mkdir(lasting, 0o700)
        with open(os.path.join(lasting, "settings.json"), "w") as file:
            json.dump(settings, file)
