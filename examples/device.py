#!/usr/bin/env python3
"""A device of fleetform in Python, to start from. The protocol is in docs/device-protocol.md.

    apt install python3-paho-mqtt        # 1.6, and 2 works too
    python3 examples/device.py --id lamp-0001 --host 127.0.0.1 --port 1883
"""
import argparse, datetime, json, os, signal, sys, time, urllib.parse
import paho.mqtt.client as mqtt

args = argparse.ArgumentParser(description="A device of fleetform.")
args.add_argument("--id", required=True, help="the id of the device")
args.add_argument("--host", required=True, help="the broker")
args.add_argument("--port", type=int, default=1883)
args.add_argument("--prefix", default="fleetform", help="what all topics begin with")
args.add_argument("--state", help="where executed methods are kept; ID.state when absent")
args.add_argument("--journal", help="append a line for each executed method to this file")
args = args.parse_args()

PLAIN = "".join(chr(c) for c in range(32, 127) if chr(c) not in "%+#/")  # what a level of a topic has as it is
ROOT = f"{args.prefix}/{urllib.parse.quote(args.id, safe=PLAIN)}"
STATE = args.state or f"{args.id.replace('/', '_')}.state"
executed = {}  # the execution id to [status, body]; None while it is executed
known = complete = -1  # the newest version of the desired properties, and up to which none is missing
pending, sending, requests = {}, None, 0  # what is to be reported, and [request id, patch, when it was sent]

def keep(path, line):
    with open(path, "a") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())

def rid():
    global requests
    requests += 1
    return f"{os.getpid():x}-{int(started)}-{requests}"

def say(topic, payload="", retain=False):
    return client.publish(f"{ROOT}/{topic}", payload, qos=1, retain=retain)

def report():  # one patch at a time; again when it is not confirmed
    global pending, sending
    if sending is None and pending:
        sending, pending = [rid(), pending, 0.0], {}
    if sending and time.monotonic() - sending[2] > 10:
        sending[2] = time.monotonic()
        say(f"twin/PATCH/properties/reported/?$rid={sending[0]}", json.dumps(sending[1]))

def take(version, properties):  # acknowledge each desired property under its name
    answer = lambda value: {**({} if value is None else {"value": value}), "ac": 200, "av": version, "ad": "done"}
    for name, value in properties.items():
        if isinstance(value, dict) and value.get("__t") == "c":  # a component: its properties lie one level deeper
            pending[name] = {inner: v if inner == "__t" else answer(v) for inner, v in value.items()}
        else:
            pending[name] = answer(value)

def execute(method, xid, payload):
    if xid not in executed:
        executed[xid] = None
        keep(STATE, {"xid": xid})  # before it is executed
        if args.journal:
            at = datetime.datetime.now(datetime.timezone.utc).isoformat()
            keep(args.journal, {"device_id": args.id, "method": method, "execution_id": xid, "at": at})
        executed[xid] = [200, "{}"]  # here the device does its work, with json.loads(payload)
        keep(STATE, {"xid": xid, "status": executed[xid][0], "body": executed[xid][1]})
    return executed[xid] or [500, '{"message":"interrupted"}']

def on_message(client, userdata, message):
    global known, complete, sending
    topic, _, query = message.topic[len(ROOT) + 1 :].partition("/?")
    query = dict(part.split("=", 1) for part in query.split("&") if "=" in part)
    if message.retain:
        return  # it was meant for another time
    if topic.startswith("methods/POST/"):
        method = urllib.parse.unquote(topic.rpartition("/")[2])
        status, body = execute(method, query.get("$xid") or query["$rid"], message.payload)
        say(f"methods/res/{status}/?$rid={query['$rid']}", body)
    elif topic == "twin/PATCH/properties/desired":
        properties, version = json.loads(message.payload), int(query["$version"])
        if version > known:
            properties.pop("$version", None)
            take(version, properties)
            known, is_next = version, version == complete + 1
            complete = version if is_next else complete
            if not is_next:  # a version was left out: ask for all of them
                say(f"twin/GET/?$rid={rid()}")
    elif topic == "twin/res/200":
        desired = json.loads(message.payload)["desired"]
        version = desired.pop("$version")
        if version >= known and version > complete:
            known = complete = version
            take(version, desired)
    elif topic.startswith("twin/res/") and sending and query.get("$rid") == sending[0]:
        if topic.endswith("/204") or topic.endswith("/400") or topic.endswith("/413"):  # refused ones are not repeated
            sending = None
    report()

def on_connect(client, userdata, flags, code, *more):
    if code == 0:
        client.subscribe([(f"{ROOT}/{rest}/#", 1) for rest in
                          ("methods/POST", "twin/PATCH/properties/desired", "twin/res")])

def on_subscribe(client, userdata, packet, codes, *more):
    say("presence", "online", retain=True)  # only now: whoever hears it may speak to the device
    say(f"twin/GET/?$rid={rid()}")
    if sending:
        sending[2] = 0.0  # again

started = time.time()
if os.path.exists(STATE):
    for line in open(STATE):
        try:
            line = json.loads(line)
            executed[line["xid"]] = [line["status"], line["body"]] if "status" in line else executed.get(line["xid"])
        except ValueError:
            pass  # the process was killed in the middle of it
    executed = dict(list(executed.items())[-64:])
new = getattr(mqtt, "CallbackAPIVersion", None)  # paho 2
client = mqtt.Client(*([new.VERSION2] if new else []), client_id=args.id)
client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
client.will_set(f"{ROOT}/presence", "offline", qos=1, retain=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
wait = 0.2
try:
    while True:
        try:
            client.connect(args.host, args.port, keepalive=30) if wait == 0.2 else client.reconnect()
            while client.loop(0.5) == mqtt.MQTT_ERR_SUCCESS:
                wait = 0.2
                report() if client.is_connected() else None
        except OSError as error:
            print(error, file=sys.stderr)
        time.sleep(wait)
        wait = min(2 * wait, 30)
except KeyboardInterrupt:
    pass
finally:
    if client.is_connected():  # in good order: no last will
        until, left = time.monotonic() + 2, say("presence", "offline", retain=True)
        while not left.is_published() and time.monotonic() < until and client.loop(0.1) == mqtt.MQTT_ERR_SUCCESS:
            pass
        client.disconnect()
