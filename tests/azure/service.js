// Back ends with Microsoft's own client `azure-iothub` for Node, and a device with `azure-iot-device-mqtt` over a
// WebSocket, all at port 443, as they are installed.
//
//     HUB=CONNECTION_STRING node service.js DEVICES_JSONL
//
// NODE_PATH has the clients, NODE_EXTRA_CA_CERTS names the certificate.

const assert = require('node:assert/strict');
const fs = require('node:fs');
const { Client, JobClient, Registry } = require('azure-iothub');
const device = require('azure-iot-device');
const { MqttWs } = require('azure-iot-device-mqtt');

const PATIENCE = 30000;
const hub = process.env.HUB;
const host = /HostName=([^;:]*)/.exec(hub)[1];
const registry = Registry.fromConnectionString(hub);
const jobs = JobClient.fromConnectionString(hub);
const service = Client.fromConnectionString(hub);
const lines = fs.readFileSync(process.argv[2], 'utf8').trim().split('\n').map((line) => JSON.parse(line));

async function wait(what, isSo) {
  const end = Date.now() + PATIENCE;
  while (!(await isSo())) {
    assert.ok(Date.now() < end, what);
    await new Promise((done) => setTimeout(done, 100));
  }
}

async function refused(status, name, asked) {
  try {
    await asked;
  } catch (error) {
    assert.equal(error.response.statusCode, status, error);
    assert.match(error.responseBody, new RegExp(`ErrorCode:${name};`));
    return error;
  }
  return assert.fail(`${status} was to come`);
}

// In promise style `next` forgets its token: callers give it.
async function all(query) {
  const items = [];
  let token;
  for (let page = 0; page === 0 || query.hasMoreResults; page += 1) {
    assert.ok(page < 50, 'the pages have an end');
    const { result } = await query.next(token);
    items.push(...result);
    token = query.continuationToken;
  }
  return items;
}

async function rowsOf(job) {
  const query = registry.createQuery(`SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '${job}'`, 1);
  return all(query);
}

async function startDevice(line, patches) {
  const key = line.authentication.symmetricKey.primaryKey;
  const client = device.Client.fromConnectionString(`HostName=${host};DeviceId=${line.id};SharedAccessKey=${key}`, MqttWs);
  await client.open();
  client.onDeviceMethod('ask', (request, response) => {
    response.send(200, { device: line.id, got: request.payload }, () => {});
  });
  const twin = await client.getTwin();
  twin.on('properties.desired', (patch) => patches.push(patch));
  await new Promise((done, failed) => {
    twin.properties.reported.update({ firmware: '1.2' }, (error) => (error ? failed(error) : done()));
  });
  return client;
}

async function identities() {
  const made = (await registry.create({ deviceId: 'node-1' })).responseBody;
  assert.equal(made.deviceId, 'node-1');
  assert.equal(made.authentication.symmetricKey.primaryKey.length, 44);
  await refused(409, 'DeviceAlreadyExists', registry.create({ deviceId: 'node-1' }));
  const read = (await registry.get('node-1')).responseBody;
  assert.equal(read.etag, made.etag);
  const changed = (await registry.update({ deviceId: 'node-1', status: 'disabled', statusReason: 'worn' })).responseBody;
  assert.equal(changed.status, 'disabled');
  assert.equal(changed.authentication.symmetricKey.primaryKey, made.authentication.symmetricKey.primaryKey);
  const twin = (await registry.getTwin('node-1')).responseBody;
  assert.equal(twin.status, 'disabled');
  const updated = (await registry.updateTwin('node-1', { tags: { a: 1 } }, twin.etag)).responseBody;
  assert.deepEqual(updated.tags, { a: 1 });
  await refused(412, 'PreconditionFailed', registry.updateTwin('node-1', { tags: { a: 2 } }, twin.etag));
  const added = (await registry.addDevices([{ deviceId: 'node-2' }, { deviceId: 'node-3' }])).responseBody;
  assert.deepEqual([added.isSuccessful, added.errors], [true, []]);
  // The answer to a part that fails has the faults of each device.
  const failed = await registry.addDevices([{ deviceId: 'node-2' }, { deviceId: 'node-4' }]).catch((error) => error);
  assert.equal(failed.response.statusCode, 400);
  const faults = JSON.parse(failed.responseBody).errors;
  assert.deepEqual(faults.map((one) => [one.deviceId, one.errorCode]), [['node-2', 'DeviceAlreadyExists']]);
  for (const id of ['node-1', 'node-2', 'node-3', 'node-4']) await registry.delete(id);
  const gone = await refused(404, 'DeviceNotFound', registry.get('node-1'));
  assert.equal(gone.name, 'DeviceNotFoundError');
  const listed = (await registry.list()).responseBody;
  assert.deepEqual(listed.map((one) => one.deviceId), ['d-001', 'd-002', 'd-003']);
  const counts = (await registry.getRegistryStatistics()).responseBody;
  assert.equal(counts.totalDeviceCount, 3);
}

