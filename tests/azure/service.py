"""Back ends with Microsoft's own client, `azure-iot-hub`, as it is installed, beside devices with `azure-iot-device`.

    HUB=CONNECTION_STRING service.py before|after CERTIFICATE DEVICES_JSONL STATE

The first phase finds that the gateway answers as IoT Hub does, and writes what it has read to STATE. The second one, of
a gateway that was killed and started again, reads the same. Six devices, `d-001` to `d-006`: the first four answer, the
fifth listens and never answers, and the sixth is not connected. `REQUESTS_CA_BUNDLE` names the certificate.
"""

import datetime
import json
import os
import sys
import threading
import time

from azure.iot.device import IoTHubDeviceClient, MethodResponse
from azure.iot.hub import IoTHubJobManager, IoTHubRegistryManager
from azure.iot.hub.models import (
    CloudToDeviceMethod,
    ExportImportDevice,
    JobRequest,
    QuerySpecification,
    Twin,
    TwinProperties,
)
from msrest.exceptions import HttpOperationError

PATIENCE = 30
ONLINE = "deviceId IN ['d-001', 'd-002', 'd-003', 'd-004']"
CALLED = []
PATCHED = {}

hub = os.environ["HUB"]
phase, certificate, devices_path, state_path = sys.argv[1:5]
jobs = IoTHubJobManager.from_connection_string(hub)
registry = IoTHubRegistryManager.from_connection_string(hub)
host = hub.split("HostName=")[1].split(":")[0]


def wait(what, is_so):
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def refused(status, ask):
    try:
        answer = ask()
    except HttpOperationError as error:
        assert error.response.status_code == status, (status, error.response.status_code, error.response.text)
        return error.response.json()
    raise AssertionError(f"{status} was to come: {answer}")


def start(device, key, pem):
    client = IoTHubDeviceClient.create_from_connection_string(
        f"HostName={host};DeviceId={device};SharedAccessKey={key}", server_verification_cert=pem
    )

    def call(request):
        CALLED.append((device, request.name, request.payload))
        if device != "d-005":
            status = 500 if request.name == "fail" else 200
            answer = {"device": device, "got": request.payload}
            client.send_method_response(MethodResponse.create_from_method_request(request, status, answer))

    client.on_method_request_received = call
    client.on_twin_desired_properties_patch_received = lambda patch: PATCHED.setdefault(device, []).append(patch)
    client.connect()
    return client


