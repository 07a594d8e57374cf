"""Devices with Microsoft's own client, `azure-iot-device`, as it is installed: many in one process.

    devices.py HOST CERTIFICATE DEVICES_JSONL

The last file has the lines of `fleetform device export --format iothub`. Each device answers every method with 200 and
acknowledges desired properties. What happens is printed, a JSON object a line: `connected`, `call` with the name of the
method, `patch` with the version, `message` with its text. The process ends with Ctrl-C, or when its stdin does.
"""

import json
import os
import sys
import threading
import time

from azure.iot.device import IoTHubDeviceClient, MethodResponse

LOCK = threading.Lock()


def tell(event, device, **more):
    with LOCK:
        print(json.dumps({"event": event, "device": device, **more}), flush=True)


def start(host, certificate, device, key, delay):
    client = IoTHubDeviceClient.create_from_connection_string(
        f"HostName={host};DeviceId={device};SharedAccessKey={key}",
        server_verification_cert=certificate,
        keep_alive=10,
    )

    def call(request):
        tell("call", device, method=request.name, payload=request.payload)
        if request.name == "slow":
            time.sleep(delay)
        answer = MethodResponse.create_from_method_request(request, 200, {"device": device})
        client.send_method_response(answer)

    def patch(desired):
        version = desired.pop("$version")
        tell("patch", device, version=version)
        reported = {name: {"value": value, "ac": 200, "av": version} for name, value in desired.items()}
        client.patch_twin_reported_properties(reported)

    def take(message):
        text = message.data.decode("utf-8", "replace")
        tell("message", device, text=text, id=message.message_id, properties=message.custom_properties)

    client.on_message_received = take
    client.on_method_request_received = call
    client.on_twin_desired_properties_patch_received = patch
    client.connect()
    tell("connected", device, twin=client.get_twin())
    return client


def main():
    host, certificate, devices = sys.argv[1:4]
    with open(certificate, encoding="utf-8") as file:
        certificate = file.read()
    with open(devices, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    clients = []
    for line in lines:
        key = line["authentication"]["symmetricKey"]["primaryKey"]
        clients.append(start(host, certificate, line["id"], key, delay=3))
    try:
        sys.stdin.read()
    except KeyboardInterrupt:
        pass
    # The clients are not told to leave: a process that dies does not do it either.
    os._exit(0)


main()
