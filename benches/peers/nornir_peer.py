"""Reboots every device of a file over MQTT, with the threads of Nornir and paho-mqtt.

    python3 nornir_peer.py PORT DEVICES.csv RESULTS.csv WINDOW TIMEOUT_SECONDS

All threads share one connection. A script as one writes it in an afternoon: it keeps nothing until the end, so a second
start begins from the beginning.
"""

import csv
import sys
import threading
import time
import uuid

import paho.mqtt.client as mqtt
from nornir.core import Nornir
from nornir.core.inventory import Defaults, Groups, Host, Hosts, Inventory
from nornir.core.task import Result
from nornir.plugins.runners import ThreadedRunner


class Answer:
    """What one thread waits for."""

    def __init__(self):
        self.came = threading.Event()
        self.status = "timeout"


def connect(port, window, waiting):
    """Returns a client that is subscribed, and gives each answer to the thread that waits for it."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(window)
    is_subscribed = threading.Event()

    def take_answer(_client, _userdata, message):
        topic, _, rid = message.topic.partition("/?$rid=")
        answer = waiting.get(rid)
        if answer is not None:
            answer.status = topic.rpartition("/")[2]
            answer.came.set()

    client.on_connect = lambda client, *_: client.subscribe("fleetform/+/methods/res/#", qos=1)
    client.on_subscribe = lambda *_: is_subscribed.set()
    client.on_message = take_answer
    client.connect("127.0.0.1", port)
    client.loop_start()
    if not is_subscribed.wait(30):
        sys.exit("the broker did not confirm the subscription in 30 s")
    return client


def reboot(task, client, waiting, timeout):
    """Returns the status of a device, and the seconds until it answered."""
    rid, began = uuid.uuid4().hex, time.monotonic()
    answer = waiting[rid] = Answer()
    topic = f"fleetform/{task.host.name}/methods/POST/reboot/?$rid={rid}&$xid={uuid.uuid4().hex}"
    client.publish(topic, b'{"delay":5}', qos=1)
    answer.came.wait(timeout)
    del waiting[rid]
    return Result(host=task.host, result=(answer.status, f"{time.monotonic() - began:.3f}"))


def main():
    port, devices_path, results_path, window, timeout = sys.argv[1:]
    with open(devices_path, newline="") as file:
        devices = [row["IOTC_DEVICEID"] for row in csv.DictReader(file)]
    waiting = {}
    client = connect(int(port), int(window), waiting)
    hosts = Hosts({device: Host(device) for device in devices})
    nornir = Nornir(Inventory(hosts, Groups(), Defaults()), runner=ThreadedRunner(int(window)))
    results = nornir.run(reboot, client=client, waiting=waiting, timeout=float(timeout))
    client.disconnect()
    client.loop_stop()
    with open(results_path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["device_id", "status", "seconds"])
        for device, result in results.items():
            status, seconds = result[0].result if not result.failed else ("failed", "")
            writer.writerow([device, status, seconds])


main()
