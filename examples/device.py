#!/usr/bin/env python3
"""A device of fleetform in Python, to start from. The protocol is in docs/device-protocol.md.

    apt install python3-paho-mqtt        # 1.6; 2 works too
    python3 examples/device.py --id lamp-0001 --host 127.0.0.1
"""
import argparse, datetime, json, os, signal, sys, time, urllib.parse
import paho.mqtt.client as mqtt

args = argparse.ArgumentParser(description="A device of fleetform.")
args.add_argument("--id", required=True, help="the id of the device")
args.add_argument("--host", required=True, help="the broker")
args.add_argument("--port", type=int, default=1883, help="its port, 1883 when absent")
args.add_argument("--prefix", default="fleetform", help="what all topics begin with")
args.add_argument("--state", default="device.state", help="where executed methods are kept")
args.add_argument("--journal", help="append a line for each executed method to this file")
args = args.parse_args()

PLAIN = "".join(chr(c) for c in range(32, 127) if chr(c) not in "%+#/")  # what a level of a topic has as it is
ROOT = f"{args.prefix}/{urllib.parse.quote(args.id, safe=PLAIN)}"
executed = json.load(open(args.state)) if os.path.exists(args.state) else {}  # execution ids to [status, body]
known = complete = -1  # the newest version of the desired properties, and the one up to which none is missing
pending, sending = {}, None  # what is to be reported, and the patch on its way: [request id, patch, when it was sent]
requests = 0

def say(topic, payload="", retain=False):
    return client.publish(f"{ROOT}/{topic}", payload, qos=1, retain=retain)

def rid():
    global requests
    requests += 1
    return f"{started:x}-{requests}"

def save():  # the last 64 executions, durable
    while len(executed) > 64:
        del executed[next(iter(executed))]
    with open(args.state + ".new", "w") as file:
        json.dump(executed, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(args.state + ".new", args.state)

def execute(method, xid, payload):
    if xid not in executed:
        executed[xid] = [500, '{"message":"interrupted"}']  # the answer when this process dies before it has another
        save()
        if args.journal:
            at = datetime.datetime.now(datetime.timezone.utc).isoformat()
            with open(args.journal, "a") as file:
                print(json.dumps({"device_id": args.id, "method": method, "execution_id": xid, "at": at}), file=file)
        executed[xid] = [200, "{}"]  # here the device does its work, with json.loads(payload)
        save()
    return executed[xid]

def report():  # one patch at a time, and again when it is not confirmed
    global pending, sending
    if sending is None and pending:
        sending, pending = [rid(), pending, None], {}
    if sending and (sending[2] is None or time.monotonic() - sending[2] > 10):
        sending[2] = time.monotonic()
        say(f"twin/PATCH/properties/reported/?$rid={sending[0]}", json.dumps(sending[1]))

def take(version, properties):  # acknowledge each desired property under its name
    def answer(value):
        return {**({} if value is None else {"value": value}), "ac": 200, "av": version, "ad": "done"}
    for name, value in properties.items():
        if isinstance(value, dict) and value.get("__t") == "c":  # a component: its properties lie one level deeper
            pending[name] = {inner: v if inner == "__t" else answer(v) for inner, v in value.items()}
        elif name != "$version":
            pending[name] = answer(value)

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
    elif topic == "twin/PATCH/properties/desired" and int(query["$version"]) > known:
        known = int(query["$version"])
        take(known, json.loads(message.payload))
        if known == complete + 1:
            complete = known
        else:  # a version was left out: ask for all of them
            say(f"twin/GET/?$rid={rid()}")
    elif topic == "twin/res/200":
        desired = json.loads(message.payload)["desired"]
        if desired["$version"] > complete and desired["$version"] >= known:
            known = complete = desired["$version"]
            take(known, desired)
    elif topic in ("twin/res/204", "twin/res/400", "twin/res/413") and sending and query.get("$rid") == sending[0]:
        sending = None  # it is written, or would be refused again
    report()

def on_connect(client, userdata, flags, code, *more):
    if code == 0:
        filters = ("methods/POST/#", "twin/PATCH/properties/desired/#", "twin/res/#")
        client.subscribe([(f"{ROOT}/{rest}", 1) for rest in filters])

def on_subscribe(client, userdata, packet, codes, *more):
    say("presence", "online", retain=True)  # only now: who hears it may speak to the device
    say(f"twin/GET/?$rid={rid()}")
    if sending:
        sending[2] = None  # again

started, wait = time.time_ns(), 0.2
paho2 = [mqtt.CallbackAPIVersion.VERSION2] if hasattr(mqtt, "CallbackAPIVersion") else []
client = mqtt.Client(*paho2, client_id=args.id)
client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
client.will_set(f"{ROOT}/presence", "offline", qos=1, retain=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
try:
    while True:
        try:
            client.connect(args.host, args.port, keepalive=30)
            while client.loop(0.5) == mqtt.MQTT_ERR_SUCCESS:
                if client.is_connected():
                    wait = 0.2
                    report()
        except OSError as error:
            print(error, file=sys.stderr)
        time.sleep(wait)
        wait = min(2 * wait, 30)
except KeyboardInterrupt:
    pass
finally:
    if client.is_connected():  # in good order: the broker publishes no last will
        until, leave = time.monotonic() + 2, say("presence", "offline", retain=True)
        while not leave.is_published() and time.monotonic() < until and client.loop(0.1) == mqtt.MQTT_ERR_SUCCESS:
            pass
        client.disconnect()
