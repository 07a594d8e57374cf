"""Devices that register themselves with Microsoft's own client `azure-iot-device`, as it is installed, and connect.

    GROUP_KEY=KEY provision.py HOST CERTIFICATE FOLDER [killed]

FOLDER has the certificates of `x-1`, which the group's authority has signed, and of `x-2`, which it has not. `off-1` is
registered and blocked. With `killed` the gateway dies in the middle of a registration, and comes again.
"""

import base64
import hashlib
import hmac
import os
import sys
import time

from azure.iot.device import IoTHubDeviceClient, ProvisioningDeviceClient, X509
from azure.iot.device.exceptions import ClientError, CredentialError

SCOPE = "0ne1"

host, certificate, folder = sys.argv[1:4]
with open(certificate, encoding="utf-8") as file:
    pem = file.read()


def derived(device):
    key = base64.b64decode(os.environ["GROUP_KEY"])
    return base64.b64encode(hmac.new(key, device.encode(), hashlib.sha256).digest()).decode()


def with_key(device, key=None, scope=SCOPE, **more):
    return ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host=host,
        registration_id=device,
        id_scope=scope,
        symmetric_key=key or derived(device),
        server_verification_cert=pem,
        **more,
    )


def shown(device):
    return X509(cert_file=os.path.join(folder, f"{device}.pem"), key_file=os.path.join(folder, f"{device}.key"))


def with_certificate(device, **more):
    return ProvisioningDeviceClient.create_from_x509_certificate(
        provisioning_host=host,
        registration_id=device,
        id_scope=SCOPE,
        x509=shown(device),
        server_verification_cert=pem,
        **more,
    )


def registered(client, device):
    result = client.register()
    assert result.status == "assigned", result
    state = result.registration_state
    assert (state.device_id, state.assigned_hub) == (device, host), state
    return state


def refused(client):
    try:
        result = client.register()
    except CredentialError:
        return
    raise AssertionError(f"it was to be refused: {result}")


def connected(client, line):
    client.connect()
    assert client.is_connected if hasattr(client, "is_connected") else client.connected
    twin = client.get_twin()
    assert twin["reported"] is not None, twin
    client.patch_twin_reported_properties({"line": line})
    client.shutdown()


def keyed():
    first = registered(with_key("sn-1"), "sn-1")
    client = with_key("sn-1")
    client.provisioning_payload = {"model": "lamp"}
    again = registered(client, "sn-1")
    assert again.etag == first.etag, (first, again)
    registered(with_key("sn-2", websockets=True), "sn-2")
    connected(
        IoTHubDeviceClient.create_from_symmetric_key(derived("sn-1"), host, "sn-1", server_verification_cert=pem), 3
    )


def certified():
    registered(with_certificate("x-1"), "x-1")
    registered(with_certificate("x-1", websockets=True), "x-1")
    connected(
        IoTHubDeviceClient.create_from_x509_certificate(shown("x-1"), host, "x-1", server_verification_cert=pem), 4
    )
    refused(with_certificate("x-2"))


def wrong():
    refused(with_key("sn-3", key=derived("sn-4")))
    refused(with_key("sn-3", key=os.environ["GROUP_KEY"]))
    refused(with_key("sn-3", scope="other"))
    result = None
    try:
        result = with_key("off-1").register()
    except ClientError:
        return
    assert result.status == "failed", result


def killed():
    for _ in range(30):
        try:
            registered(with_key("sn-k"), "sn-k")
            break
        except ClientError:
            time.sleep(1)
    connected(
        IoTHubDeviceClient.create_from_symmetric_key(derived("sn-k"), host, "sn-k", server_verification_cert=pem), 3
    )


if sys.argv[4:] == ["killed"]:
    killed()
else:
    keyed()
    certified()
    wrong()
print("all of it holds")