def connect():
    with open(certificate, encoding="utf-8") as file:
        pem = file.read()
    with open(devices_path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    keys = {line["id"]: line["authentication"]["symmetricKey"]["primaryKey"] for line in lines}
    return [start(device, key, pem) for device, key in sorted(keys.items()) if device != "d-006"]


def twin(tags=None, desired=None, etag="*"):
    return Twin(etag=etag, tags=tags, properties=TwinProperties(desired=desired) if desired is not None else None)


def twin_job(job, condition, change, **more):
    request = JobRequest(
        job_id=job, type="scheduleUpdateTwin", update_twin=change, query_condition=condition, **more
    )
    return jobs.create_scheduled_job(job, request)


def method_job(job, condition, method, timeout=10, **more):
    call = CloudToDeviceMethod(method_name=method, payload={"from": job}, response_timeout_in_seconds=timeout)
    request = JobRequest(
        job_id=job, type="scheduleDeviceMethod", cloud_to_device_method=call, query_condition=condition, **more
    )
    return jobs.create_scheduled_job(job, request)


def is_status(job, status):
    return lambda: jobs.get_scheduled_job(job).status == status


def pages(text, size):
    """Returns all items of a query, the sizes of its pages, and the type of its items."""
    items, sizes, token = [], [], None
    while True:
        page = registry.query_iot_hub(QuerySpecification(query=text), token, size)
        items.extend(page.items)
        sizes.append(len(page.items))
        token = page.continuation_token
        if not token:
            return items, sizes, page.type
        assert len(sizes) < 100


def rows(job, size=100):
    """Returns the rows of a job by device: the client reads each as a twin."""
    items, _, kind = pages(f"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{job}'", size)
    assert kind == "DeviceJob", kind
    found = {}
    for item in items:
        assert item.device_id not in found, items
        found[item.device_id] = {"status": item.status, **item.additional_properties}
    return found


def twin_jobs():
    made = twin_job("twins-1", ONLINE, twin({"ring": "a"}, {"level": 4}), max_execution_time_in_seconds=60)
    assert (made.job_id, made.type) == ("twins-1", "scheduleUpdateTwin"), made
    wait("the twins are written", is_status("twins-1", "completed"))
    job = jobs.get_scheduled_job("twins-1")
    counts = job.device_job_statistics
    assert (counts.device_count, counts.succeeded_count, counts.failed_count) == (4, 4, 0), counts
    assert job.query_condition == ONLINE and job.max_execution_time_in_seconds == 60, job
    assert job.update_twin.tags == {"ring": "a"} and job.update_twin.properties.desired == {"level": 4}, job
    assert job.created_time <= job.start_time <= job.end_time, job
    found = rows("twins-1")
    assert sorted(found) == ["d-001", "d-002", "d-003", "d-004"], found
    for row in found.values():
        assert row["status"] == "completed" and row["jobType"] == "scheduleUpdateTwin", row
        assert row["startTimeUtc"] and row["endTimeUtc"] and row["outcome"] is None, row
    wait("the devices are told", lambda: len(PATCHED) == 4)
    for patches in PATCHED.values():
        assert patches == [{"level": 4, "$version": 2}], patches
    read = registry.get_twin("d-001")
    assert read.tags["ring"] == "a" and read.properties.desired["level"] == 4, read
    # Twice the same is one job; another one of that id is refused.
    again = twin_job("twins-1", ONLINE, twin({"ring": "a"}, {"level": 4}), max_execution_time_in_seconds=60)
    assert again.status == "completed", again
    refused(409, lambda: twin_job("twins-1", "*", twin({"ring": "a"})))
    refused(412, lambda: twin_job("twins-2", "*", twin({"ring": "a"}, etag="AAAAAAAAAAE=")))
    refused(400, lambda: twin_job("twins-2", "tags.a = ", twin({"ring": "a"})))


def method_jobs():
    method_job("calls-1", ONLINE, "reboot")
    # One device is not connected, and is waited for as long as the job may take.
    method_job("calls-2", "deviceId IN ['d-001', 'd-006']", "reboot", max_execution_time_in_seconds=4)
    method_job("calls-3", "deviceId = 'd-002'", "fail")
    wait("the devices are called", is_status("calls-1", "completed"))
    found = rows("calls-1")
    assert len(found) == 4, found
    for device, row in found.items():
        assert row["status"] == "completed", row
        answer = {"device": device, "got": {"from": "calls-1"}}
        assert row["outcome"] == {"deviceMethodResponse": {"status": 200, "payload": answer}}, row
    calls = [device for device, method, payload in CALLED if payload == {"from": "calls-1"}]
    assert sorted(calls) == sorted(found), calls
    wait("a device answers with a fault", is_status("calls-3", "completed"))
    row = rows("calls-3")["d-002"]
    assert row["status"] == "failed" and row["outcome"]["deviceMethodResponse"]["status"] == 500, row
    assert row["error"]["code"] == "DeviceRejected", row
    wait("the time of the job is over", is_status("calls-2", "completed"))
    found = rows("calls-2")
    assert found["d-001"]["status"] == "completed", found
    assert found["d-006"]["status"] == "failed" and found["d-006"]["error"]["code"] == "DeviceNotOnline", found
    counts = jobs.get_scheduled_job("calls-2").device_job_statistics
    assert (counts.succeeded_count, counts.failed_count, counts.pending_count) == (1, 1, 0), counts


def scheduled_and_cancelled():
    now = datetime.datetime.now(datetime.timezone.utc)
    in_time = lambda seconds: (now + datetime.timedelta(seconds=seconds)).isoformat()
    made = twin_job("later-1", ONLINE, twin({"later": 1}), start_time=in_time(4))
    assert made.status == "scheduled", made
    assert is_status("later-1", "scheduled")()
    # Canceled before it begins.
    twin_job("later-2", ONLINE, twin({"never": 1}), start_time=in_time(3600))
    assert jobs.cancel_scheduled_job("later-2").status == "cancelled"
    assert is_status("later-2", "cancelled")()
    assert rows("later-2") == {}
    # And while it runs: one device has answered, one was called, and one is not connected.
    method_job("runs-1", "deviceId IN ['d-001', 'd-005', 'd-006']", "reboot", timeout=5)
    wait("it runs", is_status("runs-1", "running"))
    wait("a device has answered", lambda: rows("runs-1").get("d-001", {}).get("status") == "completed")
    wait("a device is called", lambda: rows("runs-1")["d-005"]["status"] == "running")
    assert rows("runs-1")["d-006"]["status"] == "scheduled", rows("runs-1")
    assert jobs.cancel_scheduled_job("runs-1").status == "cancelled"
    assert is_status("runs-1", "cancelled")()
    found = {device: row["status"] for device, row in rows("runs-1").items()}
    assert found == {"d-001": "completed", "d-005": "running", "d-006": "canceled"}, found
    wait("what was sent ends", lambda: rows("runs-1")["d-005"]["status"] == "failed")
    found = rows("runs-1")
    assert found["d-005"]["error"]["code"] == "GatewayTimeout" and found["d-006"]["status"] == "canceled", found
    refused(400, lambda: jobs.cancel_scheduled_job("twins-1"))
    refused(404, lambda: jobs.cancel_scheduled_job("none"))
    wait("its time has come", is_status("later-1", "completed"))
    job = jobs.get_scheduled_job("later-1")
    assert abs((job.start_time - now).total_seconds() - 4) < 3, (job.start_time, now)
    assert registry.get_twin("d-001").tags["later"] == 1
    assert "never" not in registry.get_twin("d-001").tags
    assert len(rows("later-1")) == 4


def paging():
    text = "SELECT * FROM devices WHERE tags.parity IN ['odd', 'even']"
    items, sizes, kind = pages(text, 4)
    assert [item.device_id for item in items] == [f"d-00{n}" for n in range(1, 7)], items
    assert (sizes, kind) == ([4, 2], "Twin"), (sizes, kind)
    items, sizes, kind = pages("SELECT * FROM devices.jobs WHERE jobId = 'twins-1'", 3)
    assert (len(items), kind) == (4, "DeviceJob") and sizes[0] == 3, (sizes, kind)
    items, _, kind = pages("SELECT deviceId, tags.ring AS ring FROM devices WHERE tags.ring = 'a'", 100)
    assert kind == "Raw" and [one.additional_properties["ring"] for one in items] == ["a"] * 4, items
    items, _, kind = pages("SELECT COUNT() AS n FROM devices", 100)
    assert kind == "Raw" and items[0].additional_properties == {"n": 6}, items
    token = registry.query_iot_hub(QuerySpecification(query=text), None, 1).continuation_token
    assert token
    other = QuerySpecification(query="SELECT * FROM devices WHERE tags.parity = 'odd'")
    refused(400, lambda: registry.query_iot_hub(other, token, 1))
    refused(400, lambda: registry.query_iot_hub(QuerySpecification(query=text), token[:-2] + "AA", 1))
    refused(400, lambda: registry.query_iot_hub(QuerySpecification(query="SELECT * FROM devices WHERE"), None, 1))


def methods():
    call = CloudToDeviceMethod(method_name="ask", payload={"a": [1, None]}, response_timeout_in_seconds=5)
    answer = registry.invoke_device_method("d-003", call)
    assert (answer.status, answer.payload) == (200, {"device": "d-003", "got": {"a": [1, None]}}), answer
    call = CloudToDeviceMethod(method_name="fail", payload=None, response_timeout_in_seconds=5)
    assert registry.invoke_device_method("d-003", call).status == 500
    fault = refused(404, lambda: registry.invoke_device_method("d-006", call))
    assert "DeviceNotOnline" in fault["Message"], fault
    fault = refused(404, lambda: registry.invoke_device_method("none", call))
    assert "DeviceNotFound" in fault["Message"], fault
    short = CloudToDeviceMethod(method_name="ask", response_timeout_in_seconds=1)
    refused(400, lambda: registry.invoke_device_method("d-003", short))
    began = time.monotonic()
    fault = refused(504, lambda: registry.invoke_device_method("d-005", call))
    assert 5 <= time.monotonic() - began < 8 and "GatewayTimeout" in fault["Message"], fault
    assert len([device for device, method, _ in CALLED if (device, method) == ("d-005", "fail")]) == 1, CALLED


def twins():
    first = registry.get_twin("d-004")
    version = first.properties.desired["$version"]
    second = registry.update_twin("d-004", twin({"room": {"floor": 3}}), first.etag)
    assert second.etag != first.etag and second.tags["room"] == {"floor": 3}, second
    assert second.properties.desired["$version"] == version, "tags are no desired properties"
    refused(412, lambda: registry.update_twin("d-004", twin({"room": None}), first.etag))
    third = registry.update_twin("d-004", twin({"room": {"floor": None, "door": 1}}, {"mode": "eco"}), second.etag)
    assert third.tags["room"] == {"door": 1} and third.properties.desired["$version"] == version + 1, third
    wait("the device is told", lambda: {"mode": "eco", "$version": version + 1} in PATCHED["d-004"])
    whole = registry.replace_twin("d-004", twin({"n": 4}, {"only": True}), "*")
    assert whole.tags == {"n": 4}, whole.tags
    assert {key for key in whole.properties.desired if key[0] != "$"} == {"only"}, whole.properties.desired
    refused(400, lambda: registry.update_twin("d-004", twin({"a.b": 1}), "*"))
    refused(404, lambda: registry.get_twin("none"))
    # What was written is found by the next query.
    items, _, _ = pages("SELECT * FROM devices WHERE properties.desired.only = true", 100)
    assert [item.device_id for item in items] == ["d-004"], items


def identities():
    before = registry.get_device_registry_statistics()
    assert (before.total_device_count, before.disabled_device_count) == (6, 0), before
    assert registry.get_service_statistics().connected_device_count == 5
    made = registry.create_device_with_sas("Lamp:1.a%2F#$", "", "", "enabled", iot_edge=True)
    assert made.device_id == "Lamp:1.a%2F#$" and made.authentication.type == "sas", made
    assert made.capabilities.iot_edge, made
    key = made.authentication.symmetric_key.primary_key
    assert len(key) == 44 and key != made.authentication.symmetric_key.secondary_key
    refused(409, lambda: registry.create_device_with_sas("Lamp:1.a%2F#$", "", "", "enabled"))
    read = registry.get_device("Lamp:1.a%2F#$")
    assert (read.etag, read.generation_id) == (made.etag, made.generation_id), read
    changed = registry.update_device_with_sas(read.device_id, read.etag, key, key, "disabled", status_reason="worn")
    assert changed.status == "disabled" and changed.authentication.symmetric_key.secondary_key == key, changed
    refused(412, lambda: registry.update_device_with_sas(read.device_id, read.etag, key, key, "enabled"))
    assert registry.get_device_registry_statistics().disabled_device_count == 1
    registry.create_device_with_x509("x-1", "A" * 40, "B" * 40, "enabled")
    assert registry.get_device("x-1").authentication.x509_thumbprint.primary_thumbprint == "A" * 40
    registry.create_device_with_certificate_authority("x-2", "enabled")
    assert registry.get_device("x-2").authentication.type == "certificateAuthority"
    assert len(registry.get_devices(100)) == 9 and len(registry.get_devices(2)) == 2
    refused(412, lambda: registry.delete_device("x-1", "AAAAAAAAAAE="))
    registry.delete_device("x-1")
    refused(404, lambda: registry.get_device("x-1"))
    refused(404, lambda: registry.delete_device("x-1"))
    registry.delete_device("x-2", registry.get_device("x-2").etag)
    bulk = [ExportImportDevice(id=f"bulk-{n}", import_mode="create", tags={"b": n}) for n in range(100)]
    assert registry.bulk_create_or_update_devices(bulk).is_successful
    items, _, _ = pages("SELECT * FROM devices WHERE tags.b >= 0", 1000)
    assert len(items) == 100
    mixed = [ExportImportDevice(id="bulk-1", import_mode="create"), ExportImportDevice(id="bulk-2", import_mode="delete")]
    result = registry.bulk_create_or_update_devices(mixed)
    assert not result.is_successful and len(result.errors) == 1, result.errors
    error = result.errors[0]
    assert (error.device_id, error.error_code, error.operation) == ("bulk-1", "DeviceAlreadyExists", "create"), error
    refused(404, lambda: registry.get_device("bulk-2"))
    gone = [ExportImportDevice(id=f"bulk-{n}", import_mode="delete") for n in range(100) if n != 2]
    assert registry.bulk_create_or_update_devices(gone).is_successful
    # The client takes a 400 for a result.
    assert not registry.bulk_create_or_update_devices(bulk + gone).is_successful
    assert registry.get_device_registry_statistics().total_device_count == 7
    refused(501, lambda: registry.get_modules("d-001"))


def read_all():
    ids = ["twins-1", "calls-1", "calls-2", "calls-3", "later-1", "later-2", "runs-1"]
    devices = registry.get_devices(100)
    for device in devices:
        # The gateway has ended its connections.
        device.connection_state = device.connection_state_updated_time = device.last_activity_time = None
    return {
        "jobs": {job: jobs.get_scheduled_job(job).serialize(keep_readonly=True) for job in ids},
        "rows": {job: rows(job, 3) for job in ids},
        "identities": {device.device_id: device.serialize(keep_readonly=True) for device in devices},
    }


def before():
    connect()
    parts = [methods, method_jobs, scheduled_and_cancelled]
    twin_jobs()
    faults = []

    def run(part):
        try:
            part()
        except BaseException as error:
            faults.append(error)
            raise

    is_over = threading.Event()

    def read_on():
        while not is_over.wait(0.03):
            registry.query_iot_hub(QuerySpecification(query="SELECT * FROM devices.jobs"), None, 10)

    # Each waits for something of its own. One reads what the gateway is about to write.
    reader = threading.Thread(target=run, args=(read_on,), daemon=True)
    threads = [threading.Thread(target=run, args=(part,), daemon=True) for part in parts]
    for thread in [reader, *threads]:
        thread.start()
    paging()
    twins()
    identities()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    is_over.set()
    reader.join(PATIENCE)
    assert not faults, faults
    with open(state_path, "w", encoding="utf-8") as file:
        json.dump(read_all(), file)


def after():
    with open(state_path, encoding="utf-8") as file:
        expected = json.load(file)
    found = json.loads(json.dumps(read_all()))
    for part, things in expected.items():
        assert sorted(found[part]) == sorted(things), part
        for name, thing in things.items():
            assert found[part][name] == thing, (part, name, thing, found[part][name])


assert phase in ("before", "after")
before() if phase == "before" else after()
print("all of it holds", flush=True)
# The clients of devices have threads of their own.
os._exit(0)
