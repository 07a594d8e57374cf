"""A device with Microsoft's own client, whose tokens are good for so short that it renews them while it is called.

    KEY=KEY renewal.py HOST CERTIFICATE DEVICE

The client renews 120 s before the end of a token. It answers two methods, `one` and `two`, and ends.
"""

import os
import sys
import threading

from azure.iot.device import IoTHubDeviceClient, MethodResponse

SECONDS = 124

host, certificate, device = sys.argv[1:4]
with open(certificate, encoding="utf-8") as file:
    pem = file.read()
called, is_over = [], threading.Event()
client = IoTHubDeviceClient.create_from_symmetric_key(
    os.environ["KEY"], host, device, server_verification_cert=pem, sastoken_ttl=SECONDS
)


def call(request):
    called.append(request.name)
    client.send_method_response(MethodResponse.create_from_method_request(request, 200, {}))
    if request.name == "two":
        is_over.set()


client.on_method_request_received = call
client.connect()
assert is_over.wait(60), called
client.shutdown()
assert called == ["one", "two"], called
print("all of it holds")
