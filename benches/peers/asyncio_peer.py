"""Reboots every device of a file over MQTT, with asyncio and aiomqtt.

    python3 asyncio_peer.py PORT DEVICES.csv RESULTS.csv WINDOW TIMEOUT_SECONDS

A script as one writes it in an afternoon: it keeps nothing until the end, so a second start begins from the beginning.
"""

import asyncio
import csv
import logging
import sys
import time
import uuid

import aiomqtt


async def take_answers(client, waiting):
    """Gives each answer to the one that waits for it, by its request id."""
    async for message in client.messages:
        topic, _, rid = str(message.topic).partition("/?$rid=")
        answer = waiting.get(rid)
        if answer is not None and not answer.done():
            answer.set_result(topic.rpartition("/")[2])


async def reboot(client, device, window, waiting, timeout):
    """Returns the row of a device: its id, the status, and the seconds until it answered."""
    async with window:
        rid, began = uuid.uuid4().hex, time.monotonic()
        waiting[rid] = asyncio.get_running_loop().create_future()
        topic = f"fleetform/{device}/methods/POST/reboot/?$rid={rid}&$xid={uuid.uuid4().hex}"
        try:
            async with asyncio.timeout(timeout):
                await client.publish(topic, b'{"delay":5}', qos=1)
                status = await waiting[rid]
        except TimeoutError:
            status = "timeout"
        del waiting[rid]
        return device, status, f"{time.monotonic() - began:.3f}"


async def main():
    port, devices_path, results_path, window, timeout = sys.argv[1:]
    with open(devices_path, newline="") as file:
        devices = [row["IOTC_DEVICEID"] for row in csv.DictReader(file)]
    # It warns at each message when more than ten are under way.
    logging.getLogger("mqtt").setLevel(logging.ERROR)
    client = aiomqtt.Client("127.0.0.1", int(port), max_inflight_messages=int(window))
    async with client:
        await client.subscribe("fleetform/+/methods/res/#", qos=1)
        waiting, places = {}, asyncio.Semaphore(int(window))
        answers = asyncio.create_task(take_answers(client, waiting))
        rows = await asyncio.gather(*(reboot(client, id, places, waiting, float(timeout)) for id in devices))
        answers.cancel()
    with open(results_path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["device_id", "status", "seconds"])
        writer.writerows(rows)


asyncio.run(main())