async function main() {
  const patches = [];
  const client = await startDevice(lines[0], patches);
  await identities();
  // Direct methods.
  const call = { methodName: 'ask', payload: { a: 1 }, responseTimeoutInSeconds: 10 };
  await wait('the device listens to methods', async () => {
    try {
      const { result } = await service.invokeDeviceMethod('d-001', call);
      assert.deepEqual(result, { status: 200, payload: { device: 'd-001', got: { a: 1 } } });
      return true;
    } catch (error) {
      assert.match(error.responseBody ?? String(error), /DeviceNotOnline/);
      return false;
    }
  });
  await refused(404, 'DeviceNotOnline', service.invokeDeviceMethod('d-002', call));
  // Jobs.
  const patch = { etag: '*', tags: { ring: 'a' }, properties: { desired: { level: 4 } } };
  const made = (await jobs.scheduleTwinUpdate('node-twin', '*', patch)).jobStatus;
  assert.equal(made.jobId, 'node-twin', JSON.stringify(made));
  const job = async (id) => (await jobs.getJob(id)).jobStatus;
  await wait('the twins are written', async () => (await job('node-twin')).status === 'completed');
  const counts = (await job('node-twin')).deviceJobStatistics;
  assert.deepEqual([counts.deviceCount, counts.succeededCount], [3, 3]);
  await wait('the device is told', () => patches.some((one) => one.level === 4));
  await jobs.scheduleDeviceMethod('node-call', "deviceId IN ['d-001', 'd-002']", { ...call, payload: null }, new Date(), 3);
  await wait('the devices are called', async () => (await job('node-call')).status === 'completed');
  const rows = await rowsOf('node-call');
  assert.deepEqual(rows.map((row) => [row.deviceId, row.status]), [['d-001', 'completed'], ['d-002', 'failed']]);
  assert.deepEqual(rows[0].outcome.deviceMethodResponse, { status: 200, payload: { device: 'd-001', got: null } });
  assert.equal(rows[1].error.code, 'DeviceNotOnline');
  await jobs.scheduleTwinUpdate('node-later', '*', { etag: '*', tags: { b: 1 } }, new Date(Date.now() + 3600000), 60);
  assert.equal((await job('node-later')).status, 'scheduled');
  assert.equal((await jobs.cancelJob('node-later')).jobStatus.status, 'cancelled');
  await refused(409, 'JobAlreadyExists', jobs.scheduleTwinUpdate('node-twin', '*', { etag: '*', tags: { c: 1 } }));
  // Pages.
  const listed = await all(jobs.createQuery(undefined, undefined, 1));
  assert.deepEqual(listed.map((one) => one.jobId), ['node-later', 'node-call', 'node-twin']);
  const called = await all(jobs.createQuery('scheduleDeviceMethod', 'completed', 10));
  assert.deepEqual(called.map((one) => one.jobId), ['node-call']);
  const twins = await all(registry.createQuery("SELECT * FROM devices WHERE tags.ring = 'a'", 2));
  assert.deepEqual(twins.map((one) => one.deviceId), ['d-001', 'd-002', 'd-003']);
  const first = registry.createQuery('SELECT * FROM devices', 1);
  await first.next();
  const other = registry.createQuery('SELECT deviceId FROM devices', 1);
  await refused(400, 'ArgumentInvalid', other.next(first.continuationToken));
  const reported = (await registry.getTwin('d-001')).responseBody.properties.reported;
  assert.equal(reported.firmware, '1.2');
  await client.close();
}

main().then(
  () => {
    process.stderr.write('all of it holds\n');
    process.exit(0);
  },
  (error) => {
    console.error(error, error.responseBody);
    process.exit(1);
  },
);
